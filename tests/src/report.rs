//! The report of `-X cds_stats`.

use std::collections::BTreeMap;

use anyhow::{Context, Result, ensure};

/// The sections that no program writes to, or only one that the training run has not foreseen.
const NEVER_WRITTEN: [&str; 3] = ["constants", "text", "tables"];

/// What a process says about its archives.
#[derive(Debug, Default)]
pub struct Report {
    /// Modules whose code came from an archive.
    pub from_archive: usize,
    /// Modules whose code did not, with the reasons.
    pub missed: Vec<String>,
    pub layers: Vec<Layer>,
}

/// One archive in use.
#[derive(Debug)]
pub struct Layer {
    pub path: String,
    pub relocated: bool,
    /// Private dirty memory of each section, in kB.
    private_dirty: BTreeMap<String, u64>,
}

impl Report {
    /// Reads a report. A line that is not understood is an error: a check must not pass for want of numbers.
    pub fn parse(text: &str) -> Result<Self> {
        let mut report = Self::default();
        let mut lines = text.lines();
        let first = lines.next().unwrap_or_default();
        (|| {
            let counts = first.strip_prefix("cds: modules from the archive: ")?;
            report.from_archive = first_number(counts)?;
            Some(())
        })()
        .with_context(|| format!("no count of modules in the report:\n{text}"))?;
        for line in lines {
            report
                .read(line)
                .with_context(|| format!("the line {line:?} of the report is not understood"))?;
        }
        for layer in &report.layers {
            // An upper layer may need none of the others, but no archive is without tables.
            ensure!(
                layer.private_dirty.contains_key("tables"),
                "the report does not say what of {} is dirty",
                layer.path
            );
        }
        Ok(report)
    }

    fn read(&mut self, line: &str) -> Option<()> {
        let line = line.strip_prefix("cds: ")?;
        if let Some(usage) = line.strip_prefix("  written to, of memory in use: ") {
            let layer = self.layers.last_mut()?;
            for section in usage.split(", ") {
                let (kind, kilobytes) = section.split_once(' ')?;
                let dirty = u64::try_from(first_number(kilobytes)?).ok()?;
                layer.private_dirty.insert(kind.to_owned(), dirty);
            }
        } else if let Some(missed) = line.strip_prefix("  ") {
            self.missed.push(missed.to_owned());
        } else {
            let (place, relocated) = [(" in place at ", false), (" relocated to ", true)]
                .into_iter()
                .find(|(place, _)| line.contains(place))?;
            let (path, _) = line.split_once(place)?;
            self.layers.push(Layer {
                path: path.to_owned(),
                relocated,
                private_dirty: BTreeMap::new(),
            });
        }
        Some(())
    }

    /// kB of never-written sections, of all archives, that the process wrote to.
    pub fn never_written_kb(&self) -> u64 {
        let layers = self.layers.iter();
        layers
            .flat_map(|layer| NEVER_WRITTEN.map(|section| layer.private_dirty.get(section)))
            .flatten()
            .sum()
    }
}

fn first_number(text: &str) -> Option<usize> {
    text.split(' ').next()?.parse().ok()
}
