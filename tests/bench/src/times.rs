//! Programs, run by all contenders in turn.

use std::fs;

use anyhow::{Context, Result};
use cpython_cds_tests::workload::Workload;

use crate::contenders::{Contender, Interpreters};
use crate::instructions;
use crate::progress::Progress;
use crate::results::Program;
use crate::results::contender::{ARCHIVE, STOCK};

/// How a program is measured.
pub struct Plan {
    pub rounds: u32,
    pub peers: bool,
    pub instructions: bool,
    pub against_itself: bool,
}

/// Checks that a program does the same with and without archives, which makes them, and times it.
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

/// Runs all contenders in each round. The order is another one each time: who runs after a program of the same
/// interpreter finds more in the processor's caches than who runs after another. The first round warms up and does not
/// count. `before` comes before each run.
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

/// In which order contenders run.
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

    /// Two take turns in being the first; more are shuffled.
    pub fn next_round(&mut self) -> Vec<usize> {
        if self.indices.len() == 2 {
            self.indices.reverse();
        } else {
            self.random.shuffle(&mut self.indices);
        }
        self.indices.clone()
    }
}

/// Drops the page cache before a run; an error where that is not allowed.
pub fn drop_page_cache() -> Result<()> {
    rustix::fs::sync();
    fs::write("/proc/sys/vm/drop_caches", "3").context("the page cache cannot be dropped here")
}
