//! What `cargo xtask bench` asks for; it documents and checks the options (xtask/src/bench.rs).

use std::path::PathBuf;

use serde::Deserialize;

/// What can be asked for besides programs.
pub const LOAD_COST: &str = "load-cost";
pub const FLEET: &str = "fleet";

#[derive(Debug, Deserialize)]
pub struct Options {
    /// Names of programs and of [`LOAD_COST`] and [`FLEET`]; all if empty.
    pub workload: Vec<String>,
    /// Rounds to time; each contender runs once in each.
    pub runs: u32,
    /// Only programs, warm, without peers.
    pub quick: bool,
    /// Count instructions too.
    pub instructions: bool,
    /// Measure stock against itself and nothing else.
    pub against_itself: bool,
    /// A file to keep the results in.
    pub save: Option<PathBuf>,
    /// Kept results to compare with.
    pub compare: Option<PathBuf>,
    /// Write the table into the README.
    pub readme: bool,
    /// Where results and pictures go.
    pub output: PathBuf,
    /// Run pyperformance's benchmarks instead.
    pub pyperformance: bool,
    /// Stock CPython of the same source, compiler and flags.
    pub stock: PathBuf,
    /// The interpreter without the patch class-slots, if it is measured.
    pub without_class_slots: Option<PathBuf>,
    /// What compiler and flags these were.
    pub build: String,
}

impl Options {
    /// Whether something is to be measured.
    pub fn wants(&self, name: &str) -> bool {
        self.workload.is_empty() || self.workload.iter().any(|wanted| wanted == name)
    }
}
