//! Builds the launcher, the interpreter's entry point, and the options that link it into the interpreter.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result, ensure};

use crate::mirror;
use crate::object;
use crate::progress::Phase;
use crate::workspace::{Build, Workspace};

const ENTRY: &str = "cds_start";
const OBJECT: &str = "Programs/cds_launcher.o";
/// The linker's options for the interpreter.
const ARGUMENTS: &str = "Programs/cds_launcher.args";
/// The only undefined symbols that the launcher may have: it runs before anything is relocated.
const KNOWN: [&str; 3] = ["_PyCDS_entries", "_PyCDS_refusal", "_start"];

/// Whether there is a launcher for this architecture.
const EXISTS: bool = cfg!(target_arch = "x86_64");

/// Builds the launcher. Cargo decides what must be built.
pub fn build(workspace: &Workspace, build: &Build) -> Result<()> {
    fs::create_dir_all(build.runtime())
        .with_context(|| format!("cannot create {}", build.runtime().display()))?;
    let mut arguments = String::new();
    if EXISTS {
        let phase = Phase::start("launcher");
        let target = build.runtime().join("target");
        let mut cargo = workspace.cargo();
        cargo.env_remove("CARGO_BUILD_TARGET");
        cargo.args(["build", "--profile", "launcher", "--package", "launcher"]);
        cargo.arg("--target-dir").arg(&target);
        phase.run(&mut cargo, &build.log("launcher"))?;
        let made = made(build, OBJECT);
        object::make(&target.join("launcher/libcds_launcher.a"), &made, &[ENTRY])?;
        let undefined = object::undefined(&made)?;
        ensure!(
            undefined.iter().all(|symbol| KNOWN.contains(&&**symbol)),
            "the launcher uses symbols that it must not use: {}",
            undefined.join(", ")
        );
        phase.done();
        arguments = format!("{OBJECT}\n-Wl,--no-dynamic-linker\n-Wl,--entry={ENTRY}\n");
    }
    fs::write(made(build, ARGUMENTS), arguments).context("cannot write the linker's options")
}

/// Puts the launcher where make expects it, if it is not there.
pub fn place(build: &Build) -> Result<()> {
    if build.is_stock() {
        return Ok(());
    }
    let names = if EXISTS {
        &[OBJECT, ARGUMENTS][..]
    } else {
        &[ARGUMENTS]
    };
    for name in names {
        mirror::update(&made(build, name), &build.objects().join(name))?;
    }
    Ok(())
}

fn made(build: &Build, name: &str) -> PathBuf {
    build.runtime().join(name.trim_start_matches("Programs/"))
}
