//! `tests/programs/programs.toml`: the programs, and how they are run.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result};
use serde::Deserialize;

use crate::repository;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Table {
    program: Vec<Program>,
}

/// A program of a package.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Program {
    pub name: String,
    /// The list of its packages: a file in `tests/programs/packages`, with the name of an environment.
    pub packages: String,
    /// A console script with its arguments, or `python` with what follows it. `{port}` is the port of its server, or of the
    /// one that it asks.
    pub command: Vec<String>,
    /// What lies where it runs: a directory in `tests/programs/files`.
    pub files: Option<String>,
    /// Commands that are run there once.
    #[serde(default)]
    pub setup: Vec<Vec<String>>,
    /// Each run finds what the one before has left, as it does for users, since it depends on what it writes itself. Each way
    /// begins with the same.
    #[serde(default)]
    pub keeps_files: bool,
    #[serde(default)]
    pub variables: BTreeMap<String, String>,
    pub port: Option<u16>,
    /// For a server: what is asked for, and the signal that ends it.
    pub server: Option<Server>,
    /// It asks a server, which answers each request in the same way.
    #[serde(default)]
    pub asks: bool,
    /// It is run by `cargo xtask test` without options, too.
    #[serde(default)]
    pub in_ci: bool,
    /// What differs between two plain runs.
    #[serde(default)]
    pub unsteady: Vec<Unsteady>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Server {
    pub paths: Vec<String>,
    pub signal: String,
}

/// A regular expression for what differs between two plain runs, and why it does. One that ends with `\n` is for a line that may
/// come sooner or later.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Unsteady {
    pub pattern: String,
    pub reason: String,
}

pub fn directory() -> PathBuf {
    repository().join("tests/programs")
}

/// All programs, in the order of the file.
pub fn read() -> Result<Vec<Program>> {
    let path = directory().join("programs.toml");
    let text =
        fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
    let table: Table =
        toml::from_str(&text).with_context(|| format!("{} is not understood", path.display()))?;
    Ok(table.program)
}

impl Program {
    /// Its packages with their versions.
    pub fn requirements(&self) -> Result<Vec<String>> {
        let path = directory()
            .join("packages")
            .join(format!("{}.txt", self.packages));
        let text =
            fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
        Ok(text.lines().map(str::to_owned).collect())
    }

    /// Its arguments, with the console script in the place of a name.
    pub fn arguments(&self, venv: &crate::venv::Venv) -> Vec<String> {
        let port = self.port.unwrap_or_default().to_string();
        let words = self
            .command
            .iter()
            .map(|word| word.replace("{port}", &port));
        let mut words = Vec::from_iter(words);
        if words[0] == "python" {
            words.remove(0);
        } else {
            let script = venv.directory().join("bin").join(&words[0]);
            words[0] = script.display().to_string();
        }
        words
    }
}
