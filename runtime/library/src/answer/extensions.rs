//! Extension modules of the standard library that do not need to be loaded, because they are part of the interpreter.
//!
//! Such a module also exists as a file, which the import system finds as usual. The init function that is linked into
//! the interpreter is used if the file was built from the same object files. To know this, the dump compares the file's
//! content with what the build recorded, and stores the file's modification time and size.

use std::ffi::CString;
use std::path::Path;

use archive_format::content_hash;

use crate::answer::catalog;
use crate::cpython::config::Config;
use crate::cpython::linked::{self, Init};
use crate::files::contents;
use crate::layers::Layers;

/// The init function of the module `name`, if the module is linked in and `path` is its file.
pub fn init(layers: &Layers, config: &Config, name: &std::ffi::CStr, path: &str) -> Init {
    let linked = linked::find(name)?;
    let fits =
        linked::has_default_load_flags() && catalog::is_linked_extension(layers, config, path);
    linked.init.filter(|_| fits)
}

/// Whether the file at `path` was built from the object files that are linked in as the module `name`.
pub fn is_built_from_linked(name: &str, path: &Path) -> bool {
    let linked = CString::new(name).ok().and_then(|name| linked::find(&name));
    let content = linked.and_then(|linked| Some((linked, contents::read(path).ok()?)));
    content.is_some_and(|(linked, content)| {
        content.len() as u64 == linked.bytes && content_hash(&content) == linked.checksum
    })
}
