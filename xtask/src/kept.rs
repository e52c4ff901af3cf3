//! `cargo xtask kept`: finds values that modules keep and that differ from run to run, for the catalogue of
//! `runtime/python/cds/image/looks.py`.
//!
//! `xtask/kept/compare.py` finds these values, with an interpreter that has the modules. This file prepares its run.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use xshell::{Shell, cmd};
use xxhash_rust::xxh3::xxh3_64;

use crate::build_python::{self, Choice};
use crate::interpreter;
use crate::progress::Phase;
use crate::workspace::{self, Workspace};

const EXAMPLES: &str = "\
Examples:
  cargo xtask kept logging uuid                    what these modules of the standard library keep
  cargo xtask kept --package requests -- requests  what a package of PyPI keeps
  cargo xtask kept --catalogue                     whether all entries of the catalogue are right

Each module is imported by processes that are equal, except for the time, random bytes, the process id, the name of the
host and the limits. Values that differ between these processes are shown. A value is `renewed` if a restored process
gets another value.";

#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    #[command(flatten)]
    choice: Choice,
    /// First install packages from PyPI, to a separate environment below target/kept
    #[arg(long, value_name = "NAME", num_args = 1..)]
    package: Vec<String>,
    /// Check all entries of the catalogue instead, or only those about the standard library
    #[arg(long, value_enum, value_name = "EXTENT", num_args = 0..=1, default_missing_value = "all", conflicts_with_all = ["package", "modules"])]
    catalogue: Option<Extent>,
    /// Import each module in its own process, instead of all in one process
    #[arg(long)]
    each: bool,
    /// Show all differences, also those that the catalogue has
    #[arg(long)]
    all: bool,
    /// Modules, in the order in which they are imported
    #[arg(value_name = "MODULE", required_unless_present = "catalogue")]
    modules: Vec<String>,
}

#[derive(Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Extent {
    Standard,
    All,
}

pub fn run(args: &Args) -> Result<()> {
    let workspace = Workspace::new();
    let build = {
        let _lock = workspace.lock()?;
        build_python::build(&workspace, &args.choice, false)?
    };
    let shell = workspace::shell()?;
    let scripts = workspace.root().join("xtask/kept");
    let place = workspace.root().join("target/kept");
    fs::create_dir_all(&place).with_context(|| format!("cannot create {}", place.display()))?;
    let mut python = interpreter::program(&build.installation())?;
    if args.catalogue == Some(Extent::All) {
        let wanted = scripts.join("catalogue.txt");
        let wanted = fs::read_to_string(&wanted)
            .with_context(|| format!("cannot read {}", wanted.display()))?;
        let packages = wanted.lines().map(str::to_owned);
        python = environment(&shell, &python, &place, &Vec::from_iter(packages))?;
    } else if !args.package.is_empty() {
        python = environment(&shell, &python, &place, &args.package)?;
    }
    let directory =
        tempfile::tempdir_in(&place).context("cannot create a directory below target/kept")?;
    let library = compile(&shell, &scripts.join("other_run.c"), directory.path())?;
    // The addresses must be the same in each process.
    let script = scripts.join("compare.py");
    let catalogue = args.catalogue.map(|extent| match extent {
        Extent::Standard => "--catalogue=standard",
        Extent::All => "--catalogue=all",
    });
    let each = args.each.then_some("--each");
    let all = args.all.then_some("--all");
    let (directory, modules) = (directory.path(), &args.modules);
    cmd!(
        shell,
        "setarch --addr-no-randomize {python} -P {script} --library {library} --directory {directory}
         {catalogue...} {each...} {all...} -- {modules...}"
    )
    .quiet()
    .run()
    .context("the comparison has failed")
}

/// An interpreter with these packages. Its environment is kept for the next run.
fn environment(shell: &Shell, python: &Path, place: &Path, packages: &[String]) -> Result<PathBuf> {
    let wanted = packages.join("\n");
    let name = format!("{:016x}", xxh3_64(wanted.as_bytes()));
    let directory = place.join("environments").join(&name);
    let own = directory.join("bin/python");
    let made = directory.join("made");
    if fs::read_to_string(&made).is_ok_and(|text| text == wanted) {
        return Ok(own);
    }
    let log = place.join(format!("{name}.log"));
    let phase = Phase::start("packages");
    let make = cmd!(shell, "{python} -m venv --clear {directory}");
    phase.run(&mut make.into(), &log)?;
    let install = cmd!(
        shell,
        "{own} -m pip --disable-pip-version-check install {packages...}"
    );
    phase.run(&mut install.into(), &log)?;
    phase.done();
    fs::write(&made, &wanted).with_context(|| format!("cannot write {}", made.display()))?;
    Ok(own)
}

/// Compiles the library that gives answers in place of the C library.
fn compile(shell: &Shell, source: &Path, directory: &Path) -> Result<PathBuf> {
    let library = directory.join("other_run.so");
    let settings = directory.join("settings");
    let settings = format!("-DSETTINGS=\"{}\"", settings.display());
    cmd!(
        shell,
        "cc -shared -fPIC -O1 -D_GNU_SOURCE {settings} -o {library} {source}"
    )
    .quiet()
    .run()?;
    Ok(library)
}
