//! The tasks of this repository: `cargo xtask <command>`.

mod bench;
mod build_python;
mod cpython_tests;
mod demo;
mod deps;
mod digest;
mod disk;
mod extensions;
mod fetch;
mod install;
mod interpreter;
mod kept;
mod launcher;
mod lint;
mod mirror;
mod notices;
mod object;
mod outdated;
mod package;
mod patch;
mod pins;
mod progress;
mod runtime;
mod series;
mod source;
mod stamp;
mod standard_archive;
mod test;
mod tidy;
mod workspace;

use std::process::ExitCode;

use clap::Parser;

use crate::workspace::Workspace;

#[derive(Parser)]
#[command(
    name = "cargo xtask",
    bin_name = "cargo xtask",
    about = "The tasks of this repository"
)]
enum Task {
    /// Measure real programs with stock CPython, archives and startup images
    Bench(bench::Args),
    /// Build the interpreter and make the link ./python to it
    BuildPython(build_python::Args),
    /// Build the interpreter and show what an archive does for real programs
    Demo(demo::Args),
    /// Fetch the tarball of a pinned version of CPython
    Fetch(fetch::Args),
    /// Install the interpreter, with pip and headers, to a directory
    Install(install::Args),
    /// Show which values modules keep that differ from run to run
    Kept(kept::Args),
    /// Write runtime/NOTICES, the licences of the crates that are linked into the interpreter
    Notices,
    /// List pinned versions that are older than the newest release
    Outdated,
    /// Make a package: a Python that can be unpacked anywhere, its checksum, and a catalogue for uv
    Package(package::Args),
    /// Edit and check the patch series
    #[command(subcommand)]
    Patch(patch::Command),
    /// Check that the documents agree with the code, and that the code follows the rules for its structure
    Tidy,
    /// Build ./python and run all checks and tests
    Test(test::Args),
}

fn main() -> ExitCode {
    let result = match Task::parse() {
        Task::Bench(args) => bench::run(args),
        Task::BuildPython(args) => build_python::run(&args),
        Task::Demo(args) => demo::run(&args),
        Task::Fetch(args) => fetch::run(&args),
        Task::Install(args) => install::run(&args),
        Task::Kept(args) => kept::run(&args),
        Task::Notices => notices::write(&Workspace::new()),
        Task::Outdated => outdated::run(&Workspace::new()),
        Task::Package(args) => package::run(&args),
        Task::Patch(command) => patch::run(&command),
        Task::Test(args) => test::run(&args),
        Task::Tidy => tidy::run(&Workspace::new()),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
