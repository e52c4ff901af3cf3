//! A process that is watched: how it is started, what it is watched for, and how it has ended.

use std::collections::BTreeMap;
use std::ffi::CString;
use std::path::Path;

use startup_image::facts::Fact;
use startup_image::streams::OwnTerminal;

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
    /// Looks of modules that do not count, as `cds.image.looks` knows them: what is looked at, and the file of the
    /// module; or the directory of its package with a slash behind it, or the file of functions with `()` behind it.
    pub excused: &'a Excused,
    /// Where the package `cds` lies: what its code looks at does not count.
    pub own_directory: &'a Path,
}

/// Looks, and what is compared instead, if anything is.
pub type Excused = BTreeMap<(String, String), Option<Fact>>;

impl Watch<'_> {
    /// What is compared instead, if anything is, where a module, by its file, looks at something; none if it is not
    /// excused. `excuse()` in looks.py does the same.
    pub fn excuse(&self, what: &str, file: &str) -> Option<Option<Fact>> {
        let known = |file: &str| self.excused.get(&(what.to_owned(), file.to_owned()));
        let mut slashes = file.rmatch_indices('/');
        known(file)
            .or_else(|| slashes.find_map(|(slash, _)| known(&file[..=slash])))
            .copied()
    }

    /// The same where functions in a file look at something, whoever calls them.
    pub fn excuse_of_functions(&self, what: &str, file: &str) -> Option<Option<Fact>> {
        let look = (what.to_owned(), format!("{file}()"));
        self.excused.get(&look).copied()
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
