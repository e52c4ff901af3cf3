//! Programs, run by all contenders in turn.

use std::fs;

use anyhow::{Context, Result};
use cpython_cds_tests::workload::Workload;

use crate::contenders::{Contender, Interpreters};
use crate::instructions;
use crate::progress::Progress;
use crate::results::Program;
use crate::results::contender::{ARCHIVE, IMAGE, STOCK};

/// How a program is measured.
pub struct Plan {
    pub rounds: u32,
    pub peers: bool,
    pub instructions: bool,
    pub against_itself: bool,
}

/// Makes the archive of a program, checks that the program does the same with and without it, and measures the times.
pub fn measure(
    interpreters: &Interpreters,
    workload: &Workload,
    plan: &Plan,
    notes: &mut Vec<String>,
) -> Result<Program> {
    let mut program = Program::new(workload.name);
    let mut contenders = if plan.against_itself {
        interpreters.against_itself(workload)
    } else {
        let findings = workload.check(&interpreters.patched, Some(&interpreters.stock), |_| ())?;
        for complaint in findings.complaints() {
            notes.push(format!("{}: {complaint}", workload.name));
        }
        program.modules = Some((findings.from_archive, findings.traced));
        interpreters.main(workload)
    };
    if plan.peers && !plan.against_itself {
        contenders.extend(interpreters.peers(workload)?);
    }
    interleave(&mut contenders, plan.rounds, &mut program, || Ok(()))?;
    if contenders.iter().any(|contender| contender.name == IMAGE)
        && let Err(error) = workload.check_image(&interpreters.patched)
    {
        notes.push(format!("the image does not count: {error:#}"));
        program.runs.remove(IMAGE);
    }
    if plan.instructions {
        for contender in contenders
            .iter()
            .filter(|c| [STOCK, ARCHIVE].contains(&c.name))
        {
            if let Some(command) = contender.as_command() {
                let count = instructions::count(command)?;
                program
                    .instructions
                    .insert(contender.name.to_owned(), count);
            }
        }
    }
    Ok(program)
}

/// Runs all contenders in each round. The order changes from round to round, because a contender that runs after
/// another one with the same interpreter finds more data in the processor's caches. The first round warms up and does
/// not count. `before` is called before each run.
pub fn interleave(
    contenders: &mut [Contender],
    rounds: u32,
    program: &mut Program,
    before: impl Fn() -> Result<()>,
) -> Result<()> {
    let count = contenders.len();
    let progress = Progress::start(&program.name, u64::from(rounds + 1) * count as u64);
    let mut order = Order::new(count);
    for round in 0..=rounds {
        for index in order.next_round() {
            let contender = &mut contenders[index];
            before()?;
            let run = contender.run().with_context(|| program.name.clone())?;
            if round > 0 {
                let runs = program.runs.entry(contender.name.to_owned());
                runs.or_default().push(run);
            }
            progress.step();
        }
    }
    Ok(())
}

/// The order in which contenders run.
pub struct Order {
    random: fastrand::Rng,
    indices: Vec<usize>,
}

impl Order {
    pub fn new(count: usize) -> Self {
        Self {
            random: fastrand::Rng::with_seed(1),
            indices: (0..count).collect(),
        }
    }

    /// Two contenders alternate; more are shuffled.
    pub fn next_round(&mut self) -> Vec<usize> {
        if self.indices.len() == 2 {
            self.indices.reverse();
        } else {
            self.random.shuffle(&mut self.indices);
        }
        self.indices.clone()
    }
}

/// Drops the page cache before a run.
///
/// # Errors
/// The process is not allowed to drop it.
pub fn drop_page_cache() -> Result<()> {
    rustix::fs::sync();
    fs::write("/proc/sys/vm/drop_caches", "3").context("cannot drop the page cache")
}
