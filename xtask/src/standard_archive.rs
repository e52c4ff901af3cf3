//! The archive of the standard library, `lib/python3.13-stdlib.img`, which the interpreter uses by default.
//!
//! It is dumped twice. Training runs use the first archive. The second archive places the objects together that these
//! runs wrote to, and contains the regular expressions that they compiled.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};
use walkdir::WalkDir;

use crate::digest::Inputs;
use crate::interpreter;
use crate::progress::Phase;
use crate::stamp::{self, Stamp};
use crate::workspace::{Build, Workspace};

/// As with `-I`, but with [`HASH_SEED`]. Debug builds use frozen modules only with the last option.
const OPTIONS: [&str; 4] = ["-P", "-s", "-X", "frozen_modules=on"];

/// The order of sets is the same each time, so that two archives of the same installation are equal.
const HASH_SEED: (&str, &str) = ("PYTHONHASHSEED", "0");

/// Dumps the archive of a build, unless its inputs are unchanged.
pub fn dump(workspace: &Workspace, build: &Build) -> Result<()> {
    let installation = build.installation();
    let program = interpreter::program(&installation)?;
    let library = interpreter::library(&installation)?;
    let inputs = inputs(&program, &library, &training(workspace))?;
    let stamp = Stamp::new(build.objects().join("standard-archive.stamp"));
    if stamp.is(&inputs) && path(&library)?.is_file() {
        return Ok(());
    }
    stamp.clear()?;
    make(workspace, &installation, &build.log("standard-archive"))?;
    stamp.set(&inputs)
}

/// Dumps the archive of an installation.
pub fn make(workspace: &Workspace, installation: &Path, log: &Path) -> Result<()> {
    let phase = Phase::start("archive the standard library");
    let program = interpreter::program(installation)?;
    let archive = path(&interpreter::library(installation)?)?;
    stamp::remove_file(&archive)?;
    let python = |arguments: &[&str]| {
        let mut command = interpreter::python_free(&program);
        command.env(HASH_SEED.0, HASH_SEED.1);
        command.args(OPTIONS).args(arguments);
        command
    };
    let dump = |profiles: &[String], lists: &[&Path]| -> Result<()> {
        let mut command = python(&["-X", "cds=off", "-m", "cds", "dump", "--quiet", "--stdlib"]);
        for profile in profiles {
            command.args(["--profile", profile]);
        }
        phase.run(command.args(lists).arg(&archive), log)
    };
    dump(&[], &[])?;
    // The archive contains the command that has dumped it, so the paths must be the same each time.
    let directory = workspace.cpython().join("training");
    stamp::remove_dir(&directory)?;
    fs::create_dir_all(&directory)
        .with_context(|| format!("cannot create {}", directory.display()))?;
    let list = directory.join("list");
    let trace = format!("cds_trace={}", list.display());
    let mut profiles = Vec::new();
    let training = training(workspace);
    let script = |name: &str| training.join(name).to_string_lossy().into_owned();
    let (imports, wider) = (script("imports.py"), script("wider_imports.py"));
    for (name, run) in [
        ("start", &["-c", "pass"][..]),
        ("imports", &[&*imports][..]),
        ("wider", &[&*wider][..]),
    ] {
        let profile = directory.join(name).to_string_lossy().into_owned();
        let option = format!("cds_profile={profile}");
        let mut command: Command = python(&["-X", &option, "-X", &trace]);
        phase.run(command.args(run), log)?;
        profiles.push(profile);
    }
    dump(&profiles, &[&list])?;
    phase.done();
    Ok(())
}

fn training(workspace: &Workspace) -> PathBuf {
    workspace.root().join("runtime/training")
}

/// The archive is next to the standard library and not in it: a file there would change the directory, whose
/// modification time is in the archive.
fn path(library: &Path) -> Result<PathBuf> {
    let name = library
        .file_name()
        .context("the standard library has a name")?;
    Ok(library.with_file_name(format!("{}-stdlib.img", name.to_string_lossy())))
}

/// The interpreter, and all files and directories whose modification times are in the archive.
fn inputs(program: &Path, library: &Path, training: &Path) -> Result<String> {
    let mut inputs = Inputs::new();
    for option in OPTIONS {
        inputs.add(option);
    }
    inputs.add_times(program)?;
    for entry in WalkDir::new(training).sort_by_file_name() {
        inputs.add_times(entry.context("cannot read the training programs")?.path())?;
    }
    let entries = WalkDir::new(library).sort_by_file_name().into_iter();
    let left_out = ["__pycache__", "site-packages"];
    for entry in
        entries.filter_entry(|entry| left_out.iter().all(|name| entry.file_name() != *name))
    {
        inputs.add_times(entry.context("cannot read the standard library")?.path())?;
    }
    Ok(inputs.finish())
}
