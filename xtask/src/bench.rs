//! `cargo xtask bench`: builds both interpreters and measures them.
//!
//! The crate `tests/bench` measures, with the programs and the checks of the tests. `xtask` runs this crate and does
//! not depend on it.

use std::path::{self, Path, PathBuf};

use anyhow::{Context, Result, ensure};
use serde::Serialize;

use crate::build_python::{self, Choice};
use crate::workspace::{Optional, Workspace};
use crate::{interpreter, runtime};

#[derive(clap::Args)]
pub struct Args {
    #[command(flatten)]
    choice: Choice,
    #[command(flatten)]
    options: Options,
    #[command(subcommand)]
    what: Option<What>,
}

#[derive(clap::Subcommand)]
enum What {
    /// Run twelve benchmarks of pyperformance: does archived code run as fast?
    Pyperformance,
}

/// The options of the measuring program, which gets them as JSON.
#[derive(clap::Args, Serialize)]
struct Options {
    /// Measure only these: pass, stdlib30, django, pip, boto3, sqlalchemy, flask, requests, rich, numpy, pandas,
    /// many, load-cost, fleet [default: all]
    #[arg(long, value_name = "NAME", num_args = 1..)]
    workload: Vec<String>,
    /// Number of timed rounds; each contender runs once in each round
    #[arg(long, value_name = "N", default_value_t = 15, value_parser = clap::value_parser!(u32).range(1..=1000))]
    runs: u32,
    /// Measure only stock and archives, with warm caches: no other contenders, cold cache, memory or load cost
    #[arg(long)]
    quick: bool,
    /// Also count instructions, with valgrind
    #[arg(long)]
    instructions: bool,
    /// Also measure archives without the patch class-slots, which is not about archives
    #[arg(long, conflicts_with = "quick")]
    class_slots: bool,
    /// Measure stock against stock: each interval should contain 1.00
    #[arg(long)]
    against_itself: bool,
    /// Save the results to a file
    #[arg(long, value_name = "BASELINE")]
    save: Option<PathBuf>,
    /// Report what has changed since the results in a file
    #[arg(long, value_name = "BASELINE")]
    compare: Option<PathBuf>,
    /// Write the table of programs into the README
    #[arg(long, conflicts_with_all = ["workload", "against_itself"])]
    readme: bool,
    /// The directory for bench.json, bench.md and the pictures
    #[arg(long, value_name = "DIR", default_value = "target/bench")]
    output: PathBuf,
    #[arg(skip)]
    pyperformance: bool,
    #[arg(skip)]
    stock: PathBuf,
    /// The interpreter without class-slots, if it is measured.
    #[arg(skip)]
    without_class_slots: Option<PathBuf>,
    #[arg(skip)]
    build: String,
}

pub fn run(args: Args) -> Result<()> {
    let workspace = Workspace::new();
    let Args {
        choice,
        mut options,
        what,
    } = args;
    let (build, stock, without) = {
        let _lock = workspace.lock()?;
        let stock = build_python::build(&workspace, &choice, true)?;
        let without = options
            .class_slots
            .then(|| {
                let without = Some(Optional::ClassSlots);
                let choice = Choice {
                    without,
                    ..choice.clone()
                };
                build_python::build_aside(&workspace, &choice, false, choice.profile)
            })
            .transpose()?;
        let build = build_python::build(&workspace, &choice, false)?;
        (build, stock, without)
    };
    options.without_class_slots = without
        .map(|build| interpreter::program(&build.installation()))
        .transpose()?;
    options.stock = interpreter::program(&stock.installation())?;
    options.build = described(&options.stock)?;
    options.pyperformance = matches!(what, Some(What::Pyperformance));
    options.output = absolute(&options.output)?;
    options.save = options.save.as_deref().map(absolute).transpose()?;
    options.compare = options.compare.as_deref().map(absolute).transpose()?;
    let options = serde_json::to_string(&options).context("cannot write the options as JSON")?;

    let mut bench = workspace.cargo();
    bench
        .envs(runtime::environment(&build))
        .env(
            "CPYTHON_CDS_PYTHON",
            interpreter::program(&build.installation())?,
        )
        .args(["run", "--quiet", "--package", "cpython-cds-bench", "--"])
        .arg(options);
    let status = bench.status().context("cannot run cargo")?;
    ensure!(status.success(), "the benchmark failed ({status})");
    Ok(())
}

fn absolute(path: &Path) -> Result<PathBuf> {
    path::absolute(path).with_context(|| format!("{} is not a valid path", path.display()))
}

/// Compiler and flags, as the interpreter reports them. The other interpreters are built with the same ones.
fn described(program: &Path) -> Result<String> {
    const PROGRAM: &str = "\
import platform, sys, sysconfig
optimised = 'PGO and LTO' if '--enable-optimizations' in sysconfig.get_config_var('CONFIG_ARGS') else 'no PGO'
flags = [flag for flag in sysconfig.get_config_var('OPT').split() if flag.startswith('-O')]
ET_EXEC = 2
with open(sys.executable, 'rb') as file: pie = 'non-PIE' if file.read(17)[16] == ET_EXEC else 'PIE'
print(platform.python_compiler().replace('GCC', 'gcc'), *flags, optimised, pie, sep=', ')
";
    let mut command = interpreter::python_free(program);
    let output = command
        .args(["-I", "-c", PROGRAM])
        .output()
        .with_context(|| format!("cannot run {}", program.display()))?;
    ensure!(
        output.status.success(),
        "{} does not run",
        program.display()
    );
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}
