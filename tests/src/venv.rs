//! Virtual environments with pinned packages. They are kept below `target/` for the next run.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use crate::environment::succeed;
use crate::progress::Progress;
use crate::{clean, repository};

/// An environment in a directory.
pub struct Venv {
    directory: PathBuf,
}

impl Venv {
    /// Makes an environment for an interpreter, or reuses the one of this name if it has the same packages.
    pub fn new(name: &str, interpreter: &Path, requirements: &[&str]) -> Result<Self> {
        let directory = repository().join("target/workloads").join(name);
        let venv = Self { directory };
        let wanted = requirements.join("\n");
        let made = venv.directory.join("made");
        if fs::read_to_string(&made).is_ok_and(|text| text == wanted) {
            return Ok(venv);
        }
        let progress = Progress::start(format!("packages for {name}"));
        let mut make = Command::new(interpreter);
        clean(&mut make);
        succeed(make.args(["-m", "venv", "--clear"]).arg(&venv.directory))?;
        succeed(venv.pip().args(["install", "-q"]).args(requirements))?;
        fs::write(&made, wanted).with_context(|| format!("cannot write {}", made.display()))?;
        progress.done();
        Ok(venv)
    }

    pub fn directory(&self) -> &Path {
        &self.directory
    }

    pub fn python(&self) -> PathBuf {
        self.directory.join("bin/python")
    }

    /// The interpreter without variables that affect Python.
    pub fn command(&self) -> Command {
        let mut command = Command::new(self.python());
        clean(&mut command);
        command
    }

    /// pip with all variables, which may say where packages come from.
    pub fn pip(&self) -> Command {
        let mut pip = Command::new(self.python());
        pip.args(["-m", "pip", "--disable-pip-version-check"]);
        pip
    }
}
