//! The report of `-X cds_stats=FILE.json`.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use serde::Deserialize;

/// The sections that no program writes to, except programs that do what the training run did not do.
const NEVER_WRITTEN: [&str; 3] = ["constants", "text", "tables"];

/// The report of a process about its archives.
#[derive(Debug, Deserialize)]
pub struct Report {
    /// The startup image that the process was restored from.
    pub startup_image: Option<String>,
    /// Why the process was not restored, if there is an image.
    pub startup_image_refused: Option<String>,
    pub modules: Modules,
    pub directories: Vec<Reason>,
    pub archives: Vec<Layer>,
}

#[derive(Debug, Deserialize)]
pub struct Modules {
    /// The number of modules whose code came from an archive.
    pub from_archive: usize,
    /// The number of these modules that have a file.
    pub source_files: usize,
    /// Modules whose code did not come from an archive.
    pub elsewhere: Vec<Reason>,
}

/// A module or directory, and why no archive was used for it.
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
    /// The number of loaded modules that have a file.
    pub fn of_files(&self) -> usize {
        self.source_files + self.elsewhere.len()
    }
}

impl Report {
    pub fn read(path: &Path) -> Result<Self> {
        let text = fs::read_to_string(path)
            .with_context(|| format!("cannot read statistics from {}", path.display()))?;
        let report: Self = serde_json::from_str(&text)
            .with_context(|| format!("the statistics cannot be parsed:\n{text}"))?;
        for layer in &report.archives {
            // An archive may have no contents in the other sections, but each archive has tables.
            ensure!(
                layer
                    .sections
                    .iter()
                    .any(|section| section.name == "tables"),
                "the report has no sections of {}",
                layer.path
            );
        }
        Ok(report)
    }

    /// kB that the process wrote to in never-written sections of all archives.
    pub fn never_written_kb(&self) -> u64 {
        let sections = self.archives.iter().flat_map(|layer| &layer.sections);
        sections
            .filter(|section| NEVER_WRITTEN.contains(&section.name.as_str()))
            .map(|section| section.written_kb)
            .sum()
    }
}
