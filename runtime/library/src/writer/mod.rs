//! Writes an archive in phases. Each phase is a file, and borrows from the phase before:
//!
//! 1. [`collect`]: converts live objects to a graph of encoded objects, in which equal constants occur once.
//!    References between them are numbers. The live objects are not changed.
//! 2. [`layout`]: gives each object a section and a memory offset.
//! 3. [`emit`]: converts offsets to addresses that are valid at the requested base, and adds tables and header.
//! 4. [`save`]: writes the file, which appears under its name only when it is complete.

mod collect;
mod emit;
mod layout;
mod save;

use std::collections::HashMap;
use std::fs;
use std::path::Path;

use archive_format::{Freshness, content_hash};

use crate::answer::patterns::{self, Key};
use crate::answer::unchanged::modified_ns;
use crate::cpython::object::Object;
use crate::executable::Executable;
use crate::fault;
use crate::files::listing;
use crate::mapped::Mapped;

pub use emit::Summary;

/// A module to archive.
pub struct Module {
    pub name: String,
    /// Path of the source file. None for a frozen module.
    pub source: Option<String>,
    /// Modification time of the source file, in nanoseconds since the epoch.
    pub mtime_ns: i64,
    /// Size of the source file, in bytes.
    pub size: u64,
    /// Hash of the source file; 0 if the file has changed since the module was compiled.
    pub content_hash: u64,
    /// None for an extension module that is linked into the interpreter, and for a source file that cannot be archived.
    pub code: Option<Object>,
    /// Whether programs are known to load the module, because a traced run did so.
    pub is_hot: bool,
}

impl Module {
    /// The key of the module in the catalog.
    fn origin(&self) -> String {
        self.source
            .clone()
            .unwrap_or_else(|| format!("<frozen {}>", self.name))
    }
}

/// A compiled pattern to archive.
pub struct Pattern {
    pub key: Key,
    /// The hash under which it is looked up.
    pub hash: u64,
    /// The tuple that [`crate::answer::patterns`] describes.
    pub fields: Object,
}

/// A directory to put into the index.
pub struct Directory {
    pub path: String,
    /// Modification time, in nanoseconds since the epoch.
    pub mtime_ns: i64,
    /// [`listing::hash`]; 0 if the directory has changed since it was read.
    pub listing: u64,
    /// Importable names, each with its file relative to the directory. The file is None if only the file system can
    /// resolve the name.
    pub entries: Vec<(String, Option<String>)>,
}

/// The objects that training runs wrote to, by their keys (see [`crate::record::profile`]).
#[derive(Default)]
pub struct Touched {
    runs: usize,
    counts: HashMap<u64, usize>,
}

impl Touched {
    /// Adds the keys that one run recorded.
    pub fn add_run(&mut self, keys: impl Iterator<Item = u64>) {
        self.runs += 1;
        for key in keys {
            *self.counts.entry(key).or_default() += 1;
        }
    }

    /// The number of runs that did not write to an object, if at least one run did.
    fn missing(&self, key: u64) -> Option<usize> {
        self.counts
            .get(&key)
            .map(|count| self.runs.saturating_sub(*count))
    }
}

/// The interpreter that an archive is for. The archive fits all interpreters with the same facts.
pub struct Interpreter<'a> {
    pub facts: &'a str,
    pub executable: &'a Executable,
    /// Directories with which paths begin, and which may move.
    pub roots: &'a [String],
    /// The lower layer: the archive refers to objects in it and does not contain them again.
    pub lower: Option<&'a Mapped>,
    /// The address that the archive requests.
    pub base: u64,
}

/// The contents of an archive.
pub struct Contents {
    pub modules: Vec<Module>,
    pub patterns: Vec<Pattern>,
    pub directories: Vec<Directory>,
    pub freshness: Freshness,
}

