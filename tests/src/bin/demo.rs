//! The program behind `cargo xtask demo`: checks and times the workloads.

use std::fs;
use std::path::PathBuf;
use std::process::{Command, ExitCode};

use anyhow::{Context, Result};
use clap::Parser;
use clap::builder::PossibleValuesParser;
use cpython_cds_tests::environment::Environment;
use cpython_cds_tests::exit_code;
use cpython_cds_tests::measure::{self, median, pin};
use cpython_cds_tests::progress::Progress;
use cpython_cds_tests::python;
use cpython_cds_tests::workload::{ALL, Findings, Workload};
use serde_json::{Value, json};

/// Run real programs with and without an archive
#[derive(Parser)]
struct Args {
    /// Only these workloads [default: all]
    #[arg(long, value_name = "NAME", num_args = 1..,
          value_parser = PossibleValuesParser::new(ALL.each_ref().map(|workload| workload.name)))]
    workload: Vec<String>,
    /// Rounds of runs to time
    #[arg(long, value_name = "N", default_value_t = 15, value_parser = clap::value_parser!(u32).range(1..))]
    runs: u32,
    /// Compare with this interpreter, too: stock CPython of the same version and flags
    #[arg(long, value_name = "PYTHON")]
    stock: Option<PathBuf>,
    /// Write the results to a file
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

fn main() -> ExitCode {
    exit_code(run(&Args::parse()))
}

/// Whether all workloads are good.
fn run(args: &Args) -> Result<bool> {
    let patched = Environment::new(&python())?;
    let stock = args.stock.as_deref().map(Environment::new).transpose()?;
    let cpu = pin();
    explain(args, cpu);
    let mut good = true;
    let mut results = Vec::new();
    let chosen = ALL.into_iter().filter(|workload| {
        args.workload.is_empty() || args.workload.iter().any(|name| name == workload.name)
    });
    for workload in chosen {
        let progress = Progress::start(workload.name);
        let findings = workload.check(&patched, stock.as_ref(), |what| progress.say(what))?;
        let timed = findings
            .is_good()
            .then(|| {
                progress.say(&format!("time {} rounds", args.runs));
                progress.pause();
                Timed::measure(&workload, &patched, stock.as_ref(), args.runs)
            })
            .transpose()?;
        drop(progress);
        show(&workload, &findings, timed.as_ref());
        good &= findings.is_good();
        results.push(record(&workload, &findings, timed.as_ref()));
    }
    if let Some(file) = &args.json {
        let document = json!({
            "python": python(),
            "stock": args.stock,
            "cpu": cpu,
            "rounds": args.runs,
            "workloads": results,
        });
        fs::write(file, format!("{document:#}\n"))
            .with_context(|| format!("cannot write {}", file.display()))?;
    }
    Ok(good)
}

/// Explains the columns of the table.
fn explain(args: &Args, cpu: Option<usize>) {
    let stock = args.stock.is_some();
    let also = if stock { ", and of stock CPython" } else { "" };
    println!(
        "\
Each program is traced, dumped to an archive that is laid out by a training run, and run from this archive.

  same      stdout, stderr and exit status are those of a run without any archive (-X cds=off){also}; the
            program runs with the archive in place, with it relocated, with the standard library's archive
            alone, and restored from its startup image
  archived  modules whose code came from an archive, of the modules in the trace
  dirty     kB that the program wrote to in sections of its archives that must never be written to
  off, on   ms from start to end of the same interpreter with -X cds=off, and with the program's archive"
    );
    if let Some(stock) = &args.stock {
        println!(
            "  stock     ms of {}, which is not patched",
            stock.display()
        );
    }
    let place = cpu.map_or("on any processor".to_owned(), |cpu| {
        format!("all on processor {cpu}")
    });
    println!(
        "
Times are medians of {} rounds. In each round, all run once, one after the other, {place}, with warm caches and .pyc
files. Ratios are medians of the ratios of all rounds, with the smallest and the largest: above 1 the archive is faster.
",
        args.runs
    );
    print!("{:<11}{:>5}{:>12}{:>7}", "", "same", "archived", "dirty");
    if stock {
        print!("{:>9}", "stock");
    }
    print!("{:>9}{:>9}", "off", "on");
    if stock {
        print!("{:>20}", "stock / on");
    }
    println!("{:>20}", "off / on");
}

fn show(workload: &Workload, findings: &Findings, timed: Option<&Timed>) {
    let same = if findings.differences.is_empty() {
        "yes"
    } else {
        "NO"
    };
    let archived = format!("{} of {}", findings.from_archive, findings.traced);
    print!(
        "{:<11}{same:>5}{archived:>12}{:>7}",
        workload.name, findings.never_written_kb
    );
    match timed {
        Some(timed) => {
            for times in timed.columns() {
                print!("{:>9.1}", median(times));
            }
            for ratio in timed.ratios() {
                let range = format!("({:.2}-{:.2})", ratio.lowest, ratio.highest);
                print!("{:>8.2} {range:>11}", ratio.median);
            }
            println!();
        }
        None => println!("  not timed"),
    }
    for complaint in findings.complaints() {
        for line in complaint.lines() {
            println!("    {line}");
        }
    }
}

fn record(workload: &Workload, findings: &Findings, timed: Option<&Timed>) -> Value {
    let mut value = json!({
        "name": workload.name,
        "differences": findings.differences,
        "problems": findings.problems,
        "traced": findings.traced,
        "from_archive": findings.from_archive,
        "never_written_kb": findings.never_written_kb,
    });
    if let Some(timed) = timed {
        value["ms"] = json!({ "stock": timed.stock, "off": timed.off, "on": timed.on });
    }
    value
}

/// Times in ms, one for each round.
struct Timed {
    stock: Option<Vec<f64>>,
    off: Vec<f64>,
    on: Vec<f64>,
}

struct Ratio {
    median: f64,
    lowest: f64,
    highest: f64,
}

impl Timed {
    fn measure(
        workload: &Workload,
        patched: &Environment,
        stock: Option<&Environment>,
        rounds: u32,
    ) -> Result<Self> {
        let mut timed = Self {
            stock: stock.map(|_| Vec::new()),
            off: Vec::new(),
            on: Vec::new(),
        };
        // The first round warms up.
        for round in 0..=rounds {
            let control = stock
                .map(|stock| elapsed(&mut workload.command(stock)))
                .transpose()?;
            let off = elapsed(&mut workload.command_off(patched))?;
            let on = elapsed(&mut workload.command_on(patched))?;
            if round > 0 {
                if let (Some(times), Some(time)) = (&mut timed.stock, control) {
                    times.push(time);
                }
                timed.off.push(off);
                timed.on.push(on);
            }
        }
        Ok(timed)
    }

    fn columns(&self) -> impl Iterator<Item = &[f64]> {
        self.stock
            .as_deref()
            .into_iter()
            .chain([&self.off[..], &self.on])
    }

    /// The ratios of stock, if it was measured, and of the same interpreter without archives.
    fn ratios(&self) -> impl Iterator<Item = Ratio> {
        let slower = self.stock.as_deref().into_iter().chain([&self.off[..]]);
        slower.map(|slower| {
            let pairs = slower.iter().zip(&self.on);
            let ratios: Vec<f64> = pairs.map(|(slow, fast)| slow / fast).collect();
            Ratio {
                median: median(&ratios),
                lowest: ratios.iter().copied().fold(f64::INFINITY, f64::min),
                highest: ratios.iter().copied().fold(0.0, f64::max),
            }
        })
    }
}

fn elapsed(command: &mut Command) -> Result<f64> {
    Ok(measure::run(command)?.wall_ms)
}
