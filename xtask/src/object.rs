//! Making one relocatable object of a static library that is written in Rust.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};

use crate::stamp;

/// Makes the object of the members of the library that the exports need. All symbols are visible that begin with one of
/// these texts, and no other: whoever links the interpreter's library, or loads an extension module written in Rust, must
/// not meet ours.
pub fn make(library: &Path, object: &Path, exported: &[&str]) -> Result<()> {
    if let (Ok(made), Ok(from)) = (modified(object), modified(library))
        && made > from
    {
        return Ok(());
    }
    let exports = exports(library, exported)?;
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
    for prefix in exported {
        objcopy.arg(format!("--keep-global-symbol={prefix}*"));
    }
    run(objcopy.arg(&linked).arg(&local))?;
    stamp::remove_file(&linked)?;
    fs::rename(&local, object).with_context(|| format!("cannot write {}", object.display()))
}

fn modified(path: &Path) -> std::io::Result<std::time::SystemTime> {
    fs::metadata(path)?.modified()
}

fn exports(library: &Path, exported: &[&str]) -> Result<Vec<String>> {
    let listing = run(Command::new("nm")
        .args(["--extern-only", "--defined-only", "--format=posix"])
        .arg(library))?;
    let symbols = listing
        .lines()
        .filter_map(|line| line.split_whitespace().next());
    let exports = symbols.filter(|symbol| exported.iter().any(|prefix| symbol.starts_with(prefix)));
    let mut exports: Vec<_> = exports.map(str::to_owned).collect();
    exports.sort();
    exports.dedup();
    ensure!(
        !exports.is_empty(),
        "{} exports nothing that begins with {}",
        library.display(),
        exported.join(" or ")
    );
    Ok(exports)
}

/// The symbols that an object needs and does not have.
pub fn undefined(object: &Path) -> Result<Vec<String>> {
    let listing = run(Command::new("nm")
        .args(["--undefined-only", "--format=posix"])
        .arg(object))?;
    let symbols = listing
        .lines()
        .filter_map(|line| line.split_whitespace().next());
    Ok(symbols.map(str::to_owned).collect())
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
