//! The names in a directory that an import can find, as one number.

use std::fs::{self, DirEntry, FileType};
use std::os::unix::ffi::OsStrExt;

use archive_format::content_hash;

/// A number that is equal for two directories if `FileFinder` (Lib/importlib/_bootstrap_external.py) finds the same files
/// in both; `None` if the directory cannot be read.
///
/// `FileFinder` looks for a name, which must then be a directory, and for a name with the suffix of a module. So a file
/// without such a suffix makes no difference, and neither does a directory with a dot in its name. The cache of
/// compiled modules comes and goes; nothing is answered about its name.
pub fn hash(directory: &str) -> Option<u64> {
    let mut names = Vec::new();
    for entry in fs::read_dir(directory).ok()? {
        names.extend(found(&entry.ok()?)?);
    }
    names.sort_unstable();
    // 0 stands for "unknown" in archives.
    Some(content_hash(&names.concat()).max(1))
}

/// The name of the directory of compiled modules. It can be imported, as a namespace package.
pub const CACHE: &str = "__pycache__";

/// Suffixes of modules. There can be more, such as `.cpython-313-x86_64-linux-gnu.so`, which end with one of these.
const SUFFIXES: [&[u8]; 3] = [b".py", b".pyc", b".so"];

/// An entry with its kind, if an import can find it. The outer `None`: the kind is not known.
fn found(entry: &DirEntry) -> Option<Option<Vec<u8>>> {
    let (name, kind) = (entry.file_name(), entry.file_type().ok()?);
    let name = name.as_bytes();
    let has_suffix = SUFFIXES.iter().any(|suffix| name.ends_with(suffix));
    let can_be_package = !kind.is_file() && !name.contains(&b'.') && name != CACHE.as_bytes();
    let is_found = has_suffix || can_be_package;
    Some(is_found.then(|| [name, &[0, letter(kind), 0]].concat()))
}

fn letter(kind: FileType) -> u8 {
    match (kind.is_file(), kind.is_dir(), kind.is_symlink()) {
        (true, _, _) => b'f',
        (_, true, _) => b'd',
        (_, _, true) => b'l',
        _ => b'o',
    }
}
