//! `cargo xtask build-python`: from the pinned tarball to `./python`.
//!
//! The steps come in this order because each needs the one before: the system's libraries, the patched source,
//! configure (which writes `pyconfig.h`), the Rust runtime (whose bindings are made from the configured headers), make,
//! the installation that `./python` links to, and the archive of its standard library. Each step finds out itself
//! whether it has anything to do.

use std::fs;
use std::num::NonZero;
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context, Result};

use crate::pins::{Pin, Pins};
use crate::workspace::{Build, Optional, Patches, Profile, Workspace};
use crate::{deps, disk, fetch, interpreter, launcher, runtime, source, stamp, standard_archive};

#[derive(clap::Args)]
pub struct Args {
    #[command(flatten)]
    pub choice: Choice,
    /// Build the unpatched interpreter with the same flags, for comparison; ./python does not change
    #[arg(long)]
    pub stock: bool,
}

/// What to build an interpreter from, and how.
#[derive(Clone, clap::Args)]
pub struct Choice {
    /// The pinned version of CPython [default: the newest whose source is available]
    #[arg(long, value_name = "VERSION")]
    pub cpython: Option<String>,
    /// How to compile the interpreter
    #[arg(long, value_enum, default_value_t = Profile::Dev)]
    pub profile: Profile,
    /// Leave out a patch that the others do not need
    #[arg(long, value_enum, value_name = "PATCH")]
    pub without: Option<Optional>,
    /// An argument for CPython's configure; can be given several times
    #[arg(long, value_name = "ARGUMENT", allow_hyphen_values = true)]
    pub configure: Vec<String>,
    /// The tarball of CPython, or a directory that contains it
    #[arg(long, value_name = "TARBALL|DIR")]
    pub source: Option<PathBuf>,
    /// Print which packages are missing instead of installing them
    #[arg(long)]
    pub no_install_deps: bool,
    /// How many jobs make runs in parallel [default: the number of processors]
    #[arg(short, long, value_name = "N")]
    pub jobs: Option<NonZero<usize>>,
}

impl Choice {
    pub fn jobs(&self) -> usize {
        self.jobs
            .or_else(|| std::thread::available_parallelism().ok())
            .map_or(1, NonZero::get)
    }

    /// The patches of the interpreter, unless it is stock.
    pub fn patches(&self) -> Patches {
        self.without.map_or(Patches::All, Patches::Without)
    }

    /// The release to build, whose tarball is in the cache.
    ///
    /// # Errors
    /// No origin has the chosen version, or, without a choice, any pinned version.
    pub fn release<'a>(&self, workspace: &Workspace, pins: &'a Pins) -> Result<&'a Pin> {
        let source = self.source.as_deref();
        let chosen = self.cpython.as_deref();
        fetch::first(&workspace.downloads(), pins, chosen, source)
    }
}

pub fn run(args: &Args) -> Result<()> {
    let workspace = Workspace::new();
    let _lock = workspace.lock()?;
    build(&workspace, &args.choice, args.stock)?;
    Ok(())
}

/// Builds an interpreter, installs it below `target/`, and makes `./python` a link to it if it is not stock.
pub fn build(workspace: &Workspace, choice: &Choice, stock: bool) -> Result<Build> {
    let build = build_aside(workspace, choice, stock, choice.profile)?;
    if !stock {
        link(workspace, &interpreter::program(&build.installation())?)?;
    }
    Ok(build)
}

/// Builds and installs an interpreter with the given profile, and does not change `./python`.
pub fn build_aside(
    workspace: &Workspace,
    choice: &Choice,
    stock: bool,
    profile: Profile,
) -> Result<Build> {
    let start = Instant::now();
    let pins = Pins::load(&workspace.patches())?;
    let pin = choice.release(workspace, &pins)?;
    let jobs = choice.jobs();
    let patches = if stock {
        Patches::None
    } else {
        choice.patches()
    };
    let mut build = workspace.build(&pin.version, profile, patches);
    build.configure = choice.configure.clone();
    eprintln!("CPython {} ({})", pin.version, build.name());

    if !build.installation().exists() {
        disk::warn_if_full(workspace.root(), disk::FOR_A_BUILD);
    }
    let installed = deps::ensure(workspace, !choice.no_install_deps)?;
    source::prepare(workspace, &build, pin)?;
    interpreter::configure(&build, installed)?;
    if !stock {
        runtime::build(workspace, &build)?;
        launcher::build(workspace, &build)?;
    }
    interpreter::compile(&build, jobs)?;
    interpreter::install(&build, jobs)?;
    if !stock {
        standard_archive::dump(workspace, &build)?;
    }

    let program = interpreter::program(&build.installation())?;
    eprintln!(
        "{} is ready ({:.1} s)",
        program
            .strip_prefix(workspace.root())
            .unwrap_or(&program)
            .display(),
        start.elapsed().as_secs_f64()
    );
    Ok(build)
}

/// Makes `./python` a relative link to the interpreter, so that the repository can be mounted elsewhere.
fn link(workspace: &Workspace, program: &Path) -> Result<()> {
    let python = workspace.python();
    let target = program.strip_prefix(workspace.root()).unwrap_or(program);
    if fs::read_link(&python).ok().as_deref() != Some(target) {
        stamp::remove_file(&python)?;
        let what = || format!("cannot create the link {}", python.display());
        std::os::unix::fs::symlink(target, &python).with_context(what)?;
    }
    Ok(())
}
