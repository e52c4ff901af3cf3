//! The report of one run.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result, ensure};

/// Values by key.
#[derive(Debug, Default)]
pub struct Report(BTreeMap<String, String>);

impl Report {
    /// Reads and removes the file that a run has written.
    pub fn take(path: &Path) -> Result<Self> {
        let bytes = fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
        fs::remove_file(path).with_context(|| format!("cannot remove {}", path.display()))?;
        let text = String::from_utf8_lossy(&bytes);
        let mut values = BTreeMap::new();
        for line in text.lines() {
            let (key, value) = line.split_once(": ").unwrap_or((line, ""));
            values.insert(key.to_owned(), value.to_owned());
        }
        ensure!(!values.is_empty(), "{} is empty", path.display());
        Ok(Self(values))
    }

    pub fn value(&self, key: &str) -> Option<&str> {
        self.0.get(key).map(String::as_str)
    }

    pub fn keys(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }

    pub fn len(&self) -> usize {
        self.0.len()
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}
