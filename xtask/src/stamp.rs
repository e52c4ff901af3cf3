//! Records which inputs a result was made from.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

/// A file next to the result. It does not exist while the result is made, so an interrupted step is repeated.
pub struct Stamp(PathBuf);

impl Stamp {
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self(path.into())
    }

    pub fn is(&self, inputs: &str) -> bool {
        fs::read_to_string(&self.0).is_ok_and(|stamped| stamped == inputs)
    }

    pub fn read(&self) -> Result<String> {
        fs::read_to_string(&self.0).with_context(|| format!("cannot read {}", self.0.display()))
    }

    /// Must be called before the result changes.
    pub fn clear(&self) -> Result<()> {
        remove_file(&self.0)
    }

    pub fn set(&self, inputs: &str) -> Result<()> {
        fs::write(&self.0, inputs).with_context(|| format!("cannot write {}", self.0.display()))
    }
}

/// Removes a file that may not exist.
pub fn remove_file(path: &Path) -> Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("cannot remove {}", path.display()))
        }
        _ => Ok(()),
    }
}

/// Removes a directory that may not exist.
pub fn remove_dir(path: &Path) -> Result<()> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("cannot remove {}", path.display()))
        }
        _ => Ok(()),
    }
}
