//! The program behind `cargo xtask test --restores N`: restores programs from their images many times.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::process::{Command, ExitCode};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::{Context, Result, ensure};
use clap::Parser;
use cpython_cds_tests::environment::Environment;
use cpython_cds_tests::progress::Progress;
use cpython_cds_tests::report::Report;
use cpython_cds_tests::restored::copy_package;
use cpython_cds_tests::{Outcome, exit_code, python};
use similar::TextDiff;

/// Programs (tests/restored/storm), and whether they are in their images.
const PROGRAMS: [(&str, bool); 8] = [
    ("bare", false),
    ("stdlib30", true),
    ("with_numpy", true),
    ("with_pandas", true),
    ("with_polars", true),
    ("with_sklearn", true),
    ("with_sqlalchemy", true),
    ("growing", true),
];

/// The script that runs one of the programs.
const RUN: &str = "run.py";

/// The number of processes that run at the same time.
const AT_ONCE: usize = 2;

/// A process that runs for more seconds hangs and is killed.
const PATIENCE: &str = "60";

/// The number of failures that are shown for each kind.
const SHOWN: usize = 3;

/// Restore programs many times
#[derive(Parser)]
struct Args {
    /// The number of processes to restore, for all programs together
    restores: u64,
    /// Only these programs [default: all]
    #[arg(long, value_name = "NAME", num_args = 1.., value_parser = PROGRAMS.map(|(name, _)| name))]
    program: Vec<String>,
}

fn main() -> ExitCode {
    exit_code(run(&Args::parse()))
}

/// Whether all restored processes had the same outcome as a plain start.
fn run(args: &Args) -> Result<bool> {
    let storm = Storm::new()?;
    let is_wanted =
        |name: &str| args.program.is_empty() || args.program.iter().any(|it| it == name);
    let mut taken = Vec::new();
    let mut skipped = Vec::new();
    for (name, is_in_image) in PROGRAMS.into_iter().filter(|(name, _)| is_wanted(name)) {
        let progress = Progress::start(name);
        match storm.take(name, is_in_image, &progress)? {
            Ok(program) => taken.push(program),
            Err(reason) => skipped.push((name, reason)),
        }
        progress.done();
    }
    ensure!(!taken.is_empty(), "there is no image");
    let each = args.restores.div_ceil(taken.len() as u64);
    println!("{:<20}{:>10}{:>10}", "", "restores", "wrong");
    let mut sum = [0, 0];
    for program in &taken {
        let progress = Progress::start(program.name);
        let failures = storm.restore(program, each, &progress);
        drop(progress);
        let wrong: u64 = failures.values().map(|failure| failure.count).sum();
        println!("{:<20}{each:>10}{wrong:>10}", program.name);
        for (kind, failure) in &failures {
            println!("    {} times {kind}", failure.count);
            for shown in &failure.shown {
                println!("        {}", shown.trim_end().replace('\n', "\n        "));
            }
        }
        sum = [sum[0] + each, sum[1] + wrong];
    }
    println!("{:<20}{:>10}{:>10}", "all", sum[0], sum[1]);
    for (name, reason) in skipped {
        println!(
            "{name:<20}{:>10}  no image can be taken: {reason}",
            "skipped"
        );
    }
    Ok(sum[1] == 0)
}

struct Storm {
    environment: Environment,
}

/// A program and the outcome of a plain start.
struct Program {
    name: &'static str,
    expected: Outcome,
}

/// The number of failures of one kind, and the output of some of the processes.
#[derive(Default)]
struct Failure {
    count: u64,
    shown: Vec<String>,
}

impl Storm {
    fn new() -> Result<Self> {
        let environment = Environment::with(&python(), "storm.lock", &[])?;
        let storm = Self { environment };
        copy_package("storm", &storm.path("path"))?;
        // The program is not in the directory of the package: an image has no modules that lie beside the program.
        fs::write(storm.path(RUN), include_str!("../../restored/run.py"))
            .context("cannot write the program")?;
        Ok(storm)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.environment.archives().join(name)
    }

    fn command(&self, options: &[String]) -> Command {
        let mut command = self.environment.command(options);
        command.env("PYTHONPATH", self.path("path"));
        command
    }

