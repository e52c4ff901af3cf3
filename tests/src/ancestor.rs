//! PyPI's code-data-share 0.1.0, to compare with, in a virtual environment of a Python that it supports.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result};

use crate::environment::{lock, succeed};
use crate::{Outcome, clean, repository};

const REQUIREMENT: &str = "code-data-share==0.1.0";

/// It has wheels for these.
const INTERPRETERS: [&str; 2] = ["python3.11", "python3.12"];

/// The interpreter of the virtual environment.
pub struct Ancestor {
    pub python: PathBuf,
    /// `3.11`, say.
    pub version: &'static str,
}

impl Ancestor {
    /// Makes the environment, or takes the one that is there.
    ///
    /// # Errors
    /// Why there can be none: no such Python, or no way to its wheel.
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
            version: name.trim_start_matches("python"),
        };
        if ancestor.is_complete() {
            return Ok(ancestor);
        }
        let mut venv = Command::new(name);
        clean(&mut venv);
        succeed(
            venv.args(["-m", "venv", "--clear"])
                .arg(directory.join("venv")),
        )?;
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
        self.python.exists() && Outcome::of(self.command().args(["-c", "import _cds"])).status == 0
    }

    /// Its interpreter, with no settings.
    pub fn command(&self) -> Command {
        let mut command = Command::new(&self.python);
        clean(&mut command);
        command
    }
}
