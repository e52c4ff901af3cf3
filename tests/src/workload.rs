//! Real programs, run with and without an archive.
//!
//! `cargo test` checks them; `cargo xtask demo` shows the same checks and measures. Both are in this crate because
//! the checks are tests. `xtask` runs the program of this crate and depends on nothing in it.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use similar::TextDiff;

use crate::environment::{Environment, succeed, workloads};
use crate::report::Report;
use crate::{Outcome, take_addresses};

/// A program to run: its name and its command line.
pub struct Workload {
    pub name: &'static str,
    arguments: &'static [&'static str],
    variables: &'static [(&'static str, &'static str)],
    /// A script outside of this repository.
    script: Option<PathBuf>,
}

/// Arguments that name a file of `tests/workloads` begin with this.
const SCRIPTS: &str = "@";

const fn workload(name: &'static str, arguments: &'static [&'static str]) -> Workload {
    Workload {
        name,
        arguments,
        variables: &[],
        script: None,
    }
}

/// The programs. `django` works on the new project in the working directory of the environment.
pub const ALL: [Workload; 10] = [
    workload("stdlib30", &["@stdlib30.py"]),
    workload("django", &["manage.py", "check"]),
    workload("pip", &["-m", "pip", "--version"]),
    workload("boto3", &["@use_boto3.py"]),
    workload("sqlalchemy", &["@use_sqlalchemy.py"]),
    workload("flask", &["@use_flask.py"]),
    workload("requests", &["@use_requests.py"]),
    workload("rich", &["@use_rich.py"]),
    workload("numpy", &["@use_numpy.py"]),
    workload("pandas", &["@use_pandas.py"]),
];

/// Programs that do more with their packages. They are not timed, because they do not only import.
pub const BUSY: [Workload; 4] = [
    workload("read_csv", &["@read_csv.py"]),
    workload("talk_http", &["@talk_http.py"]),
    workload("django_views", &["@django_views.py"]),
    workload("orm", &["@orm.py"]),
];

/// A program with its own environment, which has the packages of `tensorflow.lock`.
pub const TENSORFLOW: Workload = Workload {
    name: "tensorflow",
    arguments: &["@use_tensorflow.py"],
    // Its log messages contain the time and the process id.
    variables: &[
        ("TF_CPP_MIN_LOG_LEVEL", "3"),
        ("TF_ENABLE_ONEDNN_OPTS", "0"),
    ],
    script: None,
};

/// The interpreter alone.
pub const PASS: Workload = workload("pass", &["-c", "pass"]);

/// The result of running a workload in all ways.
pub struct Findings {
    /// The number of modules in the trace: all modules with Python code.
    pub traced: usize,
    /// The number of modules whose code came from an archive.
    pub from_archive: usize,
    /// Kilobytes that the process wrote to in sections that must never be written to.
    pub never_written_kb: u64,
    /// Differences from the run without an archive.
    pub differences: Vec<String>,
    /// Other errors.
    pub problems: Vec<String>,
}

impl Findings {
    pub fn is_good(&self) -> bool {
        self.complaints().next().is_none()
    }

    /// All differences and problems.
    pub fn complaints(&self) -> impl Iterator<Item = &String> {
        self.differences.iter().chain(&self.problems)
    }
}

impl Workload {
    /// A script that was made for this run.
    pub fn generated(name: &'static str, script: PathBuf) -> Self {
        Self {
            name,
            arguments: &[],
            variables: &[],
            script: Some(script),
        }
    }

    /// The part of the command line behind the interpreter and its options.
    pub fn arguments(&self) -> Vec<PathBuf> {
        let own = self.arguments.iter().map(|argument| {
            let script = argument.strip_prefix(SCRIPTS);
            script.map_or_else(
                || PathBuf::from(argument),
                |script| workloads().join(script),
            )
        });
        self.script.iter().cloned().chain(own).collect()
    }

    /// The command without options about archives.
    pub fn command(&self, environment: &Environment) -> Command {
        self.command_with(environment, &[])
    }

    /// The command with no archive, not even the standard library's.
    pub fn command_off(&self, environment: &Environment) -> Command {
        self.command_with(environment, &["cds=off"])
    }

    /// The command with the archive that [`Self::check`] has made.
    pub fn command_on(&self, environment: &Environment) -> Command {
        self.command_archived(environment, &[])
    }

    /// The option with which another program uses the archive of this one.
    pub fn archive_options(&self, environment: &Environment) -> [String; 1] {
        [format!("-Xcds={}", self.file(environment, "img").display())]
    }

    fn command_archived(&self, environment: &Environment, options: &[&str]) -> Command {
        let archive = format!("cds={}", self.file(environment, "img").display());
        self.command_with(environment, &[&[&*archive], options].concat())
    }

    /// The command with `-X` options.
    pub fn command_with(&self, environment: &Environment, options: &[&str]) -> Command {
        let options = Vec::from_iter(options.iter().map(|option| format!("-X{option}")));
        let mut command = environment.command(&options);
        command.args(self.arguments());
        command.envs(self.variables.iter().copied());
        command
    }

    /// The trace list that [`Self::check`] has made.
    pub fn trace_list(&self, environment: &Environment) -> PathBuf {
        self.file(environment, "lst")
    }

    fn file(&self, environment: &Environment, suffix: &str) -> PathBuf {
        let name = format!("{}.{suffix}", self.name);
        environment.archives().join(name)
    }

    /// Traces the program, dumps it, and runs it in all ways, and also in `control`, the environment of stock CPython.
    /// `say` is called with each step.
    pub fn check(
        &self,
        environment: &Environment,
        control: Option<&Environment>,
        say: impl Fn(&str),
    ) -> Result<Findings> {
        say("run without an archive");
        // The first run writes .pyc files.
        Outcome::of(&mut self.command_off(environment));
        let expected = Outcome::of(&mut self.command_off(environment));

        let traced = self.dump(environment, &say)?;

        say("run in all ways");
        let strict = ["cds_strict"];
        let mut relocated = self.command_archived(environment, &strict);
        take_addresses(&mut relocated);
        let runs = [
            ("the standard library's archive", self.command(environment)),
            ("the archive", self.command_on(environment)),
            (
                "the archive, strictly",
                self.command_archived(environment, &strict),
            ),
            ("the archive, relocated", relocated),
        ];
        let mut differences = Vec::new();
        for (way, mut command) in runs {
            let outcome = Outcome::of(&mut command);
            differences.extend(difference(way, &expected, &outcome));
        }
        say("take a startup image, and run from it");
        differences.extend(self.compare_restored(environment, &expected)?);
        if let Some(control) = control {
            Outcome::of(&mut self.command(control));
            let outcome = Outcome::of(&mut self.command(control));
            // The output of the programs contains the directory of their environment.
            let [expected, outcome] =
                [(&expected, environment), (&outcome, control)].map(|(outcome, environment)| {
                    elsewhere(outcome, &environment.directory().to_string_lossy())
                });
            differences.extend(difference("stock CPython", &expected, &outcome));
        }

        say("read the counters");
        let mut problems = Vec::new();
        if expected.status != 0 {
            problems.push(format!(
                "the program fails without an archive: {expected:#?}"
            ));
        }
        let archive = format!("cds={}", self.file(environment, "img").display());
        let report = self.report(environment, &archive, false)?;
        let relocated = self.report(environment, &archive, true)?;
        for (report, is_relocated) in [(&report, false), (&relocated, true)] {
            let modules = &report.modules;
            if modules.from_archive != traced || !modules.elsewhere.is_empty() {
                problems.push(format!(
                    "{} modules of {traced} came from an archive; others: {:?}",
                    modules.from_archive, modules.elsewhere
                ));
            }
            // The archive of the program and that of the standard library.
            let layers = report.archives.iter();
            if layers
                .filter(|layer| layer.relocated == is_relocated)
                .count()
                != 2
            {
                problems.push(format!(
                    "two archives should be in use, relocated: {is_relocated}; there are {:?}",
                    report.archives
                ));
            }
        }
        if report.never_written_kb() != 0 {
            problems.push(format!(
                "never-written sections are dirty: {:?}",
                report.archives
            ));
        }
        Ok(Findings {
            traced,
            from_archive: report.modules.from_archive,
            never_written_kb: report.never_written_kb(),
            differences,
            problems,
        })
    }

    /// Traces a run, makes an archive of it, and returns the number of modules in the trace.
    fn dump(&self, environment: &Environment, say: impl Fn(&str)) -> Result<usize> {
        let [list, archive, profile] =
            ["lst", "img", "profile"].map(|suffix| self.file(environment, suffix));
        for file in [&list, &archive, &profile] {
            remove(file)?;
        }
        say("trace");
        let trace = format!("cds_trace={}", list.display());
        Outcome::of(&mut self.command_with(environment, &[&trace]));
        let dump = || {
            let mut dump = environment.command(&[]);
            dump.args(["-m", "cds", "dump", "--quiet"]);
            dump.arg(&list).arg(&archive);
            dump
        };
        say("dump");
        succeed(&mut dump())?;
        // jinja2 hashes code objects, and with them line tables and docstrings. A training run records which ones.
        say("train, and dump again");
        let train = format!("cds_profile={}", profile.display());
        Outcome::of(&mut self.command_archived(environment, &[&train]));
        succeed(dump().arg("--profile").arg(&profile))?;

        let list = fs::read_to_string(&list)
            .with_context(|| format!("cannot read the trace {}", list.display()))?;
        // Lines of regular expressions name `re`, with the expression as a comment.
        let modules = list.lines().filter(|line| !line.starts_with("re  # "));
        Ok(BTreeSet::from_iter(modules).len())
    }

    /// Runs the program only without an archive and restored from an image. Returns the differences.
    pub fn check_restored(&self, environment: &Environment) -> Result<Vec<String>> {
        Outcome::of(&mut self.command_off(environment));
        let expected = Outcome::of(&mut self.command_off(environment));
        ensure!(
            expected.status == 0,
            "{} fails without an archive: {expected:#?}",
            self.name
        );
        let list = self.trace_list(environment);
        remove(&list)?;
        let trace = format!("cds_trace={}", list.display());
        Outcome::of(&mut self.command_with(environment, &[&trace]));
        self.compare_restored(environment, &expected)
    }

    /// Takes an image, and compares a process that is restored from it.
    fn compare_restored(
        &self,
        environment: &Environment,
        expected: &Outcome,
    ) -> Result<Vec<String>> {
        let outcome = Outcome::of(&mut self.command_restored(environment)?);
        Ok(Vec::from_iter(difference(
            "the startup image",
            expected,
            &outcome,
        )))
    }

    /// Takes an image of the modules in the trace list, and checks that it is used. It lies beside a separate archive,
    /// because `-X cds=` prefers images.
    pub fn command_restored(&self, environment: &Environment) -> Result<Command> {
        let archive = self.file(environment, "image.img");
        let mut dump = environment.command(&[]);
        dump.envs(self.variables.iter().copied());
        dump.args(["-m", "cds", "dump", "--quiet", "--image"]);
        succeed(dump.arg(self.trace_list(environment)).arg(&archive))?;
        self.check_image(environment)?;
        let archive = format!("cds={}", archive.display());
        Ok(self.command_with(environment, &[&archive]))
    }

    /// Checks that the program is restored from the image of [`Self::command_restored`].
    ///
    /// # Errors
    /// The image is not used. The error says why.
    pub fn check_image(&self, environment: &Environment) -> Result<()> {
        let archive = format!("cds={}", self.file(environment, "image.img").display());
        let report = self.report(environment, &archive, false)?;
        ensure!(
            report.startup_image.is_some(),
            "{} is not restored: {:?}",
            self.name,
            report.startup_image_refused
        );
        Ok(())
    }

    /// Runs the program again for the report of `-X cds_stats`.
    fn report(&self, environment: &Environment, archive: &str, relocated: bool) -> Result<Report> {
        let directory = tempfile::tempdir().context("cannot create a temporary directory")?;
        let file = directory.path().join("stats.json");
        let option = format!("cds_stats={}", file.display());
        let mut command = self.command_with(environment, &[archive, &option]);
        if relocated {
            take_addresses(&mut command);
        }
        Outcome::of(&mut command);
        Report::read(&file).with_context(|| format!("{}: -X cds_stats", self.name))
    }
}

fn remove(file: &Path) -> Result<()> {
    if file.exists() {
        fs::remove_file(file).with_context(|| format!("cannot remove {}", file.display()))?;
    }
    Ok(())
}

/// The difference between two outcomes, for people.
fn difference(way: &str, expected: &Outcome, outcome: &Outcome) -> Option<String> {
    if outcome == expected {
        return None;
    }
    let [expected, outcome] = [expected, outcome].map(|outcome| {
        format!(
            "status {}\nstdout:\n{}\nstderr:\n{}\n",
            outcome.status, outcome.stdout, outcome.stderr
        )
    });
    let diff = TextDiff::from_lines(&expected, &outcome);
    let diff = diff
        .unified_diff()
        .header("without an archive", way)
        .to_string();
    Some(diff)
}

/// The outcome with the directory replaced by a placeholder.
fn elsewhere(outcome: &Outcome, directory: &str) -> Outcome {
    let replace = |text: &str| text.replace(directory, "DIRECTORY");
    Outcome {
        stdout: replace(&outcome.stdout),
        stderr: replace(&outcome.stderr),
        status: outcome.status,
    }
}
