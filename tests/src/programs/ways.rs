//! Runs a program in one context in all ways.

use std::collections::{BTreeMap, VecDeque};
use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result};
use similar::{ChangeTag, TextDiff};
use wait4::Wait4;

use super::contexts::Context;
use super::data::Program;
use super::normal::Normal;
use super::point::Point;
use super::scratch::Scratch;
use super::startup::Startup;
use super::way::{Files, Way, options, started};
use crate::report::Report;
use crate::{Outcome, are_settled};

/// Runs of each way.
const RUNS: usize = 3;

/// The results of the runs in one context.
pub struct Findings {
    pub context: Context,
    /// The differences, as text for people.
    pub differences: Vec<String>,
    /// Whether two plain runs differ.
    pub is_unsteady: bool,
    /// Whether the last run was restored, or why it was not.
    pub restored: Result<(), String>,
    /// The point at which the program of the image was stopped.
    pub point: Point,
    /// Processor time of the last runs: plain, with the archive, with the image.
    pub cpu_ms: [f64; 3],
    pub startup: Option<Startup>,
}

/// The results of one run. `text` is for comparison.
struct Run {
    text: String,
    cpu_ms: f64,
    restored: Result<(), String>,
}

/// Runs a program in a context.
pub fn check(program: &Program, scratch: &mut Scratch, context: Context) -> Result<Findings> {
    let normal = Normal::new(program)?;
    // The first runs write `.pyc` files, which changes directories.
    scratch.restore();
    scratch.forget_times();
    let mut runs = Vec::new();
    let mut differences = Vec::new();
    // The texts of the plain runs: one text for all runs if each run finds the same files, otherwise one for each run.
    let mut expected: BTreeMap<usize, String> = BTreeMap::new();
    let mut is_unsteady = false;
    for way in [Way::Plain, Way::Archive, Way::Image] {
        let mut last = None;
        for number in 1..=RUNS {
            if number == 1 || !program.keeps_files {
                scratch.restore();
            }
            let run = run(program, scratch, context, way, &normal)?;
            if way == Way::Plain && number == 1 {
                scratch.forget_times();
            }
            let state = if program.keeps_files { number } else { 0 };
            match expected.get(&state) {
                Some(expected) if *expected != run.text => {
                    let title = format!("{}, {} {number}", context.name(), way.name());
                    is_unsteady |= way == Way::Plain;
                    differences.push(difference(&title, expected, &run.text));
                }
                Some(_) => {}
                // The first run may find no compiled code.
                None if number == 1 && state == 0 => {}
                None => {
                    expected.insert(state, run.text.clone());
                }
            }
            last = Some(run);
        }
        runs.extend(last);
    }
    let cpu_ms = [0, 1, 2].map(|way| runs.get(way).map_or(0.0, |run| run.cpu_ms));
    let [archived, image] = [Way::Archive, Way::Image].map(|way| Files::new(scratch, context, way));
    let point = Point::of(&archived.stats, &image.stats, scratch);
    let restored = runs.pop().map_or(Err(String::new()), |run| run.restored);
    let startup = match restored {
        Ok(()) => Startup::of(program, scratch, context)?,
        Err(_) => None,
    };
    Ok(Findings {
        context,
        differences,
        is_unsteady,
        restored,
        point,
        cpu_ms,
        startup,
    })
}

fn run(
    program: &Program,
    scratch: &mut Scratch,
    context: Context,
    way: Way,
    normal: &Normal,
) -> Result<Run> {
    let Files { stats, seen, .. } = Files::new(scratch, context, way);
    let mut options = options(scratch, context, way);
    if way != Way::Plain {
        options.push(format!("-Xcds_stats={}", stats.display()));
        let _ = fs::remove_file(&stats);
    }
    let mut command = context.command(program, scratch, &options);
    let (outcome, cpu_ms) = measured(&mut command)?;
    let is_settled = way == Way::Plain || are_settled(&scratch.archive(""));
    let Outcome {
        stdout,
        stderr,
        status,
    } = outcome;
    let written = scratch.written().text(|text| normal.text(text));
    let settled = if is_settled {
        ""
    } else {
        "a process that the run has started does not end\n"
    };
    let text = format!(
        "status {status}\n{settled}stdout:\n{stdout}\nstderr:\n{stderr}\nfiles:\n{written}"
    );
    let text = normal.text(&text);
    fs::write(&seen, &text).with_context(|| format!("cannot write {}", seen.display()))?;
    Ok(Run {
        text,
        cpu_ms,
        restored: is_restored(program, scratch, &stats),
    })
}

/// Whether the last run was restored, according to its statistics. A server that a signal ends leaves no statistics,
/// but it maps its image.
fn is_restored(program: &Program, scratch: &Scratch, stats: &Path) -> Result<(), String> {
    let Ok(report) = Report::read(stats) else {
        let maps = fs::read_to_string(scratch.maps()).unwrap_or_default();
        let is_restored = program.server.is_some() && maps.contains(".cds.image");
        let unknown = || "the program leaves no statistics".to_owned();
        return is_restored.then_some(()).ok_or_else(unknown);
    };
    if report.startup_image.is_some() {
        return Ok(());
    }
    let refused = report.startup_image_refused.unwrap_or_default();
    let reason = refused.split_once(" is not used: ");
    Err(reason
        .map_or("there is no image", |(_, reason)| reason)
        .to_owned())
}

/// Runs a command to its end. Also returns its processor time, including its children.
fn measured(command: &mut Command) -> Result<(Outcome, f64)> {
    use std::os::unix::process::ExitStatusExt;
    let mut child = started(command)?;
    let (mut out, mut err) = (child.stdout.take(), child.stderr.take());
    let reader = std::thread::spawn(move || read(err.as_mut()));
    let stdout = read(out.as_mut());
    let stderr = reader.join().unwrap_or_default();
    let end = child.wait4().context("cannot wait for a process")?;
    let signal = end.status.signal().map(|signal| -signal);
    let outcome = Outcome {
        stdout,
        stderr,
        status: end.status.code().or(signal).unwrap_or(-1),
    };
    let cpu = end.rusage.utime + end.rusage.stime;
    Ok((outcome, cpu.as_secs_f64() * 1e3))
}

fn read(stream: Option<&mut impl std::io::Read>) -> String {
    let mut bytes = Vec::new();
    if let Some(stream) = stream {
        let _ = stream.read_to_end(&mut bytes);
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Characters of a line that are shown, starting shortly before the first difference.
const SHOWN: usize = 240;

fn difference(title: &str, expected: &str, found: &str) -> String {
    let mut text = format!("{title}\n");
    let diff = TextDiff::from_lines(expected, found);
    let mut removed = VecDeque::new();
    for change in diff.iter_all_changes() {
        let line = change.value().trim_end();
        match change.tag() {
            ChangeTag::Equal => removed.clear(),
            ChangeTag::Delete => {
                removed.push_back(line);
                text += &format!("- {}\n", shortened(line, 0));
            }
            ChangeTag::Insert => {
                // Most likely the line that this line replaces.
                let other = removed.pop_front().unwrap_or_default();
                let same = line.chars().zip(other.chars());
                let same = same.take_while(|(one, two)| one == two).count();
                text += &format!("+ {}\n", shortened(line, same.saturating_sub(SHOWN / 3)));
            }
        }
    }
    text
}

fn shortened(line: &str, from: usize) -> String {
    let before = if from > 0 { "…" } else { "" };
    let shown = line.chars().skip(from).take(SHOWN);
    format!("{before}{}", String::from_iter(shown))
}
