//! A watched process: how it is started, what it is watched for, and how it has ended.

use std::collections::BTreeMap;
use std::ffi::CString;
use std::path::Path;

use startup_image::facts::Fact;
use startup_image::streams::OwnTerminal;

/// The command that is run, and how.
pub struct Command {
    pub arguments: Vec<CString>,
    /// `NAME=VALUE`
    pub environment: Vec<CString>,
    /// The terminal that the process gets, if any.
    pub terminal: Option<OwnTerminal>,
    pub clock: ClockFunctions,
}

/// Addresses of functions of the module `time` that have no symbol (Modules/timemodule.c).
pub struct ClockFunctions {
    /// Functions that ask the C library for the time directly.
    pub telling: Vec<u64>,
    /// `tzset()`, which asks for the current year. Its result is renewed in each restored process.
    pub tzset: u64,
}

/// Which looks stop a program.
pub struct Watch<'a> {
    /// The path of the request of the process.
    pub request: &'a [u8],
    /// The looks that do not count, from `cds.image.looks`. A key is what is looked at, and one of these: the file of a
    /// module, the directory of a package and a slash, or the file of functions and `()`.
    pub excused: &'a Excused,
    /// The directory of the package `cds`. What its code looks at does not count.
    pub own_directory: &'a Path,
}

/// Looks that do not count, each with the fact that is compared instead, if any.
pub type Excused = BTreeMap<(String, String), Option<Fact>>;

impl Watch<'_> {
    /// For a look of a module, the fact that is compared instead, if any; none if the look counts. `file` is the file
    /// of the module. `excuse()` in looks.py does the same.
    pub fn excuse(&self, what: &str, file: &str) -> Option<Option<Fact>> {
        let known = |file: &str| self.excused.get(&(what.to_owned(), file.to_owned()));
        let mut slashes = file.rmatch_indices('/');
        known(file)
            .or_else(|| slashes.find_map(|(slash, _)| known(&file[..=slash])))
            .copied()
    }

    /// The same for a look of functions in a file, whichever module calls them.
    pub fn excuse_of_functions(&self, what: &str, file: &str) -> Option<Option<Fact>> {
        let look = (what.to_owned(), format!("{file}()"));
        self.excused.get(&look).copied()
    }
}

/// Stands in place of the id of the awaited process: the caller waits no longer, and no candidate may continue.
pub const ABANDONED: i32 = -1;

/// How a watched command has ended.
pub struct Outcome {
    /// The exit status, or the negated number of the signal that killed the process.
    pub status: i32,
    /// What the program was stopped at, if it had not yet forked a candidate.
    pub looked_at: Option<String>,
}
