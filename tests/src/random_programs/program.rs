//! A random program in its own directory, and its runs.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::process::Command;

use serde::Deserialize;

use crate::files::Files;
use crate::{Outcome, Project, clean, python, repository};

/// A program that runs for more seconds hangs and is killed.
const PATIENCE: &str = "60";

/// The names of the kinds of statements in a program: changes, looks, effects, starts and ends.
#[derive(Debug, Clone)]
pub enum Kinds {
    Only(String),
    AllBut(String),
}

/// A program that was generated from a seed.
pub struct Program {
    pub project: Project,
    description: Description,
}

/// The description that the generator writes.
#[derive(Deserialize)]
struct Description {
    command: Vec<String>,
    statements: usize,
    kinds: Vec<String>,
    runs: Vec<Run>,
}

/// The input of a run.
#[derive(Deserialize)]
struct Run {
    arguments: Vec<String>,
    variables: BTreeMap<String, String>,
    standard_input: Option<String>,
}

/// The output of a run, and the files that it has written.
#[derive(Debug, PartialEq, Eq)]
pub struct Traces {
    pub outcome: Outcome,
    files: Files,
}

impl Program {
    /// Generates the program of a seed without some of its statements.
    pub fn new(seed: u64, kinds: &Kinds, without: &BTreeSet<usize>) -> Self {
        let project = Project::new(&[]);
        let generator = repository().join("tests/random_programs/generate.py");
        let without = Vec::from_iter(without.iter().map(usize::to_string)).join(",");
        let mut command = Command::new(python());
        clean(&mut command);
        command.args(["-B", "-X", "cds=off"]).arg(generator);
        command.arg(seed.to_string()).arg(project.path(""));
        command.args(["--without", &without]);
        match kinds {
            Kinds::Only(names) => command.args(["--kinds", names]),
            Kinds::AllBut(names) => command.args(["--but", names]),
        };
        Outcome::of(&mut command).success();
        let description = fs::read(project.path("program.json")).expect("it was written");
        let description = serde_json::from_slice(&description).expect("it describes a program");
        Self {
            project,
            description,
        }
    }

    pub fn listing(&self) -> String {
        fs::read_to_string(self.project.path("listing.txt")).expect("it was written")
    }

    /// The number of statements, including dropped ones. They are numbered from 1.
    pub fn statements(&self) -> usize {
        self.description.statements
    }

    pub fn kinds(&self) -> String {
        self.description.kinds.join(", ")
    }

    /// The number of runs with different input.
    pub fn runs(&self) -> usize {
        self.description.runs.len()
    }

    /// The interpreter with options, in the directory of the program.
    pub fn command(&self, options: &[&str]) -> Command {
        let mut command = Command::new("timeout");
        clean(&mut command);
        command
            .current_dir(self.project.path("app"))
            .env("PYTHONPATH", self.project.path("lib"))
            // In all ways, so that programs find the same variables.
            .env("PYTHON_CDS_CACHE", self.project.path("made/cache"))
            .args(["--foreground", "-s", "KILL", PATIENCE])
            .arg(python())
            .args(options);
        command
    }

    /// Runs the program with the input of the run `number`. Calls `after` when the run has ended, before the files are
    /// collected.
    pub fn run(&self, options: &[&str], number: usize, after: impl FnOnce()) -> Traces {
        let run = &self.description.runs[number];
        let out = self.project.path("out");
        Files::default().restore(&out);
        let mut command = self.command(options);
        command
            .args(&self.description.command)
            .args(&run.arguments)
            .envs(&run.variables);
        let outcome = match &run.standard_input {
            None => Outcome::of(&mut command),
            Some(text) => {
                self.project.write("made/input", text);
                let input = File::open(self.project.path("made/input"));
                Outcome::reading(&mut command, input.expect("it was written").into())
            }
        };
        after();
        let files = Files::of(&out);
        Traces { outcome, files }
    }
}

impl Traces {
    /// The text for people, line by line.
    pub fn text(&self) -> String {
        let Outcome {
            stdout,
            stderr,
            status,
        } = &self.outcome;
        let files = self.files.text(str::to_owned);
        format!("status {status}\nstdout:\n{stdout}\nstderr:\n{stderr}\nfiles:\n{files}")
    }
}
