//! The cost of an archive that a program does not use, by the number of modules in the archive.

use std::path::Path;

use anyhow::{Context, Result};
use cpython_cds_tests::environment::{Environment, succeed};
use cpython_cds_tests::measure;

use crate::progress::Progress;
use crate::results::LoadCost;
use crate::times::Order;
use crate::{instructions, many_modules};

const SIZES: [usize; 4] = [10, 100, 1_000, 10_000];

/// Measures `-c pass` with archives of all sizes, in turn.
pub fn measure(
    environment: &Environment,
    directory: &Path,
    rounds: u32,
    with_instructions: bool,
) -> Result<Vec<LoadCost>> {
    let mut found = Vec::new();
    let mut commands = Vec::new();
    for modules in SIZES {
        let package = many_modules::package(directory, modules)?;
        // Not next to the package: the archive would change the directory of the package.
        let archive = directory.join(format!("cloud-{modules}.img"));
        let mut dump = environment.command(&[]);
        dump.args([
            "-m",
            "cds",
            "dump",
            "--quiet",
            "--package",
            "cloud",
            "--path",
        ]);
        succeed(dump.arg(package).arg(&archive))?;
        let metadata = archive
            .metadata()
            .with_context(|| format!("there is no {}", archive.display()))?;
        let mut command = environment.command(&[format!("-Xcds={}", archive.display())]);
        command.args(["-c", "pass"]);
        let instructions = with_instructions
            .then(|| instructions::count(&command))
            .transpose()?;
        commands.push(command);
        found.push(LoadCost {
            modules,
            archive_bytes: metadata.len(),
            runs: Vec::new(),
            instructions,
        });
    }
    // More rounds, because the differences are small, and the runs are short.
    let rounds = rounds * 4;
    let progress = Progress::start("load cost", u64::from(rounds + 1));
    let mut order = Order::new(commands.len());
    for round in 0..=rounds {
        for index in order.next_round() {
            let run = measure::run(&mut commands[index])?;
            if round > 0 {
                found[index].runs.push(run);
            }
        }
        progress.step();
    }
    Ok(found)
}
