//! The report of `-X cds_stats=FILE.json`.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use serde::Deserialize;

/// The sections that no program writes to, or only one that the training run has not foreseen.
const NEVER_WRITTEN: [&str; 3] = ["constants", "text", "tables"];

/// What a process says about its archives.
#[derive(Debug, Deserialize)]
pub struct Report {
    /// The startup image that the process was restored from.
    pub startup_image: Option<String>,
    /// Why it was not, if there is one.
    pub startup_image_refused: Option<String>,
    pub modules: Modules,
    pub directories: Vec<Reason>,
    pub archives: Vec<Layer>,
}

#[derive(Debug, Deserialize)]
pub struct Modules {
    /// Modules whose code came from an archive.
    pub from_archive: usize,
    /// Those of them that have a file.
    pub source_files: usize,
    /// Modules whose code did not.
    pub elsewhere: Vec<Reason>,
}

/// A module or directory, and why the archives were no help.
#[derive(Debug, Deserialize)]
pub struct Reason {
    pub name: String,
    pub reason: String,
}

/// One archive in use.
#[derive(Debug, Deserialize)]
pub struct Layer {
    pub path: String,
    pub relocated: bool,
    sections: Vec<Section>,
}

/// Memory of a section, in kB.
#[derive(Debug, Deserialize)]
struct Section {
    name: String,
    written_kb: u64,
}

impl Modules {
    /// How many have been loaded that have a file.
    pub fn of_files(&self) -> usize {
        self.source_files + self.elsewhere.len()
    }
}

impl Report {
    pub fn read(path: &Path) -> Result<Self> {
        let text = fs::read_to_string(path)
            .with_context(|| format!("there are no statistics in {}", path.display()))?;
        let report: Self = serde_json::from_str(&text)
            .with_context(|| format!("the statistics are not understood:\n{text}"))?;
        for layer in &report.archives {
            // An upper layer may need none of the others, but no archive is without tables.
            ensure!(
                layer
                    .sections
                    .iter()
                    .any(|section| section.name == "tables"),
                "the report does not say what of {} is dirty",
                layer.path
            );
        }
        Ok(report)
    }

    /// kB of never-written sections, of all archives, that the process wrote to.
    pub fn never_written_kb(&self) -> u64 {
        let sections = self.archives.iter().flat_map(|layer| &layer.sections);
        sections
            .filter(|section| NEVER_WRITTEN.contains(&section.name.as_str()))
            .map(|section| section.written_kb)
            .sum()
    }
}
