//! The options of `cargo xtask bench`, which documents and checks them (xtask/src/bench.rs).

use std::path::PathBuf;

use serde::Deserialize;

/// Measurements that can be selected in addition to programs.
pub const LOAD_COST: &str = "load-cost";
pub const FLEET: &str = "fleet";

#[derive(Debug, Deserialize)]
pub struct Options {
    /// Names of programs and of [`LOAD_COST`] and [`FLEET`]; all if empty.
    pub workload: Vec<String>,
    /// Number of timed rounds; each contender runs once in each round.
    pub runs: u32,
    /// Measure only programs with warm caches, with stock and archives.
    pub quick: bool,
    /// Also count instructions.
    pub instructions: bool,
    /// Measure stock against itself and nothing else.
    pub against_itself: bool,
    /// A file to save the results to.
    pub save: Option<PathBuf>,
    /// Saved results to compare with.
    pub compare: Option<PathBuf>,
    /// Write the table into the README.
    pub readme: bool,
    /// The directory for results and pictures.
    pub output: PathBuf,
    /// Run pyperformance's benchmarks instead.
    pub pyperformance: bool,
    /// Stock CPython of the same source, compiler and flags.
    pub stock: PathBuf,
    /// The interpreter without the patch class-slots, if it is measured.
    pub without_class_slots: Option<PathBuf>,
    /// The compiler and the flags of the interpreters.
    pub build: String,
}

impl Options {
    /// Whether something with this name is measured.
    pub fn wants(&self, name: &str) -> bool {
        self.workload.is_empty() || self.workload.iter().any(|wanted| wanted == name)
    }
}
