//! `cargo xtask install --prefix DIR`: an installation outside of the repository.
//!
//! The prefix is compiled into the interpreter, and recorded in sysconfig, the Makefile and the pkg-config files. The
//! interpreter at `./python` has another prefix. So the objects are copied and configured for the new prefix, and make
//! compiles the few objects again that contain it. The installed interpreter then reports the same paths as a stock
//! installation with this prefix.

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
    let prefix = path::absolute(&args.prefix).context("--prefix is not a valid path")?;
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
