//! What the user sees while a command runs: one line for each phase, with a spinner and the last line of the log.

use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, IsTerminal, Write};
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use indicatif::{ProgressBar, ProgressStyle};

/// If stderr is not a terminal, a phase prints a line after this time, and then at intervals of [`HEARTBEAT`].
const PATIENCE: Duration = Duration::from_secs(2);
const HEARTBEAT: Duration = Duration::from_secs(60);
const TAIL: usize = 30;

/// A step that takes some time.
pub struct Phase {
    title: String,
    bar: Option<ProgressBar>,
    start: Instant,
}

impl Phase {
    pub fn start(title: impl Into<String>) -> Self {
        let title = title.into();
        let bar = io::stderr().is_terminal().then(|| {
            let bar = ProgressBar::new_spinner();
            let style =
                ProgressStyle::with_template("{spinner} {prefix} {elapsed:>5}  {wide_msg:.dim}");
            bar.set_style(style.expect("a valid template"));
            bar.set_prefix(format!("{title:<34}"));
            bar.enable_steady_tick(Duration::from_millis(120));
            bar
        });
        Self {
            title,
            bar,
            start: Instant::now(),
        }
    }

    /// A phase that transfers `total` bytes.
    pub fn transfer(title: impl Into<String>, total: u64) -> Self {
        let phase = Self::start(title);
        if let Some(bar) = &phase.bar {
            bar.disable_steady_tick();
            let style =
                "  {prefix} {elapsed:>5}  {bar:30} {bytes}/{total_bytes} {bytes_per_sec} {eta}";
            bar.set_style(ProgressStyle::with_template(style).expect("a valid template"));
            bar.set_length(total);
        } else {
            eprintln!("  {} ...", phase.title);
        }
        phase
    }

    /// Shows how many bytes have been transferred.
    pub fn reach(&self, bytes: u64) {
        if let Some(bar) = &self.bar {
            bar.set_position(bytes);
        }
    }

    /// Ends the phase with its elapsed time.
    pub fn done(self) {
        self.note("");
    }

    /// Ends the phase with its elapsed time, and shows whether it failed.
    pub fn end<T>(self, result: Result<T>) -> Result<T> {
        self.note(if result.is_ok() { "" } else { "failed" });
        result
    }

    fn note(self, remark: &str) {
        let elapsed = self.start.elapsed().as_secs_f64();
        let line = format!("  {:<34} {elapsed:>7.1} s  {remark}", self.title);
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
        eprintln!("{}", line.trim_end());
    }

    /// Runs a command with all its output in `log`. If the command fails, the error shows the end of the log.
    pub fn run(&self, command: &mut Command, log: &Path) -> Result<()> {
        let program = command.get_program().to_string_lossy().into_owned();
        let mut file = create_log(log)?;
        writeln!(file, "$ {command:?}")?;
        let (reader, writer) = io::pipe().context("cannot create a pipe")?;
        command.stdin(std::process::Stdio::null());
        command.stdout(writer.try_clone()?).stderr(writer);
        let mut child = command
            .spawn()
            .with_context(|| format!("cannot run {program}"))?;
        // The command has the write ends of the pipe. The reader gets an end of file when the last one is closed.
        command
            .stdout(std::process::Stdio::null())
            .stderr(std::process::Stdio::null());
        self.follow(reader, &mut file)?;
        let status = child
            .wait()
            .with_context(|| format!("cannot wait for {program}"))?;
        if !status.success() {
            bail!(
                "{program} failed ({status}); the end of {}:\n{}",
                log.display(),
                tail(log)?
            );
        }
        Ok(())
    }

    fn follow(&self, output: io::PipeReader, log: &mut File) -> Result<()> {
        let mut due = self.start + PATIENCE;
        let mut output = BufReader::new(output);
        let mut line = Vec::new();
        while output.read_until(b'\n', &mut line)? > 0 {
            log.write_all(&line)?;
            let text = String::from_utf8_lossy(&line);
            if let Some(bar) = &self.bar {
                bar.set_message(text.trim().to_owned());
            } else if Instant::now() >= due {
                due = Instant::now() + HEARTBEAT;
                eprintln!(
                    "  {:<34} {:>7.1} s  ...",
                    self.title,
                    self.start.elapsed().as_secs_f64()
                );
            }
            line.clear();
        }
        Ok(())
    }
}

impl Drop for Phase {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

fn create_log(log: &Path) -> Result<File> {
    if let Some(dir) = log.parent() {
        fs::create_dir_all(dir).with_context(|| format!("cannot create {}", dir.display()))?;
    }
    File::create(log).with_context(|| format!("cannot create {}", log.display()))
}

fn tail(log: &Path) -> Result<String> {
    let text = fs::read(log).with_context(|| format!("cannot read {}", log.display()))?;
    let text = String::from_utf8_lossy(&text);
    let lines: Vec<_> = text.lines().collect();
    let end = &lines[lines.len().saturating_sub(TAIL)..];
    Ok(end.iter().map(|line| format!("    {line}\n")).collect())
}
