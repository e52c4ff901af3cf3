//! Real programs, run with and without an archive.
//!
//! `cargo test` checks them; `cargo xtask demo` shows the same checks and measures.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::{Outcome, clean, python, repository, take_addresses};

/// A program to run: its name, and what follows the interpreter on the command line.
pub struct Workload {
    pub name: &'static str,
    arguments: &'static [&'static str],
}

/// Arguments that name a file of `tests/workloads` begin with this.
const SCRIPTS: &str = "@";

/// The programs. `django` works on a new project in the directory of the environment.
pub const ALL: [Workload; 10] = [
    Workload {
        name: "stdlib30",
        arguments: &["@stdlib30.py"],
    },
    Workload {
        name: "django",
        arguments: &[
            "-m",
            "django",
            "check",
            "--settings",
            "site30.settings",
            "--pythonpath",
            ".",
        ],
    },
    Workload {
        name: "pip",
        arguments: &["-m", "pip", "--version"],
    },
    Workload {
        name: "boto3",
        arguments: &["@use_boto3.py"],
    },
    Workload {
        name: "sqlalchemy",
        arguments: &["@use_sqlalchemy.py"],
    },
    Workload {
        name: "flask",
        arguments: &["@use_flask.py"],
    },
    Workload {
        name: "requests",
        arguments: &["@use_requests.py"],
    },
    Workload {
        name: "rich",
        arguments: &["@use_rich.py"],
    },
    Workload {
        name: "numpy",
        arguments: &["@use_numpy.py"],
    },
    Workload {
        name: "pandas",
        arguments: &["@use_pandas.py"],
    },
];

/// A virtual environment with the pinned packages.
pub struct Environment {
    directory: PathBuf,
}

impl Environment {
    /// Makes the environment for an interpreter, or takes the one that was made for it before.
    pub fn new(interpreter: &Path, name: &str) -> Self {
        let directory = repository().join("target/workloads").join(name);
        let requirements = repository().join("tests/workloads/requirements.txt");
        let wanted = format!(
            "{}\n{}",
            fs::canonicalize(interpreter)
                .expect("the interpreter exists")
                .display(),
            fs::read_to_string(&requirements).expect("the requirements can be read")
        );
        let stamp = directory.join("made-for.txt");
        let environment = Self { directory };
        if fs::read_to_string(&stamp).is_ok_and(|made| made == wanted) {
            return environment;
        }
        let _ = fs::remove_dir_all(&environment.directory);
        eprintln!("installing the packages of tests/workloads/requirements.txt ({name})");
        let mut venv = Command::new(interpreter);
        clean(&mut venv);
        Outcome::of(venv.args(["-m", "venv"]).arg(&environment.directory)).success();
        let mut pip = environment.command(&[
            "-m",
            "pip",
            "install",
            "--quiet",
            "--only-binary",
            ":all:",
            "-r",
        ]);
        // Where packages come from is the system's affair.
        pip.envs(
            std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("PIP_")),
        );
        Outcome::of(pip.arg(&requirements)).success();
        Outcome::of(&mut environment.command(&["-m", "django", "startproject", "site30", "."]))
            .success();
        fs::write(stamp, wanted).expect("the stamp can be written");
        environment
    }

    /// The environment of the interpreter under test.
    pub fn patched() -> Self {
        Self::new(&python(), "patched")
    }

    /// The environment's interpreter, in its directory.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(self.directory.join("bin/python"));
        clean(&mut command);
        for argument in arguments {
            match argument.strip_prefix(SCRIPTS) {
                Some(script) => command.arg(repository().join("tests/workloads").join(script)),
                None => command.arg(argument),
            };
        }
        command.current_dir(&self.directory);
        command
    }
}

/// What running a workload in all ways showed.
pub struct Findings {
    /// Modules whose code came from an archive.
    pub from_archive: u64,
    /// Modules whose code did not, with the reasons.
    pub from_elsewhere: Vec<String>,
    /// Kilobytes that the process wrote to sections which are never written.
    pub never_written_kb: u64,
    /// Differences in what the program did, each with the way it was run.
    pub differences: Vec<String>,
}

