//! `cargo xtask install --prefix DIR`: an installation to keep.
//!
//! The prefix is compiled into the interpreter and recorded in sysconfig, the Makefile and the pkg-config files, and
//! the interpreter at `./python` has another. So the objects are copied and configured for the new prefix, where make
//! compiles anew the few that know it: what is installed says about itself what a stock installation there would say.

use std::path::{self, PathBuf};

use anyhow::{Context, Result};

use crate::build_python::{self, Choice};
use crate::workspace::Workspace;
use crate::{interpreter, stamp, standard_archive};

#[derive(clap::Args)]
pub struct Args {
    /// The directory to install to: DIR/bin/python3.13, DIR/lib/python3.13, ...
    #[arg(long, value_name = "DIR")]
    prefix: PathBuf,
    #[command(flatten)]
    choice: Choice,
}

pub fn run(args: &Args) -> Result<()> {
    let workspace = Workspace::new();
    let _lock = workspace.lock()?;
    let built = build_python::build(&workspace, &args.choice, false)?;
    let prefix = path::absolute(&args.prefix).context("--prefix is no path")?;
    let build = built.with_prefix(prefix);

    let jobs = args.choice.jobs();
    interpreter::reconfigure(&build, &built)?;
    interpreter::compile(&build, jobs)?;
    interpreter::install(&build, jobs)?;
    standard_archive::dump(&workspace, &build)?;
    stamp::remove_dir(&build.objects())?;
    eprintln!(
        "{} is installed",
        interpreter::program(&build.installation())?.display()
    );
    Ok(())
}
