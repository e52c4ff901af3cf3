//! `cargo xtask kept`: what modules keep that differs from run to run, for the catalogue of `runtime/python/cds/image/looks.py`.
//!
//! `xtask/kept/compare.py` finds it out, with an interpreter that has the modules; here is what it needs.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use xxhash_rust::xxh3::xxh3_64;

use crate::build_python::{self, Choice};
use crate::interpreter;
use crate::progress::Phase;
use crate::workspace::Workspace;

const EXAMPLES: &str = "\
Examples:
  cargo xtask kept logging uuid                    what these modules of the standard library keep
  cargo xtask kept --package requests -- requests  what a package of PyPI keeps
  cargo xtask kept --catalogue                     whether all that the catalogue says is right

Each module is imported by processes in which everything is equal, but the time, random bytes, the process id, the name of the
host and the limits; shown is what differs in what they hold. A value is `renewed` if a process that is restored has another one.";

#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    #[command(flatten)]
    choice: Choice,
    /// Install packages from PyPI first, to an environment of their own below target/kept
    #[arg(long, value_name = "NAME", num_args = 1..)]
    package: Vec<String>,
    /// Look at the entries of the catalogue instead, or at those that are about the standard library
    #[arg(long, value_enum, value_name = "EXTENT", num_args = 0..=1, default_missing_value = "all", conflicts_with_all = ["package", "modules"])]
    catalogue: Option<Extent>,
    /// Import each module by itself, instead of all in one process
    #[arg(long)]
    each: bool,
    /// Show all that differs, and what the catalogue knows, too
    #[arg(long)]
    all: bool,
    /// Modules, which are imported in this order
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
    let scripts = workspace.root().join("xtask/kept");
    let place = workspace.root().join("target/kept");
    fs::create_dir_all(&place).with_context(|| format!("cannot create {}", place.display()))?;
    let mut python = interpreter::program(&build.installation())?;
    if args.catalogue == Some(Extent::All) {
        let wanted = scripts.join("catalogue.txt");
        let wanted = fs::read_to_string(&wanted)
            .with_context(|| format!("cannot read {}", wanted.display()))?;
        let packages = wanted.lines().map(str::to_owned);
        python = environment(&python, &place, &Vec::from_iter(packages))?;
    } else if !args.package.is_empty() {
        python = environment(&python, &place, &args.package)?;
    }
    let directory =
        tempfile::tempdir_in(&place).context("cannot create a directory below target/kept")?;
    let library = compile(&scripts.join("other_run.c"), directory.path())?;
    // The addresses are to be the same in each process.
    let mut compare = Command::new("setarch");
    compare.arg("--addr-no-randomize").arg(python);
    compare.arg("-P").arg(scripts.join("compare.py"));
    compare.arg("--library").arg(library);
    compare.arg("--directory").arg(directory.path());
    match args.catalogue {
        Some(Extent::Standard) => drop(compare.arg("--catalogue=standard")),
        Some(Extent::All) => drop(compare.arg("--catalogue=all")),
        None => {}
    }
    for (is_wanted, option) in [(args.each, "--each"), (args.all, "--all")] {
        if is_wanted {
            compare.arg(option);
        }
    }
    let status = compare
        .arg("--")
        .args(&args.modules)
        .status()
        .context("cannot run setarch")?;
    ensure!(status.success(), "the comparison has failed ({status})");
    Ok(())
}

/// An interpreter with these packages; it stays for the next time.
fn environment(python: &Path, place: &Path, packages: &[String]) -> Result<PathBuf> {
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
    let mut make = Command::new(python);
    make.args(["-m", "venv", "--clear"]).arg(&directory);
    phase.run(&mut make, &log)?;
    let mut install = Command::new(&own);
    install.args(["-m", "pip", "--disable-pip-version-check", "install"]);
    phase.run(install.args(packages), &log)?;
    phase.done();
    fs::write(&made, &wanted).with_context(|| format!("cannot write {}", made.display()))?;
    Ok(own)
}

/// Makes the library that answers in place of the C library.
fn compile(source: &Path, directory: &Path) -> Result<PathBuf> {
    let library = directory.join("other_run.so");
    let settings = directory.join("settings");
    let mut compiler = Command::new("cc");
    compiler.args(["-shared", "-fPIC", "-O1", "-D_GNU_SOURCE"]);
    compiler.arg(format!("-DSETTINGS=\"{}\"", settings.display()));
    compiler.arg("-o").arg(&library).arg(source);
    let status = compiler.status().context("cannot run cc")?;
    ensure!(status.success(), "cc has failed ({status})");
    Ok(library)
}
