//! Recording the modules that a program loads, for a later dump.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::Path;

/// An open trace list.
pub struct Trace(File);

impl Trace {
    /// Opens a list for appending, so that any number of processes can share it.
    pub fn open(path: &Path) -> std::io::Result<Self> {
        OpenOptions::new()
            .append(true)
            .create(true)
            .open(path)
            .map(Self)
    }

    /// Appends a module's name, in one write (`write(2)` with `O_APPEND` does not interleave). `standard` are
    /// the directories in which a dump looks without being told; a file found elsewhere is named in a
    /// comment.
    pub fn record(&self, name: &str, file: Option<&str>, standard: &[String]) {
        let line = match file {
            Some(file) if !is_where_expected(name, file, standard) => format!("{name}  # {file}\n"),
            _ => format!("{name}\n"),
        };
        self.append(&line);
    }

    /// Appends a regular expression, as a comment to the module that compiles it. Both are Python literals.
    pub fn record_pattern(&self, flags: &str, pattern: &str) {
        self.append(&format!("re  # {flags} {pattern}\n"));
    }

    fn append(&self, line: &str) {
        // A line break in a path would make two entries of one.
        if line.matches('\n').count() == 1 {
            // A full disk must not change the program that is traced.
            let _ = (&self.0).write_all(line.as_bytes());
        }
    }
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
