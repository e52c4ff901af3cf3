//! The memory of a fleet: processes with the same imports.

use std::fs;
use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result, bail};
use cpython_cds_tests::workload::{ALL, Workload};

use crate::contenders::Interpreters;
use crate::progress::Progress;
use crate::results::Memory;
use crate::results::contender::{ARCHIVE, STOCK};

const PROGRAM: &str = include_str!("fleet.py");

const SIZES: [usize; 6] = [1, 2, 4, 8, 16, 32];

/// Measures a fleet of stock, and a fleet with pandas' archive.
pub fn measure(interpreters: &Interpreters) -> Result<Vec<Memory>> {
    let mut workloads = ALL.into_iter();
    let pandas = workloads
        .find(|workload| workload.name == "pandas")
        .context("there is no workload pandas")?;
    pandas.check(&interpreters.patched, None, |_| ())?;
    let mut found = fleet(STOCK, || stock(interpreters))?;
    found.extend(fleet(ARCHIVE, || archive(interpreters, &pandas))?);
    Ok(found)
}

fn stock(interpreters: &Interpreters) -> Command {
    interpreters.stock.command(&[])
}

fn archive(interpreters: &Interpreters, pandas: &Workload) -> Command {
    let mut command = interpreters.patched.command(&[]);
    command.args(pandas.archive_options(&interpreters.patched));
    command
}

/// Starts the processes one after the other. At each size of the fleet, reads the memory of all processes.
fn fleet(contender: &str, command: impl Fn() -> Command) -> Result<Vec<Memory>> {
    // A separate process counts the objects, because counting needs memory that a fleet does not need.
    let counted = Member::start(command(), true)?;
    let code_bytes = counted.code_bytes;
    drop(counted);
    let mut members = Vec::new();
    let mut found = Vec::new();
    let last = SIZES.into_iter().max().unwrap_or(0);
    let progress = Progress::start(&format!("fleet, {contender}"), last as u64);
    for processes in SIZES {
        while members.len() < processes {
            members.push(Member::start(command(), false)?);
            progress.step();
        }
        let mut memory = Memory {
            contender: contender.to_owned(),
            processes,
            pss_kb: 0,
            code_kb: code_bytes / 1024 * processes as u64,
            archive_private_kb: 0,
        };
        for member in &members {
            member.add_to(&mut memory)?;
        }
        found.push(memory);
    }
    Ok(found)
}

/// A process that waits. It ends when this value is dropped.
struct Member {
    child: Child,
    /// The size of code objects outside of archives, 0 if they were not counted.
    code_bytes: u64,
}

impl Member {
    fn start(mut command: Command, counts: bool) -> Result<Self> {
        command.args(["-c", PROGRAM]);
        if counts {
            command.arg("count");
        }
        let mut child = command
            // The processes of a fleet use one thread each.
            .env("OPENBLAS_NUM_THREADS", "1")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .with_context(|| format!("cannot run {command:?}"))?;
        let stdout = child.stdout.take().context("the process has no stdout")?;
        let mut line = String::new();
        BufReader::new(stdout)
            .read_line(&mut line)
            .context("cannot read from a process of the fleet")?;
        match line.trim().parse() {
            Ok(code_bytes) => Ok(Self { child, code_bytes }),
            Err(_) => bail!("a process of the fleet answers {line:?}"),
        }
    }

    /// Adds the memory that the kernel counts for the process (proc_pid_smaps(5)).
    fn add_to(&self, memory: &mut Memory) -> Result<()> {
        let path = format!("/proc/{}/smaps", self.child.id());
        let smaps = fs::read_to_string(&path).with_context(|| format!("cannot read {path}"))?;
        let mut in_archive = false;
        for line in smaps.lines() {
            let kilobytes = |field: &str| -> Option<u64> {
                let value = line.strip_prefix(field)?.trim().strip_suffix(" kB")?;
                value.parse().ok()
            };
            if let Some(pss) = kilobytes("Pss:") {
                memory.pss_kb += pss;
                memory.code_kb += if in_archive { pss } else { 0 };
            } else if let Some(private) = kilobytes("Private_Dirty:") {
                memory.archive_private_kb += if in_archive { private } else { 0 };
            } else if line
                .split(' ')
                .next()
                .is_some_and(|range| range.contains('-'))
            {
                in_archive = line.ends_with(".img");
            }
        }
        Ok(())
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        drop(self.child.stdin.take());
        let _ = self.child.wait();
    }
}
