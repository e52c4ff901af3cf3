//! All results, as they are written to `bench.json`.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use cpython_cds_tests::measure::{Run, median};
use serde::{Deserialize, Serialize};

use crate::statistics::Ratio;

/// The names of contenders in tables.
pub mod contender {
    pub const STOCK: &str = "stock";
    /// Stock, measured a second time.
    pub const STOCK_AGAIN: &str = "stock again";
    /// With the program's own archive, over that of the standard library.
    pub const ARCHIVE: &str = "archive";
    /// The same with an interpreter without the patch class-slots.
    pub const NO_CLASS_SLOTS: &str = "archive, no class-slots";
    /// With only the standard library's archive, as without any option.
    pub const STANDARD: &str = "std archive";
    /// With a startup image of a process that has done the program's imports.
    pub const IMAGE: &str = "startup image";
    /// Stock without `.pyc` files, which it cannot write.
    pub const NO_PYC: &str = "stock, no .pyc";
    /// A fork of a process of stock that has done the imports: a lower limit for the time of a start.
    pub const FORK: &str = "fork of warm stock";
    /// code-data-share, and the Python that it runs on.
    pub const ANCESTOR: &str = "code-data-share";
    pub const ANCESTOR_STOCK: &str = "its Python";
}

#[derive(Debug, Serialize, Deserialize)]
pub struct Results {
    /// Day of the measurement, UTC.
    pub date: String,
    pub machine: Machine,
    /// Version of CPython.
    pub python: String,
    /// Compiler and flags of both interpreters.
    pub build: String,
    pub rounds: u32,
    /// The processor that all contenders ran on, none if it could not be chosen.
    pub cpu: Option<usize>,
    pub programs: Vec<Program>,
    /// Programs with a cold page cache.
    pub cold: Vec<Program>,
    pub load_cost: Vec<LoadCost>,
    pub memory: Vec<Memory>,
    /// What was not measured, or with restrictions, and why.
    pub notes: Vec<String>,
}

#[derive(Debug, Serialize, Deserialize)]
pub struct Machine {
    pub processor: String,
    pub processors: usize,
    pub kernel: String,
    pub system: String,
}

/// A program, run by all contenders in turn.
#[derive(Debug, Serialize, Deserialize)]
pub struct Program {
    pub name: String,
    /// The number of modules from an archive, and of all loaded modules.
    pub modules: Option<(usize, usize)>,
    /// Runs by contender; run N of each belongs to round N.
    pub runs: BTreeMap<String, Vec<Run>>,
    /// Instructions by contender (callgrind).
    pub instructions: BTreeMap<String, u64>,
}

/// The cost of opening an archive with so many modules, for a program that uses none of them.
#[derive(Debug, Serialize, Deserialize)]
pub struct LoadCost {
    pub modules: usize,
    pub archive_bytes: u64,
    pub runs: Vec<Run>,
    pub instructions: Option<u64>,
}

/// Memory of a fleet of processes with the same imports, in kB.
#[derive(Debug, Serialize, Deserialize)]
pub struct Memory {
    pub contender: String,
    pub processes: usize,
    /// Sum of all proportional set sizes.
    pub pss_kb: u64,
    /// Memory of code objects, their constants and names: the proportional set size of archives, and for objects
    /// outside of archives `sys.getsizeof()`.
    pub code_kb: u64,
    /// Private memory of archives.
    pub archive_private_kb: u64,
}

impl Program {
    pub fn new(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            modules: None,
            runs: BTreeMap::new(),
            instructions: BTreeMap::new(),
        }
    }

    /// One figure of all runs of a contender, empty without runs.
    pub fn figures(&self, contender: &str, figure: impl Fn(&Run) -> f64) -> Vec<f64> {
        let runs = self.runs.get(contender);
        runs.map_or_else(Vec::new, |runs| runs.iter().map(figure).collect())
    }

    /// The median of a figure.
    pub fn median(&self, contender: &str, figure: impl Fn(&Run) -> f64) -> Option<f64> {
        let figures = self.figures(contender, figure);
        (!figures.is_empty()).then(|| median(&figures))
    }

    /// How much faster one contender is than another.
    pub fn ratio(&self, slow: &str, fast: &str) -> Option<Ratio> {
        self.ratio_of_many(1, slow, fast)
    }

    /// The same, as one of `ratios` ratios, see [`Ratio::of_pairs`].
    pub fn ratio_of_many(&self, ratios: usize, slow: &str, fast: &str) -> Option<Ratio> {
        let wall = |contender| self.figures(contender, |run| run.wall_ms);
        Ratio::of_pairs(ratios, &wall(slow), &wall(fast))
    }
}

impl Results {
    /// Results without any measurement.
    pub fn empty() -> Self {
        Self {
            date: String::new(),
            machine: Machine {
                processor: String::new(),
                processors: 0,
                kernel: String::new(),
                system: String::new(),
            },
            python: String::new(),
            build: String::new(),
            rounds: 0,
            cpu: None,
            programs: Vec::new(),
            cold: Vec::new(),
            load_cost: Vec::new(),
            memory: Vec::new(),
            notes: Vec::new(),
        }
    }

    pub fn read(path: &Path) -> Result<Self> {
        let text = fs::read_to_string(path)
            .with_context(|| format!("cannot read the results {}", path.display()))?;
        serde_json::from_str(&text).with_context(|| {
            format!(
                "{} has results of another format: measure again",
                path.display()
            )
        })
    }

    pub fn write(&self, path: &Path) -> Result<()> {
        let text =
            serde_json::to_string_pretty(self).context("cannot write the results as JSON")?;
        fs::write(path, text + "\n").with_context(|| format!("cannot write {}", path.display()))
    }
}
