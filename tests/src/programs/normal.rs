//! Normalizes the output and the files of a run: replaces process ids, times and temporary names, which always differ.

use anyhow::{Context, Result};
use regex::{Captures, Regex};

use super::data::Program;

/// Patterns and their replacements.
const PATTERNS: [(&str, &str); 10] = [
    // Temporary names.
    (r"\btmp-?[a-z0-9_]{8}\b", "TEMPORARY"),
    // Times and dates.
    (
        r"\d{4}-\d{2}-\d{2}[T ]\d{2}:\d{2}(:\d{2}([.,]\d+)?)?([+-]\d{2}:?\d{2}|Z)?",
        "TIME",
    ),
    (
        r"((Mon|Tue|Wed|Thu|Fri|Sat|Sun)\w*,? )?(\d{1,2}[ /-])?(Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec)\w*[ /-](\d{1,2},? )?(\d{4}[ :])?(at )?\d{2}:\d{2}:\d{2}( \d{4}| GMT)?",
        "TIME",
    ),
    (r"\d{2}:\d{2}:\d{2}([.,]\d+)?", "TIME"),
    (r"\d{4}-\d{2}-\d{2}", "DATE"),
    // Durations.
    (
        r"\d+(\.\d+)?(e-\d+)? ?(ms|µs|us|seconds|secs|sec|s)\b",
        "DURATION",
    ),
    (r"\b1[789]\d{8}(\.\d+)?\b", "TIME"),
    // Processes.
    (r"(?i)\b(pid:?|process) ?\[?\d+\]?", "PID"),
    (r"\[\d{2,7}\]", "[PID]"),
    // Addresses of objects.
    (r"0x[0-9a-f]{6,16}\b", "ADDRESS"),
];

/// The replacements for a program.
pub struct Normal {
    patterns: Vec<(Regex, String)>,
}

impl Normal {
    /// The general replacements, and those for the unsteady output of a program.
    pub fn new(program: &Program) -> Result<Self> {
        let general = PATTERNS.map(|(pattern, name)| (pattern.to_owned(), name.to_owned()));
        let own = program.unsteady.iter().map(|unsteady| {
            // A line whose position varies is removed.
            let is_line = unsteady.pattern.ends_with(r"\n");
            let name = if is_line { "" } else { "UNSTEADY" };
            (unsteady.pattern.clone(), name.to_owned())
        });
        let patterns = own.chain(general).map(|(pattern, name)| {
            let regex = Regex::new(&format!("(?m){pattern}"))
                .with_context(|| format!("{}: {pattern}", program.name))?;
            Ok((regex, name))
        });
        let patterns = patterns.collect::<Result<_>>()?;
        Ok(Self { patterns })
    }

    pub fn text(&self, text: &str) -> String {
        let mut text = text.to_owned();
        for (pattern, name) in &self.patterns {
            let replaced = pattern.replace_all(&text, |_: &Captures<'_>| name.as_str());
            text = replaced.into_owned();
        }
        text
    }
}
