//! The lower limit for the time of a start: a fork of a process that has done the imports.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use anyhow::{Context, Result, bail};
use cpython_cds_tests::environment::Environment;
use cpython_cds_tests::measure::Run;
use cpython_cds_tests::workload::Workload;

const PROGRAM: &str = include_str!("fork_floor.py");

/// A process that forks on request. It ends when this value is dropped.
pub struct ForkServer {
    child: Child,
    requests: Option<ChildStdin>,
    answers: BufReader<ChildStdout>,
}

impl ForkServer {
    /// Starts a process of an environment, which imports the modules of a list.
    pub fn start(environment: &Environment, list: &Path, workload: &Workload) -> Result<Self> {
        let mut command: Command = environment.command(&[]);
        command
            .args(["-c", PROGRAM])
            .arg(list)
            .args(workload.arguments());
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .context("cannot start the process that forks")?;
        let answers = child.stdout.take().context("the process has no stdout")?;
        let mut server = Self {
            requests: child.stdin.take(),
            answers: BufReader::new(answers),
            child,
        };
        match server.answer()?.as_str() {
            "warm" => Ok(server),
            other => bail!("the process that forks is not ready: {other:?}"),
        }
    }

    /// Runs the program in a fork.
    pub fn run(&mut self) -> Result<Run> {
        let requests = self.requests.as_mut().context("the process is closed")?;
        writeln!(requests, "go").context("cannot ask for a fork")?;
        let answer = self.answer()?;
        let seconds: f64 = answer
            .parse()
            .with_context(|| format!("the process that forks answers {answer:?}"))?;
        Ok(Run {
            wall_ms: seconds * 1e3,
            cpu_ms: 0.0,
            faults: 0,
            peak_rss_kb: 0,
        })
    }

    fn answer(&mut self) -> Result<String> {
        let mut line = String::new();
        self.answers
            .read_line(&mut line)
            .context("cannot read from the process that forks")?;
        Ok(line.trim().to_owned())
    }
}

impl Drop for ForkServer {
    fn drop(&mut self) {
        drop(self.requests.take());
        // The process ends at the end of its input.
        let _ = self.child.wait();
    }
}