impl Findings {
    pub fn is_good(&self) -> bool {
        self.from_archive > 0
            && self.from_elsewhere.is_empty()
            && self.never_written_kb == 0
            && self.differences.is_empty()
    }
}

impl Workload {
    fn archive(&self) -> String {
        format!("{}.img", self.name)
    }

    /// The command without any archive (`options` empty is the way of any stock interpreter).
    pub fn command(&self, environment: &Environment, options: &[&str]) -> Command {
        environment.command(&[options, self.arguments].concat())
    }

    /// The command with its archive.
    pub fn command_with_archive(&self, environment: &Environment, options: &[&str]) -> Command {
        let archive = format!("cds={}", self.archive());
        self.command(environment, &[&["-X", &archive], options].concat())
    }

    /// Traces, dumps, and runs in all ways.
    pub fn check(&self, environment: &Environment) -> Findings {
        let off = ["-X", "cds=off"];
        // The first run writes .pyc files.
        Outcome::of(&mut self.command(environment, &off));
        let expected = Outcome::of(&mut self.command(environment, &off));

        let list = format!("{}.lst", self.name);
        let _ = fs::remove_file(environment.directory.join(&list));
        let trace = format!("cds_trace={list}");
        Outcome::of(&mut self.command(environment, &["-X", &trace]));
        let archive = self.archive();
        let dump = ["-m", "cds", "dump", "--quiet", &list, &archive];
        Outcome::of(&mut environment.command(&dump)).success();
        // jinja2 hashes code objects, and with them line tables and docstrings: a training run tells which.
        let profile = format!("{}.profile", self.name);
        let train = format!("cds_profile={profile}");
        Outcome::of(&mut self.command_with_archive(environment, &["-X", &train]));
        let dump = [&dump[..], &["--profile", &profile]].concat();
        Outcome::of(&mut environment.command(&dump)).success();

        let strict = ["-X", "cds_strict"];
        let mut relocated = self.command_with_archive(environment, &strict);
        take_addresses(&mut relocated);
        let runs = [
            ("standard archive", self.command(environment, &[])),
            ("archive", self.command_with_archive(environment, &[])),
            (
                "archive, strict",
                self.command_with_archive(environment, &strict),
            ),
            ("archive, relocated", relocated),
        ];
        let mut differences = Vec::new();
        if expected.status != 0 {
            differences.push(format!("fails by itself: {expected:?}"));
        }
        for (way, mut command) in runs {
            let outcome = Outcome::of(&mut command);
            if outcome != expected {
                differences.push(format!("{way}: {outcome:?} in place of {expected:?}"));
            }
        }
        let report =
            Outcome::of(&mut self.command_with_archive(environment, &["-X", "cds_stats"])).stderr;
        Findings {
            differences,
            ..Findings::parse(&report)
        }
    }
}

impl Findings {
    /// Reads the report of `-X cds_stats`.
    fn parse(report: &str) -> Self {
        let mut findings = Self {
            from_archive: 0,
            from_elsewhere: Vec::new(),
            never_written_kb: 0,
            differences: Vec::new(),
        };
        let number = |text: &str| {
            text.split(' ')
                .next()
                .and_then(|number| number.parse().ok())
                .unwrap_or(0)
        };
        for line in report.lines() {
            if let Some(counts) = line.strip_prefix("cds: modules from the archive: ") {
                findings.from_archive = number(counts);
            } else if let Some(usage) = line.strip_prefix("cds:   written to, of memory in use: ") {
                for section in usage.split(", ") {
                    let (kind, kilobytes) = section.split_once(' ').unwrap_or((section, ""));
                    if ["constants", "text", "tables"].contains(&kind) {
                        findings.never_written_kb += number(kilobytes);
                    }
                }
            } else if let Some(missed) = line.strip_prefix("cds:   ") {
                findings.from_elsewhere.push(missed.to_owned());
            }
        }
        findings
    }
}
