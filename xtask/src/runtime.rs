//! Builds the Rust part of the interpreter: a static library, and from it the object that make links.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result};

use crate::mirror;
use crate::object;
use crate::progress::Phase;
use crate::workspace::{Build, Workspace};

/// Prefixes of the functions that C calls. All other symbols are local.
const EXPORTS: [&str; 2] = ["_PyCDS_", "PyInit__cds"];

/// Builds the library with the configured headers, and the object from it. Cargo decides what must be built.
pub fn build(workspace: &Workspace, build: &Build) -> Result<()> {
    let environment = environment(build);
    let lines: String = environment
        .iter()
        .map(|(name, path)| format!("{name}={}\n", path.display()))
        .collect();
    fs::write(workspace.runtime_env(), lines)
        .with_context(|| format!("cannot write {}", workspace.runtime_env().display()))?;

    let phase = Phase::start("Rust runtime");
    // Each build has its own headers, and so its own bindings and target directory. In a shared directory, the
    // bindings would be generated again after each change to another build.
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