    /// Takes an image of a program, or returns the reason if no image can be taken.
    fn take(
        &self,
        name: &'static str,
        is_in_image: bool,
        progress: &Progress,
    ) -> Result<Result<Program, String>> {
        progress.say("started");
        let run = || Outcome::of(&mut self.program(&["-X".to_owned(), "cds=off".to_owned()], name));
        let (expected, again) = (run(), run());
        ensure!(expected.status == 0, "{name} does not run: {expected:?}");
        ensure!(
            expected == again,
            "two plain runs of {name} differ: {expected:?}, {again:?}"
        );
        progress.say("take the image");
        let list = self.path(&format!("{name}.lst"));
        let modules = if is_in_image {
            format!("storm.{name}\n")
        } else {
            String::new()
        };
        fs::write(&list, modules).with_context(|| format!("cannot write {}", list.display()))?;
        let image = self.image(name);
        let startup = image.with_extension("img.startup");
        if startup.exists() {
            fs::remove_file(&startup)
                .with_context(|| format!("cannot remove {}", startup.display()))?;
        }
        let mut dump = self.command(&[]);
        dump.args(["-m", "cds", "dump", "-q", "--image"]);
        let outcome = Outcome::of(dump.arg(&list).arg(&image));
        if outcome.status != 0 {
            // There may be a note with the reason in the place of the image.
            return Ok(Err(outcome.stderr.trim().to_owned()));
        }
        Ok(Ok(Program { name, expected }))
    }

    fn image(&self, name: &str) -> PathBuf {
        self.path(&format!("{name}.img"))
    }

    fn program(&self, options: &[String], name: &str) -> Command {
        let mut command = self.command(options);
        command.arg(self.path(RUN)).arg(name);
        command
    }

    /// Restores a program `wanted` times and returns the failures.
    fn restore(
        &self,
        program: &Program,
        wanted: u64,
        progress: &Progress,
    ) -> BTreeMap<String, Failure> {
        let started = AtomicU64::new(0);
        let failures = Mutex::new(BTreeMap::<String, Failure>::new());
        std::thread::scope(|scope| {
            for worker in 0..AT_ONCE {
                let (started, failures) = (&started, &failures);
                scope.spawn(move || {
                    loop {
                        let number = started.fetch_add(1, Ordering::Relaxed);
                        if number >= wanted {
                            break;
                        }
                        if let Some((kind, said)) = self.restore_once(program, worker) {
                            let mut failures = failures.lock().expect("nobody has panicked");
                            let failure = failures.entry(kind).or_default();
                            failure.count += 1;
                            if failure.shown.len() < SHOWN && !failure.shown.contains(&said) {
                                failure.shown.push(said);
                            }
                        }
                        progress.say(&format!("{number} of {wanted}"));
                    }
                });
            }
        });
        failures.into_inner().expect("nobody has panicked")
    }

    /// Restores a program once. Returns the kind of failure and the output if the outcome was wrong.
    fn restore_once(&self, program: &Program, worker: usize) -> Option<(String, String)> {
        let statistics = self.path(&format!("stats-{worker}.json"));
        // The statistics of an earlier process say nothing about this one.
        let _ = fs::remove_file(&statistics);
        let options = [
            "-X".to_owned(),
            format!("cds={}", self.image(program.name).display()),
            "-X".to_owned(),
            format!("cds_stats={}", statistics.display()),
        ];
        let python = self.program(&options, program.name);
        let mut command = Command::new("timeout");
        command
            .args(["--signal=KILL", PATIENCE])
            .arg(python.get_program())
            .args(python.get_args());
        command.env_clear();
        command.envs(
            python
                .get_envs()
                .filter_map(|(name, value)| Some((name, value?))),
        );
        if let Some(directory) = python.get_current_dir() {
            command.current_dir(directory);
        }
        let outcome = Outcome::of(&mut command);
        let said = format!("{}{}", outcome.stdout, outcome.stderr);
        if outcome.status != program.expected.status {
            let kind = match outcome.status {
                137 => format!("it did not end within {PATIENCE} seconds"),
                // As timeout(1) reports a signal.
                status if status > 128 => format!("signal {}", status - 128),
                status => format!("status {status}"),
            };
            return Some((kind, said));
        }
        if outcome != program.expected {
            let expected = format!("{}{}", program.expected.stdout, program.expected.stderr);
            let difference = TextDiff::from_lines(&expected, &said);
            let difference = difference.unified_diff().context_radius(0).to_string();
            return Some(("other output".to_owned(), difference));
        }
        match Report::read(&statistics) {
            Ok(report) if report.startup_image.is_some() => None,
            Ok(report) => Some((
                "not restored".to_owned(),
                report.startup_image_refused.unwrap_or_default(),
            )),
            Err(error) => Some(("no statistics".to_owned(), format!("{error:#}"))),
        }
    }
}