/// The addresses that archives request. They are far from all addresses that Linux chooses itself: the heap of a
/// non-PIE executable has low addresses, and mappings have high ones (0x7f…). The distance between them is 64 GiB.
pub mod base {
    /// The standard library's archive, and archives without a lower layer.
    pub const LOWEST: u64 = 0x2800_0000_0000;
    /// An archive on top of the standard library's.
    pub const UPPER: u64 = 0x2810_0000_0000;
    /// An archive that contains one object.
    pub const OBJECT: u64 = 0x2820_0000_0000;
}

/// Writes an archive. `touched` contains what training runs recorded.
pub fn write(
    path: &Path,
    contents: Contents,
    interpreter: &Interpreter,
    touched: &Touched,
) -> std::io::Result<Summary> {
    let Contents {
        modules,
        mut patterns,
        mut directories,
        freshness,
    } = contents;
    let mut shared = 0;
    let mut modules = modules;
    modules.iter_mut().for_each(hash_source);
    directories.iter_mut().for_each(hash_listing);
    if let Some(lower) = interpreter.lower {
        patterns.retain(|pattern| !patterns::is_in(lower, &pattern.key));
        // An entry that is not up to date in the lower layer, by that layer's own policy, must be in this archive.
        if lower.header.freshness == freshness {
            directories.retain(|directory| {
                let found = lower.tables.directory(&directory.path);
                found.is_none_or(|found| {
                    found.mtime_ns != directory.mtime_ns
                        && (found.listing != directory.listing || directory.listing == 0)
                })
            });
            let all = modules.len();
            modules.retain(|module| !is_shared(module, lower));
            shared = all - modules.len();
        }
    }
    let mut changed = Vec::new();
    if freshness == Freshness::Hash {
        modules.retain(|module| {
            let is_hashed = module.source.is_none() || module.content_hash != 0;
            if !is_hashed {
                changed.push((module.name.clone(), "changed while it was read".to_owned()));
            }
            is_hashed
        });
    }
    let graph = collect::collect(modules, patterns, interpreter, touched);
    fault::point("collected");
    let plan = layout::plan(&graph);
    let (file, mut summary) = emit::emit(&graph, &plan, &directories, freshness, interpreter);
    summary.shared = shared;
    summary.skipped.extend(changed);
    fault::point("emitted");
    save::save(path, &file)?;
    Ok(summary)
}

/// Sets the hash of a module's file, if the file is still the one from which the code was compiled: changing a file
/// changes its modification time.
fn hash_source(module: &mut Module) {
    let Some(source) = &module.source else {
        return;
    };
    if let Ok(contents) = fs::read(source)
        && let Ok(stat) = rustix::fs::stat(source.as_str())
        && modified_ns(&stat) == Some(module.mtime_ns)
        && u64::try_from(stat.st_size) == Ok(module.size)
    {
        module.content_hash = content_hash(&contents);
    }
}

/// Sets the hash of a directory, if the directory is still as it was read.
fn hash_listing(directory: &mut Directory) {
    if let Some(listing) = listing::hash(&directory.path)
        && let Ok(stat) = rustix::fs::stat(directory.path.as_str())
        && modified_ns(&stat) == Some(directory.mtime_ns)
    {
        directory.listing = listing;
    }
}

/// Writes an archive that contains one object, or none.
///
/// # Errors
/// Says why the object cannot be archived or the file cannot be written.
pub fn write_object(
    path: &Path,
    object: Option<&Object>,
    interpreter: &Interpreter,
) -> std::result::Result<(), String> {
    let graph = collect::collect_object(object, interpreter)?;
    let plan = layout::plan(&graph);
    let (file, _) = emit::emit(&graph, &plan, &[], Freshness::default(), interpreter);
    save::save(path, &file).map_err(|error| error.to_string())
}

/// Whether the lower layer already contains a module.
fn is_shared(module: &Module, lower: &Mapped) -> bool {
    let found = lower.tables.module(&module.origin());
    found.is_some_and(|found| {
        let same_time = found.mtime_ns == module.mtime_ns;
        let same_contents = module.content_hash != 0 && found.content_hash == module.content_hash;
        found.size == module.size && (same_time || same_contents)
    })
}
