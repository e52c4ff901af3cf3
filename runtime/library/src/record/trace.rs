//! Records which modules a program loads, for a later dump.

use std::collections::BTreeSet;
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::fault;

/// Records a program's modules: in a list file that many processes share, and in memory.
pub struct Trace {
    file: Option<File>,
    lines: Option<Mutex<Lines>>,
    is_kept: AtomicBool,
}

/// Lines in the order in which they were recorded, without duplicates.
#[derive(Default)]
struct Lines {
    in_order: Vec<String>,
    known: BTreeSet<String>,
}

impl Trace {
    pub fn new(file: Option<File>, in_memory: bool) -> Self {
        Self {
            file,
            lines: in_memory.then(Mutex::default),
            is_kept: AtomicBool::new(in_memory),
        }
    }

    /// Opens a list for appending, so that several processes can share it.
    pub fn open(path: &Path) -> std::io::Result<File> {
        OpenOptions::new().append(true).create(true).open(path)
    }

    pub fn is_wanted(&self) -> bool {
        self.file.is_some() || self.is_kept.load(Ordering::Relaxed)
    }

    /// The lines that were recorded in memory.
    pub fn lines(&self) -> Vec<String> {
        let lines = self.lines.as_ref().and_then(|lines| lines.lock().ok());
        lines.map_or_else(Vec::new, |lines| lines.in_order.clone())
    }

    /// Stops recording in memory.
    pub fn stop(&self) {
        self.is_kept.store(false, Ordering::Relaxed);
    }

    /// Records a module, and returns its line if the line is new in memory. `standard` has the directories in which a
    /// dump always searches for modules.
    pub fn record(
        &self,
        name: &str,
        file: Option<&str>,
        standard: &[String],
        how: Use,
    ) -> Option<String> {
        let file = file.filter(|file| !is_where_expected(name, file, standard));
        self.append(module_line(name, file, how))
    }

    /// The same for a regular expression. Both arguments are Python literals.
    pub fn record_pattern(&self, flags: &str, pattern: &str) -> Option<String> {
        self.append(pattern_line(flags, pattern))
    }

    /// Appends a line in one write: `write(2)` with `O_APPEND` does not interleave with other writes.
    fn append(&self, line: String) -> Option<String> {
        // A path with a line break would result in two entries.
        if line.contains('\n') {
            return None;
        }
        if let Some(file) = &self.file {
            // An error, such as a full disk, must not affect the program that is traced.
            let _ = (&*file).write_all(format!("{line}\n").as_bytes());
        }
        let mut lines = self.lines.as_ref()?.lock().ok()?;
        let is_new = lines.known.insert(line.clone());
        if is_new {
            lines.in_order.push(line.clone());
        }
        fault::point("traced");
        is_new.then_some(line)
    }
}

/// How a module's code is used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Use {
    /// It is the code of a module of this name, and the program imports the module.
    Imported,
    /// The code is run in another way, as with `-m`, or it is not known whether this program imports the module. So an
    /// image must not import it on behalf of the program.
    NotImported,
}

/// A line for a module. A file that a dump would not find by the module's name is added as a comment
/// (`cds/tracelist.py` describes the format).
pub fn module_line(name: &str, file: Option<&str>, how: Use) -> String {
    match (how, file) {
        (Use::Imported, None) => name.to_owned(),
        (Use::Imported, Some(file)) => format!("{name}  # {file}"),
        (Use::NotImported, None) => format!("{name}  # not imported"),
        (Use::NotImported, Some(file)) => format!("{name}  # not imported {file}"),
    }
}

/// A line for a regular expression. To a dump, it looks like a comment after the name of the module that compiles it.
pub fn pattern_line(flags: &str, pattern: &str) -> String {
    format!("re  # {flags} {pattern}")
}

fn is_where_expected(name: &str, file: &str, standard: &[String]) -> bool {
    let path = name.replace('.', "/");
    standard.iter().any(|directory| {
        let rest = file
            .strip_prefix(directory.as_str())
            .and_then(|rest| rest.strip_prefix('/'));
        let rest = rest.and_then(|rest| rest.strip_prefix(&path));
        matches!(rest, Some(".py" | "/__init__.py"))
    })
}
