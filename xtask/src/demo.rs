//! `cargo xtask demo`: builds the interpreter and shows what an archive does for real programs.
//!
//! The crate of the tests contains the programs and the checks, and runs them.

use std::path::{self, PathBuf};

use anyhow::{Context, Result, ensure};

use crate::build_python::{self, Choice};
use crate::workspace::Workspace;
use crate::{interpreter, runtime};

#[derive(clap::Args)]
pub struct Args {
    #[command(flatten)]
    choice: Choice,
    /// Also build stock CPython with the same flags, and compare with both
    #[arg(long)]
    stock: bool,
    /// Run only these workloads [default: all]
    #[arg(long, value_name = "NAME", num_args = 1..)]
    workload: Vec<String>,
    /// Number of timed rounds
    #[arg(long, value_name = "N", default_value_t = 15)]
    runs: u32,
    /// Write the results to a file, as JSON
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

pub fn run(args: &Args) -> Result<()> {
    let workspace = Workspace::new();
    let (build, stock) = {
        let _lock = workspace.lock()?;
        let build = build_python::build(&workspace, &args.choice, false)?;
        let stock = if args.stock {
            let stock = build_python::build(&workspace, &args.choice, true)?;
            Some(interpreter::program(&stock.installation())?)
        } else {
            None
        };
        (build, stock)
    };
    let mut demo = workspace.cargo();
    demo.envs(runtime::environment(&build)).env(
        "CPYTHON_CDS_PYTHON",
        interpreter::program(&build.installation())?,
    );
    demo.args([
        "run",
        "--quiet",
        "--package",
        "cpython-cds-tests",
        "--bin",
        "demo",
        "--",
    ]);
    demo.args(["--runs", &args.runs.to_string()]);
    for name in &args.workload {
        demo.args(["--workload", name]);
    }
    if let Some(stock) = stock {
        demo.arg("--stock").arg(stock);
    }
    if let Some(file) = &args.json {
        demo.arg("--json")
            .arg(path::absolute(file).context("--json is not a valid path")?);
    }
    let status = demo.status().context("cannot run cargo")?;
    ensure!(status.success(), "the demonstration failed ({status})");
    Ok(())
}
