//! The program behind `cargo xtask test --programs`: runs console scripts and servers plainly, with archives, and from
//! automatic images.

use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use anyhow::{Result, anyhow, ensure};
use clap::Parser;
use clap::builder::PossibleValuesParser;
use cpython_cds_tests::exit_code;
use cpython_cds_tests::measure::median;
use cpython_cds_tests::programs::data::Unsteady;
use cpython_cds_tests::programs::{Context, Findings, Program, Scratch, data, ways};
use cpython_cds_tests::python;
use cpython_cds_tests::venv::Venv;

/// Run console scripts and servers plainly, with archives, and from automatic images
#[derive(Parser)]
struct Args {
    /// Only these programs [default: all]
    name: Vec<String>,
    /// Only programs that are part of `cargo xtask test`
    #[arg(long)]
    in_ci: bool,
    /// Only in these contexts [default: all]
    #[arg(long, value_name = "CONTEXT", num_args = 1..,
          value_parser = PossibleValuesParser::new(Context::ALL.map(Context::name)))]
    context: Vec<String>,
}

/// The number of programs that run at the same time.
const AT_ONCE: usize = 2;

/// The numbers of differences that are shown for a program in a context, and of lines for each.
const DIFFERENCES: usize = 2;
const SHOWN: usize = 40;

/// The percentage of a program's modules that an image should have.
const MUCH: f64 = 80.0;

fn main() -> ExitCode {
    exit_code(run(&Args::parse()))
}

/// Whether all programs have the same outcome in all ways.
fn run(args: &Args) -> Result<bool> {
    let programs = data::read()?;
    for name in &args.name {
        let is_known = programs.iter().any(|program| program.name == *name);
        ensure!(is_known, "there is no program {name}");
    }
    let is_wanted = |program: &&Program| {
        (args.name.is_empty() || args.name.contains(&program.name))
            && (program.in_ci || !args.in_ci)
    };
    println!(
        "{:<22}{:<20}{:>6}{:>11}{:>9}{:>9}{:>8}{:>8}",
        "", "context", "same", "plain, ms", "archive", "ratio", "image", "ratio"
    );
    let wanted = Vec::from_iter(programs.iter().filter(is_wanted));
    // Programs that share an environment run one after the other: when one compiles modules, directories of all change.
    let groups = Vec::from_iter(wanted.chunk_by(|one, other| one.packages == other.packages));
    let next = AtomicUsize::new(0);
    let totals = Mutex::new(Totals::default());
    let installing = Mutex::new(());
    let work = || -> Result<()> {
        while let Some(group) = groups.get(next.fetch_add(1, Ordering::Relaxed)) {
            for program in *group {
                let venv = {
                    let _one_at_a_time = installing.lock();
                    venv(program)?
                };
                check(program, venv, args, &totals)?;
            }
        }
        Ok(())
    };
    thread::scope(|scope| {
        let workers = [(); AT_ONCE].map(|()| scope.spawn(work));
        workers.into_iter().try_for_each(|worker| {
            let result = worker.join();
            result.unwrap_or_else(|_| Err(anyhow!("a check has panicked")))
        })
    })?;
    let totals = totals
        .into_inner()
        .map_err(|_| anyhow!("a check has panicked"))?;
    println!(
        "{} programs and contexts: {} the same, {} restored, {} of them with {MUCH} % of their modules or more",
        totals.all, totals.same, totals.restored, totals.with_much
    );
    if !totals.ratios.is_empty() {
        println!(
            "{} of these, without servers, are {:.1} times faster until their first output (median)",
            totals.ratios.len(),
            median(&totals.ratios)
        );
    }
    // If no program is restored, the test proves nothing.
    Ok(totals.same == totals.all && totals.restored > 0)
}

fn venv(program: &Program) -> Result<Venv> {
    let requirements = program.requirements()?;
    let requirements = Vec::from_iter(requirements.iter().map(String::as_str));
    let name = format!("programs-{}", program.packages);
    Venv::new(&name, &python(), &requirements)
}

/// Runs a program in all selected contexts that are possible.
fn check(program: &Program, venv: Venv, args: &Args, totals: &Mutex<Totals>) -> Result<()> {
    let mut scratch = Scratch::new(program, venv)?;
    for context in Context::ALL {
        let name = context.name().to_owned();
        let is_wanted = args.context.is_empty() || args.context.contains(&name);
        if !is_wanted || !context.is_possible() {
            continue;
        }
        let findings = ways::check(program, &mut scratch, context)?;
        print!("{}", describe(&program.name, &findings));
        if let Ok(mut totals) = totals.lock() {
            totals.add(&findings);
        }
    }
    for Unsteady { pattern, reason } in &program.unsteady {
        println!("    {}, not compared: {pattern} ({reason})", program.name);
    }
    Ok(())
}

#[derive(Default)]
struct Totals {
    all: usize,
    same: usize,
    restored: usize,
    with_much: usize,
    /// Only of the programs in `with_much`.
    ratios: Vec<f64>,
}

impl Totals {
    fn add(&mut self, findings: &Findings) {
        self.all += 1;
        self.same += usize::from(findings.differences.is_empty());
        self.restored += usize::from(findings.restored.is_ok());
        let modules = findings.point.modules;
        if modules.is_some_and(|modules| modules.share() >= MUCH) {
            self.with_much += 1;
            self.ratios
                .extend(findings.startup.map(|startup| startup.ratio()));
        }
    }
}

/// A line for the table, and some of the differences.
fn describe(name: &str, findings: &Findings) -> String {
    let [plain, archive, image] = findings.cpu_ms;
    let same = if findings.differences.is_empty() {
        "yes"
    } else {
        "NO"
    };
    let restored = match &findings.restored {
        Ok(()) => "restored",
        Err(reason) => &format!("not restored: {reason}"),
    };
    let mut text = format!(
        "{name:<22}{:<20}{same:>6}{plain:>11.0}{archive:>9.0}{:>9.2}{image:>8.0}{:>8.2}  {restored}\n",
        findings.context.name(),
        plain / archive,
        plain / image,
    );
    let share = match findings.point.modules {
        Some(modules) => format!("{:.0} % of {} modules", modules.share(), modules.all),
        None => "unknown number of modules".to_owned(),
    };
    text += &format!("    {share}, up to: {}\n", findings.point.stopped_at);
    if let Some(startup) = findings.startup {
        text += &format!(
            "    first output after {:.1} ms plainly, after {:.1} ms restored: {:.1} times faster\n",
            startup.plain,
            startup.restored,
            startup.ratio()
        );
    }
    if findings.is_unsteady {
        text += "    two plain runs differ; add the reason to the entry in programs.toml\n";
    }
    let differences = findings.differences.iter().take(DIFFERENCES);
    for line in differences.flat_map(|difference| difference.lines().take(SHOWN)) {
        text += &format!("    {line}\n");
    }
    text
}
