//! Making an archive, in phases, each a file that borrows from the one before:
//!
//! 1. [`collect`]: live objects → a graph of encoded objects, equal constants once. References between
//!    them are numbers. The live objects are not changed.
//! 2. [`layout`]: each object gets a section and a memory offset.
//! 3. [`emit`]: offsets become addresses, valid at the requested base; tables and header are added.
//! 4. [`save`]: the file appears under its name whole or not at all.

mod collect;
mod emit;
mod layout;
mod save;

use std::path::Path;

use crate::cpython::object::Object;
use crate::fingerprint::Image;

pub use emit::Summary;

/// A module to archive.
pub struct Module {
    pub name: String,
    /// Path of its source file; none for a frozen module.
    pub source: Option<String>,
    /// Of the source file, in nanoseconds since the epoch.
    pub mtime_ns: i64,
    /// Of the source file, in bytes.
    pub size: u64,
    pub code: Object,
}

/// A directory to put into the index.
pub struct Directory {
    pub path: String,
    /// In nanoseconds since the epoch.
    pub mtime_ns: i64,
    /// Importable names, each with its file relative to the directory, or none where only the file system
    /// can tell.
    pub entries: Vec<(String, Option<String>)>,
}

/// Writes an archive for interpreters with the given facts.
pub fn write(
    path: &Path,
    modules: Vec<Module>,
    directories: &[Directory],
    facts: &str,
    image: &Image,
) -> std::io::Result<Summary> {
    let graph = collect::collect(modules, image);
    let plan = layout::plan(&graph);
    let (file, summary) = emit::emit(&graph, &plan, directories, facts);
    save::save(path, &file)?;
    Ok(summary)
}
