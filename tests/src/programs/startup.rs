//! The time until the first output of a program, started plainly and restored.

use std::io::Read;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};

use super::contexts::Context;
use super::data::Program;
use super::scratch::Scratch;
use super::way::{self, Way};
use crate::measure::median;

/// Pairs of runs: one plain, one restored.
const PAIRS: usize = 5;

/// Medians of the milliseconds from the start of a process to its first output, or to its end if there is none.
#[derive(Clone, Copy)]
pub struct Startup {
    pub plain: f64,
    pub restored: f64,
}

impl Startup {
    /// Measures a program that has an image. None if the command runs not the program itself but a helper that starts
    /// it.
    pub fn of(program: &Program, scratch: &mut Scratch, context: Context) -> Result<Option<Self>> {
        if program.server.is_some() || program.asks || context != Context::Pipe {
            return Ok(None);
        }
        let (mut plain, mut restored) = (Vec::new(), Vec::new());
        for _ in 0..PAIRS {
            for (way, times) in [(Way::Plain, &mut plain), (Way::Image, &mut restored)] {
                if !program.keeps_files {
                    scratch.restore();
                }
                let options = way::options(scratch, context, way);
                let passed = first_output(&mut context.command(program, scratch, &options))?;
                times.push(passed.as_secs_f64() * 1e3);
            }
        }
        Ok(Some(Self {
            plain: median(&plain),
            restored: median(&restored),
        }))
    }

    /// The time of a plain start, divided by that of a restored one.
    pub fn ratio(self) -> f64 {
        self.plain / self.restored
    }
}

fn first_output(command: &mut Command) -> Result<Duration> {
    let start = Instant::now();
    let mut child = way::started(command)?;
    let (out, err) = (child.stdout.take(), child.stderr.take());
    let first = thread::scope(|scope| {
        let readers = [
            scope.spawn(move || first_byte(out, start)),
            scope.spawn(move || first_byte(err, start)),
        ];
        let firsts = readers.map(|reader| reader.join().unwrap_or_default());
        firsts.into_iter().flatten().min()
    });
    child.wait().context("cannot wait for a process")?;
    Ok(first.unwrap_or_else(|| start.elapsed()))
}

/// The time until the first byte of a stream. Reads the stream to its end.
fn first_byte(stream: Option<impl Read>, start: Instant) -> Option<Duration> {
    let mut stream = stream?;
    let is_there = matches!(stream.read(&mut [0]), Ok(1));
    let passed = start.elapsed();
    let _ = std::io::copy(&mut stream, &mut std::io::sink());
    is_there.then_some(passed)
}
