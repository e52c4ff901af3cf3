//! Runs a program and measures its time and memory.

use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use nix::sys::resource::{UsageWho, getrusage};
use serde::{Deserialize, Serialize};
use wait4::Wait4;

/// The measurements of one run.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub struct Run {
    /// Wall time from before the process is created until after it has ended.
    pub wall_ms: f64,
    /// Processor time of the program, in user mode and in the kernel.
    pub cpu_ms: f64,
    /// Page faults, minor and major.
    pub faults: u64,
    /// Largest resident set. It is at least that of the measuring process, from which the process is forked.
    pub peak_rss_kb: u64,
}

/// Runs a command, which has to succeed: a program that fails ends early. No other child may end meanwhile.
pub fn run(command: &mut Command) -> Result<Run> {
    command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    let before = faults()?;
    let start = Instant::now();
    let child = command
        .spawn()
        .with_context(|| format!("cannot run {command:?}"))?;
    let end = child.wait4().context("cannot wait for a process")?;
    let wall = start.elapsed();
    ensure!(end.status.success(), "{command:?} failed ({})", end.status);
    Ok(Run {
        wall_ms: wall.as_secs_f64() * 1e3,
        cpu_ms: (end.rusage.utime + end.rusage.stime).as_secs_f64() * 1e3,
        faults: faults()? - before,
        peak_rss_kb: end.rusage.maxrss / 1024,
    })
}

/// Page faults of all children that have ended.
fn faults() -> Result<u64> {
    let usage = getrusage(UsageWho::RUSAGE_CHILDREN).context("cannot read the use of resources")?;
    Ok((usage.minor_page_faults() + usage.major_page_faults()) as u64)
}

/// The median of at least one value.
pub fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    if sorted.len() % 2 == 1 {
        sorted[middle]
    } else {
        (sorted[middle - 1] + sorted[middle]) / 2.0
    }
}

/// Keeps this process and its children on one processor if the kernel allows it: moving between processors costs time.
pub fn pin() -> Option<usize> {
    use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
    let allowed = sched_getaffinity(None).ok()?;
    let last = (0..CpuSet::MAX_CPU)
        .rev()
        .find(|cpu| allowed.is_set(*cpu))?;
    let mut one = CpuSet::new();
    one.set(last);
    sched_setaffinity(None, &one).ok()?;
    Some(last)
}
