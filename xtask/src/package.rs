//! `cargo xtask package`: a Python to unpack anywhere, in the form that uv, pip and container images know.
//!
//! The package is built in a tree of Debian 11 ([`root`]), with libraries that are linked statically ([`libraries`]). In
//! this tree, the command runs itself again with `--on-this-system`: it builds the interpreter, makes a copy of the
//! installation that can be moved ([`tree`]), and packs the copy.

mod catalogue;
mod debian;
mod libraries;
mod root;
mod systems;
mod tree;

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use xshell::cmd;

use crate::build_python::{self, Choice};
use crate::pins::{Pin, Pins};
use crate::progress::Phase;
use crate::workspace::{Build, Profile, Workspace};
use crate::{deps, digest, mirror, workspace};
use root::Root;

#[derive(clap::Args)]
#[command(mut_arg("profile", |profile| profile.default_value("release")))]
pub struct Args {
    #[command(flatten)]
    choice: Choice,
    /// Use the compiler and the libraries of this system instead of those of Debian 11; the package runs on systems
    /// that have these libraries
    #[arg(long)]
    on_this_system: bool,
    /// Then use the package in trees of Debian 11, 12 and 13
    #[arg(long, conflicts_with = "on_this_system")]
    check: bool,
    /// Then measure starts of the package against those of Debian 13's own Python
    #[arg(long, conflicts_with = "on_this_system")]
    compare: bool,
    /// The address of the directory from which the package will be downloaded, for the catalogue [default: the
    /// directory of the package]
    #[arg(long, value_name = "URL")]
    url: Option<String>,
    /// The directory for the package [default: target/package]
    #[arg(long, value_name = "DIR")]
    output: Option<PathBuf>,
}

/// The last commit: the date of the package, and the time of all its files.
struct Commit {
    date: String,
    time: u64,
}

pub fn run(args: &Args) -> Result<()> {
    let workspace = Workspace::new();
    let output = match &args.output {
        Some(output) => std::path::absolute(output).context("--output is not a valid path")?,
        None => workspace.root().join("target/package"),
    };
    let make = if args.on_this_system {
        here
    } else {
        in_debian_11
    };
    let commit = Commit::last(&workspace)?;
    fs::create_dir_all(&output).with_context(|| format!("cannot create {}", output.display()))?;
    let tarball = make(&workspace, &args.choice, &commit, &output)?;
    write_checksum(&tarball)?;
    catalogue::write(&tarball, &commit.date, args.url.as_deref())?;
    let length = fs::metadata(&tarball).map_or(0, |status| status.len());
    eprintln!("{}: {:.1} MB", tarball.display(), length as f64 / 1e6);
    if args.check {
        systems::check(&workspace, &tarball)?;
    }
    if args.compare {
        systems::compare(&workspace, &tarball)?;
    }
    Ok(())
}

/// Makes a package with the interpreter and the libraries of this system, for tests.
pub fn for_tests(workspace: &Workspace, choice: &Choice) -> Result<PathBuf> {
    let output = workspace.root().join("target/package/for-tests");
    fs::create_dir_all(&output).with_context(|| format!("cannot create {}", output.display()))?;
    let commit = Commit::last(workspace)?;
    let tarball = here(workspace, choice, &commit, &output)?;
    catalogue::write(&tarball, &commit.date, None)?;
    Ok(tarball)
}

/// The pinned libraries that a package carries.
pub fn pins(workspace: &Workspace) -> Result<Vec<Pin>> {
    libraries::pins(workspace)
}

impl Commit {
    /// Without a repository, this is now.
    fn last(workspace: &Workspace) -> Result<Self> {
        let shell = workspace.shell()?;
        shell.set_var("TZ", "UTC");
        // git refuses to read the repository of another user.
        let log = cmd!(
            shell,
            "git -c safe.directory=* log -1 --date=format-local:%Y%m%d --format=%cd:%ct"
        );
        let line = log.quiet().ignore_stderr().read();
        let line = line.or_else(|_| cmd!(shell, "date +%Y%m%d:%s").quiet().read());
        let line = line.context("the date is not known")?;
        let (date, time) = line.split_once(':').context("a date has a time")?;
        Ok(Self {
            date: date.to_owned(),
            time: time.parse().context("the time is a number")?,
        })
    }
}

