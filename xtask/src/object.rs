//! Makes one relocatable object from a static library that is written in Rust.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use xshell::{Shell, cmd};

use crate::{stamp, workspace};

/// Makes the object from the members of the library that the exports need. Only the symbols with one of the prefixes
/// `exported` stay global: the other symbols could clash with those of a program that links the interpreter's library,
/// or of an extension module written in Rust.
pub fn make(library: &Path, object: &Path, exported: &[&str]) -> Result<()> {
    if let (Ok(made), Ok(from)) = (modified(object), modified(library))
        && made > from
    {
        return Ok(());
    }
    let shell = workspace::shell()?;
    let exports = exports(&shell, library, exported)?;
    let linked = object.with_extension("linked");
    let local = object.with_extension("local");
    let needed = exports.iter().flat_map(|symbol| ["-u", symbol]);
    cmd!(
        shell,
        "ld -r --gc-sections -o {linked} {needed...} {library}"
    )
    .quiet()
    .run()?;
    let kept = exported
        .iter()
        .map(|prefix| format!("--keep-global-symbol={prefix}*"));
    cmd!(shell, "objcopy --wildcard {kept...} {linked} {local}")
        .quiet()
        .run()?;
    stamp::remove_file(&linked)?;
    fs::rename(&local, object).with_context(|| format!("cannot write {}", object.display()))
}

fn modified(path: &Path) -> std::io::Result<std::time::SystemTime> {
    fs::metadata(path)?.modified()
}

fn exports(shell: &Shell, library: &Path, exported: &[&str]) -> Result<Vec<String>> {
    let mut exports = symbols(shell, &["--extern-only", "--defined-only"], library)?;
    exports.retain(|symbol| exported.iter().any(|prefix| symbol.starts_with(prefix)));
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

/// The undefined symbols of an object.
pub fn undefined(object: &Path) -> Result<Vec<String>> {
    let shell = workspace::shell()?;
    symbols(&shell, &["--undefined-only"], object)
}

fn symbols(shell: &Shell, which: &[&str], file: &Path) -> Result<Vec<String>> {
    let listing = cmd!(shell, "nm --format=posix {which...} {file}")
        .quiet()
        .ignore_stderr()
        .read()?;
    let symbols = listing
        .lines()
        .filter_map(|line| line.split_whitespace().next());
    Ok(symbols.map(str::to_owned).collect())
}
