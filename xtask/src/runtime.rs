//! The Rust side of the interpreter: a static library, made into the one object that make links in.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};

use crate::mirror;
use crate::progress::Phase;
use crate::stamp;
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
    let mut cargo = Command::new(env::var_os("CARGO").unwrap_or("cargo".into()));
    cargo
        .current_dir(workspace.root())
        .envs(environment)
        .env_remove("CARGO_BUILD_TARGET");
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
    link(&target.join("release/libcpython_cds.a"), &object(build))?;
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
    if !build.stock {
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

/// Makes one relocatable object of the members of the library that the exports need, with no other symbol visible:
/// whoever links the interpreter's library, or loads an extension module written in Rust, must not meet ours.
fn link(library: &Path, object: &Path) -> Result<()> {
    if let (Ok(made), Ok(from)) = (modified(object), modified(library))
        && made > from
    {
        return Ok(());
    }
    let exports = exports(library)?;
    let linked = object.with_extension("linked");
    let local = object.with_extension("local");
    let mut ld = Command::new("ld");
    ld.args(["-r", "--gc-sections", "-o"]).arg(&linked);
    for symbol in &exports {
        ld.arg("-u").arg(symbol);
    }
    run(ld.arg(library))?;
    let mut objcopy = Command::new("objcopy");
    objcopy.arg("--wildcard");
    for prefix in EXPORTS {
        objcopy.arg(format!("--keep-global-symbol={prefix}*"));
    }
    run(objcopy.arg(&linked).arg(&local))?;
    stamp::remove_file(&linked)?;
    fs::rename(&local, object).with_context(|| format!("cannot write {}", object.display()))
}

fn modified(path: &Path) -> std::io::Result<std::time::SystemTime> {
    fs::metadata(path)?.modified()
}

fn exports(library: &Path) -> Result<Vec<String>> {
    let listing = run(Command::new("nm")
        .args(["--extern-only", "--defined-only", "--format=posix"])
        .arg(library))?;
    let symbols = listing
        .lines()
        .filter_map(|line| line.split_whitespace().next());
    let exports = symbols.filter(|symbol| EXPORTS.iter().any(|prefix| symbol.starts_with(prefix)));
    let mut exports: Vec<_> = exports.map(str::to_owned).collect();
    exports.sort();
    exports.dedup();
    ensure!(
        !exports.is_empty(),
        "{} exports nothing that begins with {}",
        library.display(),
        EXPORTS.join(" or ")
    );
    Ok(exports)
}

/// Runs a command and returns its output.
pub fn run(command: &mut Command) -> Result<String> {
    let program = command.get_program().to_string_lossy().into_owned();
    let output = command
        .output()
        .with_context(|| format!("cannot run {program}"))?;
    if !output.status.success() {
        bail!(
            "{program} failed: {}",
            String::from_utf8_lossy(&output.stderr).trim_end()
        );
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
