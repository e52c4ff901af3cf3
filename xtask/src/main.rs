//! The tasks of this repository: `cargo xtask <command>`.

mod build_python;
mod deps;
mod digest;
mod fetch;
mod interpreter;
mod mirror;
mod patch;
mod pins;
mod progress;
mod runtime;
mod series;
mod source;
mod stamp;
mod workspace;

use std::process::ExitCode;

use clap::Parser;

#[derive(Parser)]
#[command(
    name = "cargo xtask",
    bin_name = "cargo xtask",
    about = "The tasks of this repository"
)]
enum Task {
    /// Build the interpreter and leave it as ./python
    BuildPython(build_python::Args),
    /// Fetch the tarball of a pinned version of CPython
    Fetch(fetch::Args),
    /// Work on the patch series
    #[command(subcommand)]
    Patch(patch::Command),
}

fn main() -> ExitCode {
    let result = match Task::parse() {
        Task::BuildPython(args) => build_python::run(&args),
        Task::Fetch(args) => fetch::run(&args),
        Task::Patch(command) => patch::run(&command),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
