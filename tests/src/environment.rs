//! A virtual environment with the packages of the workloads.

use std::env;
use std::fs::{self, File};
use std::io::{self, BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail, ensure};
use sha2::{Digest, Sha256};

use crate::progress::Progress;
use crate::{Outcome, clean, repository};

/// Lines of pip's output that an error shows.
const TAIL: usize = 10;

/// Packages, a working directory (for the workloads, with a Django project), and a directory for archives. A lock keeps
/// other test runs out: a program that runs at the same time could write `.pyc` files between a dump and the run that
/// uses it.
pub struct Environment {
    directory: PathBuf,
    _lock: File,
}

impl Environment {
    /// Makes the environment of the workloads for an interpreter, or reuses it if it exists.
    pub fn new(interpreter: &Path) -> Result<Self> {
        const PROJECT: &[&str] = &["-m", "django", "startproject", "site30", "."];
        Self::with(interpreter, "requirements.lock", PROJECT)
    }

    /// Makes an environment with the packages of a list, or reuses it. `furnish` has the arguments of a command of the
    /// interpreter that fills the working directory of a new environment.
    pub fn with(interpreter: &Path, packages: &str, furnish: &[&str]) -> Result<Self> {
        let interpreter = fs::canonicalize(interpreter)
            .with_context(|| format!("there is no interpreter {}", interpreter.display()))?;
        let requirements = workloads().join(packages);
        let wanted = format!(
            "{}\n{}",
            interpreter.display(),
            fs::read_to_string(&requirements)
                .with_context(|| format!("cannot read {}", requirements.display()))?
        );
        let directory = repository().join("target/workloads").join(key(&wanted));
        fs::create_dir_all(&directory)
            .with_context(|| format!("cannot create {}", directory.display()))?;
        let environment = Self {
            _lock: lock(&directory.join("lock"))?,
            directory: fs::canonicalize(&directory)
                .with_context(|| format!("cannot find {}", directory.display()))?,
        };
        let made = environment.directory.join("made-for.txt");
        if fs::read_to_string(&made).is_ok_and(|text| text == wanted) {
            return Ok(environment);
        }
        environment.make(&interpreter, &requirements, furnish)?;
        fs::write(&made, wanted).with_context(|| format!("cannot write {}", made.display()))?;
        Ok(environment)
    }

    fn make(&self, interpreter: &Path, requirements: &Path, furnish: &[&str]) -> Result<()> {
        let progress = Progress::start(format!("packages for {}", interpreter.display()));
        for part in [self.venv(), self.work(), self.archives()] {
            if part.exists() {
                fs::remove_dir_all(&part)
                    .with_context(|| format!("cannot remove {}", part.display()))?;
            }
        }
        for part in [self.work(), self.archives()] {
            fs::create_dir(&part).with_context(|| format!("cannot create {}", part.display()))?;
        }
        progress.say("make the virtual environment");
        let mut venv = Command::new(interpreter);
        clean(&mut venv);
        succeed(venv.args(["-m", "venv"]).arg(self.venv()))?;

        let mut pip = Command::new(self.python());
        // Variables may say where pip gets packages from, but must not affect Python.
        for (name, _) in env::vars_os() {
            if name.to_string_lossy().starts_with("PYTHON") {
                pip.env_remove(name);
            }
        }
        pip.args(["-m", "pip", "install", "--disable-pip-version-check"])
            .args(["--progress-bar", "off", "--no-deps"])
            .args(["--only-binary", ":all:", "--require-hashes", "-r"])
            .arg(requirements);
        follow(&mut pip, &progress).with_context(|| {
            format!("cannot install the packages of {}", requirements.display())
        })?;

        if !furnish.is_empty() {
            progress.say("furnish the working directory");
            succeed(self.command(&[]).args(furnish))?;
        }
        progress.done();
        Ok(())
    }

    /// The directory that contains all parts of this environment.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    fn venv(&self) -> PathBuf {
        self.directory.join("venv")
    }

    /// The working directory of programs. Nothing is written here, because a dump would find a changed directory out of
    /// date.
    fn work(&self) -> PathBuf {
        self.directory.join("work")
    }

    pub fn archives(&self) -> PathBuf {
        self.directory.join("archives")
    }

    fn python(&self) -> PathBuf {
        self.venv().join("bin/python")
    }

    /// The interpreter of the environment with these options, in the working directory.
    pub fn command(&self, options: &[String]) -> Command {
        let mut command = Command::new(self.python());
        clean(&mut command);
        command.current_dir(self.work()).args(options);
        command
    }
}

/// The scripts and the requirements.
pub fn workloads() -> PathBuf {
    repository().join("tests/workloads")
}

fn key(text: &str) -> String {
    let digest = Sha256::digest(text);
    digest[..6]
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

pub fn lock(path: &Path) -> Result<File> {
    let file = File::create(path).with_context(|| format!("cannot create {}", path.display()))?;
    if file.try_lock().is_err() {
        eprintln!("waiting for another run of the workloads to finish");
        file.lock()
            .with_context(|| format!("cannot lock {}", path.display()))?;
    }
    Ok(file)
}

/// Runs a command.
///
/// # Errors
/// The output of the command, if it fails.
pub fn succeed(command: &mut Command) -> Result<()> {
    let outcome = Outcome::of(command);
    ensure!(
        outcome.status == 0,
        "{command:?} failed (status {}):\n{}{}",
        outcome.status,
        outcome.stdout,
        outcome.stderr
    );
    Ok(())
}

/// Runs a command and shows each line that it prints.
fn follow(command: &mut Command, progress: &Progress) -> Result<()> {
    let (reader, writer) = io::pipe().context("cannot create a pipe")?;
    let mut child = command
        .stdin(Stdio::null())
        .stdout(writer.try_clone().context("cannot create a pipe")?)
        .stderr(writer)
        .spawn()
        .context("cannot run pip")?;
    // `command` holds the writing ends. The pipe ends only when the last of them is closed.
    command.stdout(Stdio::null()).stderr(Stdio::null());
    let mut said = Vec::new();
    for line in BufReader::new(reader).split(b'\n') {
        let line =
            String::from_utf8_lossy(&line.context("cannot read the output of pip")?).into_owned();
        progress.say(&line);
        said.push(line);
    }
    let status = child.wait().context("cannot wait for pip")?;
    if !status.success() {
        let tail = &said[said.len().saturating_sub(TAIL)..];
        bail!("pip failed ({status}):\n{}", tail.join("\n"));
    }
    Ok(())
}
