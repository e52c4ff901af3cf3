//! Instructions that a program executes, which do not depend on what else the machine does.

use std::ffi::OsStr;
use std::fs;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};

/// Counts with valgrind's callgrind.
///
/// # Errors
/// Without valgrind, which says how to get it.
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
        // Valgrind makes the addresses the same each time; the hashes of strings shall be too.
        .env("PYTHONHASHSEED", "0")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    if let Some(directory) = command.get_current_dir() {
        valgrind.current_dir(directory);
    }
    let status = valgrind.status().with_context(|| {
        format!(
            "instructions are counted by {:?}, which cannot be run (apt install valgrind)",
            OsStr::new("valgrind")
        )
    })?;
    ensure!(status.success(), "{valgrind:?} failed ({status})");
    let text = fs::read_to_string(file.path()).context("valgrind left no counts")?;
    let mut lines = text.lines();
    let total = lines.find_map(|line| {
        let total = line
            .strip_prefix("totals: ")
            .or_else(|| line.strip_prefix("summary: "))?;
        total.trim().parse().ok()
    });
    total.context("valgrind's counts are not understood")
}
