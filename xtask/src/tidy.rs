//! `cargo xtask tidy`: checks that the documents agree with the code, and that the code follows the rules for its
//! structure.

mod bindings;
mod circles;
mod imports;
mod lines;
mod patches;
mod paths;
mod rooms;
mod unit_tests;

use anyhow::{Result, ensure};

use crate::notices;
use crate::workspace::Workspace;

/// A check returns one line for each problem, with its place.
type Check = fn(&Workspace) -> Result<Vec<String>>;

const CHECKS: [(&str, Check); 8] = [
    ("rooms of architecture.md", rooms::check),
    ("circles and arrows", circles::check),
    ("figures of patches", patches::check),
    ("length of lines", lines::check),
    ("paths", paths::check),
    ("notices", notices::check),
    ("bindings", bindings::check),
    ("unit tests", unit_tests::check),
];

/// Runs all checks, and prints all problems.
pub fn run(workspace: &Workspace) -> Result<()> {
    let mut count = 0;
    for (name, check) in CHECKS {
        for problem in check(workspace)? {
            eprintln!("{name}: {problem}");
            count += 1;
        }
    }
    ensure!(count == 0, "{count} problems found");
    Ok(())
}
