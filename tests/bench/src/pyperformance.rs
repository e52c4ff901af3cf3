//! Twelve benchmarks of pyperformance: does code from an archive run as fast as code from `.pyc` files?

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use cpython_cds_tests::environment::succeed;
use cpython_cds_tests::measure::median;
use cpython_cds_tests::{Outcome, clean, repository};
use serde_json::Value;

use crate::progress::Progress;
use crate::statistics::geometric_mean;
use crate::table::Table;

const REQUIREMENT: &str = "pyperformance==1.13.0";

/// Objects, calls, numbers, text, regular expressions, generators, coroutines, pickling. They need only pyperf.
const BENCHMARKS: [&str; 12] = [
    "async_generators",
    "chaos",
    "deepcopy",
    "deltablue",
    "go",
    "json_dumps",
    "json_loads",
    "logging",
    "nbody",
    "raytrace",
    "regex_compile",
    "richards",
];

/// How many times each benchmark runs with each interpreter, in turn.
const ROUNDS: u32 = 3;

const PROGRAM: &str = include_str!("pyperformance.py");

/// Runs all benchmarks. The last row has the geometric mean of stock's times divided by this interpreter's times.
pub fn run(stock: &Path, patched: &Path) -> Result<Table> {
    let stock = Environment::new("stock", stock)?;
    let patched = Environment::new("patched", patched)?;
    let mut table = Table::new(
        "pyperformance: stock and the standard library's archive",
        &["benchmark", "stock, ms", "archive, ms", "ratio"],
    );
    let mut ratios = Vec::new();
    let progress = Progress::start(
        "benchmarks",
        u64::from(ROUNDS) * 2 * BENCHMARKS.len() as u64,
    );
    for benchmark in BENCHMARKS {
        let mut times: BTreeMap<&str, Vec<f64>> = BTreeMap::new();
        for _ in 0..ROUNDS {
            for environment in [&stock, &patched] {
                let time = environment.time(benchmark)?;
                times.entry(environment.name).or_default().push(time);
                progress.step();
            }
        }
        let of = |name: &str| times.get(name).map_or(f64::NAN, |times| median(times));
        let (stock, patched) = (of("stock"), of("patched"));
        ratios.push(stock / patched);
        table.row(vec![
            benchmark.to_owned(),
            format!("{:.3}", stock * 1e3),
            format!("{:.3}", patched * 1e3),
            format!("{:.2}", stock / patched),
        ]);
    }
    let mean = geometric_mean(ratios.into_iter()).context("no benchmark ran")?;
    let mut row = vec![String::new(); 4];
    row[0] = "geometric mean".to_owned();
    row[3] = format!("{mean:.3}");
    table.row(row);
    Ok(table)
}

/// A virtual environment with pyperformance.
struct Environment {
    name: &'static str,
    python: PathBuf,
    benchmarks: PathBuf,
}

impl Environment {
    fn new(name: &'static str, interpreter: &Path) -> Result<Self> {
        let directory = repository()
            .join("target/workloads")
            .join(format!("pyperformance-{name}"));
        let python = directory.join("bin/python");
        let mut locate = Command::new(&python);
        clean(&mut locate);
        locate.args(["-c", PROGRAM]);
        if !python.exists() || Outcome::of(&mut locate).status != 0 {
            let mut venv = Command::new(interpreter);
            clean(&mut venv);
            succeed(venv.args(["-m", "venv", "--clear"]).arg(&directory))?;
            let mut pip = Command::new(&python);
            pip.args([
                "-m",
                "pip",
                "install",
                "-q",
                "--disable-pip-version-check",
                REQUIREMENT,
            ]);
            succeed(&mut pip)?;
        }
        let located = Outcome::of(&mut locate);
        ensure!(
            located.status == 0,
            "pyperformance cannot be used:\n{}",
            located.stderr
        );
        Ok(Self {
            name,
            python,
            benchmarks: PathBuf::from(located.stdout.trim()),
        })
    }

    /// The median time of a benchmark, in seconds, of nine values in three processes.
    fn time(&self, benchmark: &str) -> Result<f64> {
        let directory = tempfile::tempdir().context("cannot create a temporary directory")?;
        let file = directory.path().join("result.json");
        let mut command = Command::new(&self.python);
        clean(&mut command);
        command
            .arg(
                self.benchmarks
                    .join(format!("bm_{benchmark}/run_benchmark.py")),
            )
            .args([
                "--processes",
                "3",
                "--values",
                "3",
                "--warmups",
                "1",
                "--quiet",
                "-o",
            ])
            .arg(&file);
        succeed(&mut command)?;
        let text =
            fs::read_to_string(&file).with_context(|| format!("{benchmark} wrote no result"))?;
        let result: Value = serde_json::from_str(&text)
            .with_context(|| format!("cannot parse the result of {benchmark}"))?;
        let mut values = Vec::new();
        // A script may have several benchmarks.
        for part in result["benchmarks"].as_array().into_iter().flatten() {
            for run in part["runs"].as_array().into_iter().flatten() {
                let measured = run["values"].as_array().into_iter().flatten();
                values.extend(measured.filter_map(Value::as_f64));
            }
        }
        ensure!(
            !values.is_empty(),
            "the result of {benchmark} has no values"
        );
        Ok(median(&values))
    }
}
