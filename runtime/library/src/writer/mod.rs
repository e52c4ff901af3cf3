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

use std::collections::HashMap;
use std::fs;
use std::path::Path;

use archive_format::{Freshness, content_hash};

use crate::answer::catalog::modified_ns;
use crate::answer::patterns::{self, Key};
use crate::cpython::object::Object;
use crate::executable::Executable;
use crate::fault;
use crate::mapped::Mapped;

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
    /// Of the source file, if freshness goes by it; otherwise 0.
    pub content_hash: u64,
    /// None for an extension module that is linked into the interpreter, and for a source file that cannot be archived.
    pub code: Option<Object>,
    /// Whether programs are known to load it, as a traced run did.
    pub is_hot: bool,
}

impl Module {
    /// What the catalog files it under.
    fn origin(&self) -> String {
        self.source
            .clone()
            .unwrap_or_else(|| format!("<frozen {}>", self.name))
    }
}

/// A compiled pattern to archive.
pub struct Pattern {
    pub key: Key,
    /// What it is looked up by.
    pub hash: u64,
    /// As [`crate::answer::patterns`] reads it.
    pub fields: Object,
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

/// Which objects training runs wrote to, by their keys (see [`crate::record::profile`]).
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

    /// How many runs did not write to an object, if at least one did.
    fn missing(&self, key: u64) -> Option<usize> {
        self.counts
            .get(&key)
            .map(|count| self.runs.saturating_sub(*count))
    }
}

/// The interpreters that an archive is for: all that are like this one.
pub struct Interpreter<'a> {
    pub facts: &'a str,
    pub executable: &'a Executable,
    /// Directories that paths begin with and that may move.
    pub roots: &'a [String],
    /// The layer that the archive goes on top of: what it has is referred to.
    pub lower: Option<&'a Mapped>,
    /// Address to ask for.
    pub base: u64,
}

/// What to write.
pub struct Contents {
    pub modules: Vec<Module>,
    pub patterns: Vec<Pattern>,
    pub directories: Vec<Directory>,
    pub freshness: Freshness,
}

/// Where archives want to lie: far from where Linux puts anything by itself, be it the heap of a non-PIE executable (low)
/// or mappings (high, 0x7f…). They are 64 GiB apart.
pub mod base {
    /// The standard library's archive, and those that stand alone.
    pub const LOWEST: u64 = 0x2800_0000_0000;
    /// A layer over it.
    pub const UPPER: u64 = 0x2810_0000_0000;
    /// An archive of one object.
    pub const OBJECT: u64 = 0x2820_0000_0000;
}

/// Writes an archive. `touched` is what training runs recorded.
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
    if let Some(lower) = interpreter.lower {
        patterns.retain(|pattern| !patterns::is_in(lower, &pattern.key));
        // What would be stale in the layer below under its own policy must be here.
        if lower.header.freshness == freshness {
            directories.retain(|directory| {
                let found = lower.tables.directory(&directory.path);
                found.is_none_or(|found| found.mtime_ns != directory.mtime_ns)
            });
            let all = modules.len();
            modules.retain(|module| !is_shared(module, lower));
            shared = all - modules.len();
        }
    }
    let mut changed = Vec::new();
    if freshness == Freshness::Hash {
        modules.retain_mut(|module| {
            let is_hashed = hash_source(module).is_some();
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

/// Fills in the hash of a module's file, if that is still the one that its code was made from: whoever changes a file
/// afterwards changes its modification time.
fn hash_source(module: &mut Module) -> Option<()> {
    if let Some(source) = &module.source {
        let contents = fs::read(source).ok()?;
        let stat = rustix::fs::stat(source.as_str()).ok()?;
        let (mtime_ns, size) = (modified_ns(&stat)?, u64::try_from(stat.st_size).ok()?);
        if (mtime_ns, size) != (module.mtime_ns, module.size) {
            return None;
        }
        module.content_hash = content_hash(&contents);
    }
    Some(())
}

/// Writes an archive of one object, or of none.
///
/// # Errors
/// A text, if the object cannot be archived or the file not be written.
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

/// Whether the lower layer has a module already.
fn is_shared(module: &Module, lower: &Mapped) -> bool {
    let found = lower.tables.module(&module.origin());
    found.is_some_and(|found| (found.mtime_ns, found.size) == (module.mtime_ns, module.size))
}
