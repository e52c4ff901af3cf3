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
    /// The name of the environment, and of the file in `tests/programs/packages` that lists its packages.
    pub packages: String,
    /// A console script with its arguments, or `python` with its arguments. `{port}` is the port of the program if it
    /// is a server, or of the server that it asks.
    pub command: Vec<String>,
    /// The files in its working directory: a directory in `tests/programs/files`.
    pub files: Option<String>,
    /// Commands that are run once in the working directory.
    #[serde(default)]
    pub setup: Vec<Vec<String>>,
    /// Each run finds the files that the run before has left, because the program depends on files that it writes
    /// itself. Each way begins with the same files.
    #[serde(default)]
    pub keeps_files: bool,
    #[serde(default)]
    pub variables: BTreeMap<String, String>,
    pub port: Option<u16>,
    /// For a server: the requested paths, and the signal that ends it.
    pub server: Option<Server>,
    /// The program asks a server, which gives the same answer to each request.
    #[serde(default)]
    pub asks: bool,
    /// `cargo xtask test` without options also runs the program.
    #[serde(default)]
    pub in_ci: bool,
    /// Output that differs between two plain runs.
    #[serde(default)]
    pub unsteady: Vec<Unsteady>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Server {
    pub paths: Vec<String>,
    pub signal: String,
}

/// A regular expression for output that differs between two plain runs, and the reason. An expression that ends with
/// `\n` is for a line whose position varies.
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
    /// The packages of the program with their versions.
    pub fn requirements(&self) -> Result<Vec<String>> {
        let path = directory()
            .join("packages")
            .join(format!("{}.txt", self.packages));
        let text =
            fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
        Ok(text.lines().map(str::to_owned).collect())
    }

    /// The arguments of the interpreter: the path of the console script replaces its name.
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
