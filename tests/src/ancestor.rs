//! PyPI's code-data-share 0.1.0, for comparison, in a virtual environment of a Python that it supports.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use crate::environment::{lock, succeed};
use crate::{Outcome, clean, repository};

const REQUIREMENT: &str = "code-data-share==0.1.0";

/// The package has wheels for these.
const INTERPRETERS: [&str; 2] = ["python3.11", "python3.12"];

/// Two virtual environments of one Python: one with the package, one without.
pub struct Ancestor {
    python: PathBuf,
    plain: PathBuf,
    /// For example `3.11`.
    pub version: &'static str,
}

impl Ancestor {
    /// Makes the environments, or reuses them if they exist.
    ///
    /// # Errors
    /// No supported Python is installed, or the wheel cannot be downloaded.
    pub fn new() -> Result<Self> {
        let mut reason = None;
        for name in INTERPRETERS {
            match Self::with(name) {
                Ok(ancestor) => return Ok(ancestor),
                Err(error) => reason = reason.or(Some(error)),
            }
        }
        Err(reason.context("no interpreter")?)
    }

    fn with(name: &'static str) -> Result<Self> {
        let directory = repository()
            .join("target/workloads")
            .join(format!("ancestor-{name}"));
        fs::create_dir_all(&directory)
            .with_context(|| format!("cannot create {}", directory.display()))?;
        let _lock = lock(&directory.join("lock"))?;
        let ancestor = Self {
            python: directory.join("venv/bin/python"),
            plain: directory.join("plain/bin/python"),
            version: name.trim_start_matches("python"),
        };
        if ancestor.is_complete() {
            return Ok(ancestor);
        }
        let probe = Command::new(name).arg("--version").output();
        probe.with_context(|| format!("there is no {name}"))?;
        for (environment, option) in [("plain", "--without-pip"), ("venv", "--clear")] {
            let mut venv = Command::new(name);
            clean(&mut venv);
            succeed(
                venv.args(["-m", "venv", option])
                    .arg(directory.join(environment)),
            )?;
        }
        let mut pip = Command::new(&ancestor.python);
        pip.args([
            "-m",
            "pip",
            "install",
            "-q",
            "--disable-pip-version-check",
            REQUIREMENT,
        ]);
        succeed(&mut pip)?;
        Ok(ancestor)
    }

    fn is_complete(&self) -> bool {
        self.plain.exists()
            && self.python.exists()
            && Outcome::of(self.command().args(["-c", "import _cds"])).status == 0
    }

    /// The interpreter with the package, without settings.
    pub fn command(&self) -> Command {
        Self::clean_command(&self.python)
    }

    /// The interpreter without the package.
    pub fn plain_command(&self) -> Command {
        Self::clean_command(&self.plain)
    }

    fn clean_command(python: &Path) -> Command {
        let mut command = Command::new(python);
        clean(&mut command);
        command
    }
}
