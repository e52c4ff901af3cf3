//! The Rust side of the interpreter: a static library, made into the one object that make links in.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result};

use crate::mirror;
use crate::object;
use crate::progress::Phase;
use crate::workspace::{Build, Workspace};

/// The border: what C may call, and all that stays visible.
const EXPORTS: [&str; 2] = ["_PyCDS_", "PyInit__cds"];

/// Builds the library against the configured headers, and the object from it. Cargo decides what there is to do.
pub fn build(workspace: &Workspace, build: &Build) -> Result<()> {
    let environment = environment(build);
    let lines: String = environment
        .iter()
        .map(|(name, path)| format!("{name}={}\n", path.display()))
        .collect();
    fs::write(workspace.runtime_env(), lines)
        .with_context(|| format!("cannot write {}", workspace.runtime_env().display()))?;

    let phase = Phase::start("Rust runtime");
    // Each build has headers of its own, so each has its own bindings: sharing would make them anew at every switch.
    let target = build.runtime().join("target");
    let mut cargo = workspace.cargo();
    cargo.envs(environment).env_remove("CARGO_BUILD_TARGET");
    cargo
        .args([
            "build",
            "--release",
            "--package",
            "cpython-cds-runtime",
            "--target-dir",
        ])
        .arg(&target);
    if build.profile.has_faults() {
        cargo.args(["--features", "faults"]);
    }
    phase.run(&mut cargo, &build.log("runtime"))?;
    object::make(
        &target.join("release/libcpython_cds.a"),
        &object(build),
        &EXPORTS,
    )?;
    phase.done();
    Ok(())
}

/// Where the runtime's build script finds the interpreter's headers.
pub fn environment(build: &Build) -> [(&'static str, PathBuf); 2] {
    [
        ("CPYTHON_CDS_SRC", build.source()),
        ("CPYTHON_CDS_BUILD", build.objects()),
    ]
}

/// Puts the object where make expects it, if it is not there.
pub fn place(build: &Build) -> Result<()> {
    if !build.is_stock() {
        mirror::update(
            &object(build),
            &build.objects().join("Modules/cds_runtime.o"),
        )?;
    }
    Ok(())
}

fn object(build: &Build) -> PathBuf {
    build.runtime().join("cds_runtime.o")
}
