//! A process that is watched: how it is started, what it is watched for, and how it has ended.

use std::collections::BTreeSet;
use std::ffi::CString;
use std::path::Path;

use cds_image::streams::OwnTerminal;

/// What is run, and how.
pub struct Command {
    pub arguments: Vec<CString>,
    /// `NAME=VALUE`
    pub environment: Vec<CString>,
    /// The terminal that it is to find.
    pub terminal: Option<OwnTerminal>,
    pub clock: ClockFunctions,
}

/// Where functions of the module `time` lie that have no symbol (Modules/timemodule.c).
pub struct ClockFunctions {
    /// They ask the C library for the time by themselves.
    pub telling: Vec<u64>,
    /// `tzset()` asks which year it is. What it makes of that is renewed in each restored process.
    pub tzset: u64,
}

/// What a program is to be stopped for.
pub struct Watch<'a> {
    /// The path that the process has as its request.
    pub request: &'a [u8],
    /// Looks of modules that do not count, as `cds.looks` knows them: what is looked at, and the file of the module; or the directory
    /// of its package with a slash behind it, or the file of functions with `()` behind it.
    pub excused: &'a BTreeSet<(String, String)>,
    /// Where the package `cds` lies: what its code looks at does not count.
    pub own_directory: &'a Path,
}

impl Watch<'_> {
    /// Whether a module, by its file, may look at something: `is_excused()` in looks.py does the same.
    pub fn is_excused(&self, what: &str, file: &str) -> bool {
        let is_known = |file: &str| self.excused.contains(&(what.to_owned(), file.to_owned()));
        is_known(file)
            || file
                .rmatch_indices('/')
                .any(|(slash, _)| is_known(&file[..=slash]))
    }

    /// Whether functions in a file may look at something, whoever calls them.
    pub fn are_excused(&self, what: &str, file: &str) -> bool {
        let look = (what.to_owned(), format!("{file}()"));
        self.excused.contains(&look)
    }
}

/// In the place of the process that is waited for: nobody waits any more, and none shall go on.
pub const ABANDONED: i32 = -1;

/// How a command has ended that was watched.
pub struct Outcome {
    /// Its status, or the negated signal that has killed it.
    pub status: i32,
    /// What the program has looked at before there was a candidate for its image.
    pub looked_at: Option<String>,
}
