//! The number of instructions that a program executes, which does not depend on the load of the machine.

use std::ffi::OsStr;
use std::fs;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};

/// Counts the instructions of a command with valgrind's callgrind.
///
/// # Errors
/// Valgrind is not installed; the error says how to install it.
pub fn count(command: &Command) -> Result<u64> {
    let file = tempfile::NamedTempFile::new().context("cannot create a temporary file")?;
    let mut valgrind = Command::new("valgrind");
    valgrind
        .args(["--tool=callgrind", "--quiet"])
        .arg(format!("--callgrind-out-file={}", file.path().display()))
        .arg(command.get_program())
        .args(command.get_args())
        .env_clear()
        .envs(
            command
                .get_envs()
                .filter_map(|(name, value)| Some((name, value?))),
        )
        .env("PATH", std::env::var_os("PATH").unwrap_or_default())
        // Valgrind uses the same addresses each time; with this variable, the hashes of strings are the same, too.
        .env("PYTHONHASHSEED", "0")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    if let Some(directory) = command.get_current_dir() {
        valgrind.current_dir(directory);
    }
    let status = valgrind.status().with_context(|| {
        format!(
            "cannot run {:?}, which counts instructions (apt install valgrind)",
            OsStr::new("valgrind")
        )
    })?;
    ensure!(status.success(), "{valgrind:?} failed ({status})");
    let text = fs::read_to_string(file.path()).context("cannot read the counts of valgrind")?;
    let mut lines = text.lines();
    let total = lines.find_map(|line| {
        let total = line
            .strip_prefix("totals: ")
            .or_else(|| line.strip_prefix("summary: "))?;
        total.trim().parse().ok()
    });
    total.context("the counts of valgrind contain no total")
}