/// Builds the interpreter on this system, and packs it.
fn here(workspace: &Workspace, choice: &Choice, commit: &Commit, output: &Path) -> Result<PathBuf> {
    let _lock = workspace.lock()?;
    let build = build_python::build_aside(workspace, choice, false, choice.profile)?;
    let python = output.join("tree/python");
    tree::make(workspace, &build, commit.time, &python)?;
    let tarball = output.join(name(&build, commit));
    pack(&python, &tarball)?;
    Ok(tarball)
}

/// Does the same in a tree of Debian 11.
fn in_debian_11(
    workspace: &Workspace,
    choice: &Choice,
    commit: &Commit,
    output: &Path,
) -> Result<PathBuf> {
    let _lock = workspace.lock()?;
    deps::ensure_for_packages(workspace, !choice.no_install_deps)?;
    let root = Root::prepare(workspace)?;
    libraries::build(workspace, &root)?;

    let pins = Pins::load(&workspace.patches())?;
    let pin = choice.release(workspace, &pins)?;
    let source = root.target().join("cpython/downloads").join(pin.tarball());
    mirror::update(&workspace.downloads().join(pin.tarball()), &source)?;

    let target = root.target().join("package");
    let (version, profile) = (pin.version.as_str(), choice.profile.to_string());
    let jobs = choice.jobs().to_string();
    let mut arguments = vec!["cargo", "xtask", "package", "--on-this-system"];
    arguments.extend(["--cpython", version, "--profile", &profile, "--jobs", &jobs]);
    arguments.extend(["--no-install-deps", "--output", "/build/target/package"]);
    // libedit has a licence that allows any use.
    arguments.push("--configure=--with-readline=editline");
    if choice.profile != Profile::ReleaseCheck {
        // Debug information would be more than half of the package.
        arguments.push("--configure=OPT=-DNDEBUG -O3 -Wall");
    }
    let configure = choice
        .configure
        .iter()
        .map(|argument| format!("--configure={argument}"));
    let configure = Vec::from_iter(configure);
    arguments.extend(configure.iter().map(String::as_str));
    let without = choice
        .without
        .map(|patch| format!("--without={}", patch.name()));
    arguments.extend(without.as_deref());
    root.follow(&arguments)?;

    let build = workspace.build(&pin.version, choice.profile, choice.patches());
    let name = name(&build, commit);
    let tarball = output.join(&name);
    fs::copy(target.join(&name), &tarball)
        .with_context(|| format!("cannot write {}", tarball.display()))?;
    Ok(tarball)
}

/// The name that other builders of Python give such a file.
fn name(build: &Build, commit: &Commit) -> String {
    format!(
        "cpython-{}+{}-{}-unknown-linux-gnu-install_only_stripped.tar.gz",
        build.version(),
        commit.date,
        std::env::consts::ARCH
    )
}

/// Packs a directory. The same directory gives the same bytes.
fn pack(directory: &Path, tarball: &Path) -> Result<()> {
    let phase = Phase::start("pack");
    let (parent, name) = (directory.parent(), directory.file_name());
    let (parent, name) = (
        parent.context("it has a parent")?,
        name.context("it has a name")?,
    );
    let shell = workspace::shell()?;
    let uncompressed = tarball.with_extension("");
    cmd!(
        shell,
        "tar --create --sort=name --format=gnu --owner=0 --group=0 --numeric-owner --directory={parent}
         --file={uncompressed} {name}"
    )
    .quiet()
    .run()?;
    cmd!(shell, "gzip --best --no-name --force {uncompressed}")
        .quiet()
        .run()?;
    phase.done();
    Ok(())
}

/// Writes the checksum in the form that `sha256sum --check` reads.
fn write_checksum(tarball: &Path) -> Result<()> {
    let name = tarball.file_name().unwrap_or_default().to_string_lossy();
    let line = format!("{}  {name}\n", digest::of_file(tarball)?);
    let path = PathBuf::from(format!("{}.sha256", tarball.display()));
    fs::write(&path, line).with_context(|| format!("cannot write {}", path.display()))
}
