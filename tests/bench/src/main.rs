//! The program behind `cargo xtask bench`: it measures programs with stock CPython, archives and startup images.

mod comparison;
mod contenders;
mod fork_floor;
mod instructions;
mod load_cost;
mod machine;
mod many_modules;
mod memory;
mod options;
mod plot;
mod progress;
mod pyperformance;
mod readme;
mod report;
mod results;
mod statistics;
mod table;
mod times;

use std::fs;
use std::process::{Command, ExitCode};

use anyhow::{Context, Result, bail, ensure};
use cpython_cds_tests::ancestor::Ancestor;
use cpython_cds_tests::environment::Environment;
use cpython_cds_tests::measure::pin;
use cpython_cds_tests::workload::{ALL, PASS, Workload};
use cpython_cds_tests::{Outcome, clean, python, repository};

use contenders::Interpreters;
use options::{FLEET, LOAD_COST, Options};
use results::{Program, Results};
use times::Plan;

/// Number of modules of the generated package.
const MANY: usize = 2_000;

/// Maximum of rounds with a cold cache: each round reads everything from the disk.
const COLD_ROUNDS: u32 = 7;

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<()> {
    let options = std::env::args()
        .nth(1)
        .context("this program must be started by cargo xtask bench")?;
    let options: Options = serde_json::from_str(&options).context("cannot parse the options")?;
    if options.pyperformance {
        println!(
            "{}",
            pyperformance::run(&options.stock, &python())?.to_text()
        );
        return Ok(());
    }
    let earlier = options.compare.as_deref().map(Results::read).transpose()?;
    fs::create_dir_all(&options.output)
        .with_context(|| format!("cannot create {}", options.output.display()))?;
    let workloads = chosen(&options)?;
    let results = measure(&options, &workloads)?;

    for table in report::tables(&results) {
        println!("{}", table.to_text());
    }
    for note in &results.notes {
        println!("note: {note}");
    }
    if let Some(earlier) = earlier {
        println!("{}", comparison::table(&earlier, &results).to_text());
    }
    let pictures = plot::draw(&results, &options.output)?;
    results.write(&options.output.join("bench.json"))?;
    let document = options.output.join("bench.md");
    fs::write(&document, report::markdown(&results, &pictures))
        .with_context(|| format!("cannot write {}", document.display()))?;
    println!("{} has the results, with pictures", document.display());
    if let Some(file) = &options.save {
        results.write(file)?;
    }
    if options.readme {
        readme::update(&repository().join("README.md"), &results)?;
    }
    Ok(())
}

fn chosen(options: &Options) -> Result<Vec<Workload>> {
    let package = many_modules::package(&generated()?, MANY)?;
    let mut all = vec![PASS];
    all.extend(ALL);
    all.push(Workload::generated("many", package.join("run.py")));
    let mut names: Vec<&str> = all.iter().map(|workload| workload.name).collect();
    names.extend([LOAD_COST, FLEET]);
    for name in &options.workload {
        if !names.contains(&name.as_str()) {
            bail!(
                "there is no workload {name}; there are {}",
                names.join(", ")
            );
        }
    }
    all.retain(|workload| options.wants(workload.name));
    Ok(all)
}

/// The directory of generated packages.
fn generated() -> Result<std::path::PathBuf> {
    let directory = repository().join("target/workloads/generated");
    fs::create_dir_all(&directory)
        .with_context(|| format!("cannot create {}", directory.display()))?;
    fs::canonicalize(&directory).with_context(|| format!("cannot find {}", directory.display()))
}

fn measure(options: &Options, workloads: &[Workload]) -> Result<Results> {
    let everything = !options.quick && !options.against_itself;
    let mut results = Results {
        date: machine::today(),
        machine: machine::describe(),
        python: version()?,
        build: options.build.clone(),
        rounds: options.runs,
        ..Results::empty()
    };
    let ancestor = if everything {
        ancestor(&mut results.notes)
    } else {
        None
    };
    let without_class_slots = options.without_class_slots.as_deref().map(Environment::new);
    let interpreters = Interpreters::new(
        Environment::new(&python())?,
        Environment::new(&options.stock)?,
        without_class_slots.transpose()?,
        ancestor,
    )?;
    results.cpu = pin();
    if results.cpu.is_none() {
        results
            .notes
            .push("no single processor could be chosen, so times vary more".to_owned());
    }
    let plan = Plan {
        rounds: options.runs,
        peers: everything,
        instructions: options.instructions,
        against_itself: options.against_itself,
    };
    for workload in workloads {
        let program = times::measure(&interpreters, workload, &plan, &mut results.notes)?;
        results.programs.push(program);
    }
    if everything {
        cold(&interpreters, workloads, &mut results)?;
        if options.wants(LOAD_COST) {
            let directory = generated()?;
            let environment = &interpreters.patched;
            results.load_cost =
                load_cost::measure(environment, &directory, options.runs, options.instructions)?;
        }
        if options.wants(FLEET) {
            results.memory = memory::measure(&interpreters)?;
        }
    }
    Ok(results)
}

fn ancestor(notes: &mut Vec<String>) -> Option<Ancestor> {
    match Ancestor::new() {
        Ok(ancestor) => {
            let version = ancestor.version;
            notes.push(format!(
                "code-data-share runs on Python {version}, and only with programs of the standard library: the versions of \
                 packages are pinned for 3.13"
            ));
            Some(ancestor)
        }
        Err(reason) => {
            notes.push(format!("code-data-share was not measured: {reason:#}"));
            None
        }
    }
}

fn cold(interpreters: &Interpreters, workloads: &[Workload], results: &mut Results) -> Result<()> {
    if let Err(reason) = times::drop_page_cache() {
        results
            .notes
            .push(format!("nothing was measured cold: {reason:#}"));
        return Ok(());
    }
    for workload in workloads {
        let mut program = Program::new(workload.name);
        let rounds = results.rounds.min(COLD_ROUNDS);
        let mut contenders = interpreters.main(workload);
        times::interleave(
            &mut contenders,
            rounds,
            &mut program,
            times::drop_page_cache,
        )?;
        results.cold.push(program);
    }
    Ok(())
}

fn version() -> Result<String> {
    let mut command = Command::new(python());
    clean(&mut command);
    let outcome =
        Outcome::of(command.args(["-c", "import platform; print(platform.python_version())"]));
    ensure!(
        outcome.status == 0,
        "the interpreter fails:\n{}",
        outcome.stderr
    );
    Ok(outcome.stdout.trim().to_owned())
}
