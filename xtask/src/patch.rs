//! `cargo xtask patch`: work on the patch series.
//!
//! A patch is edited as a commit. [`edit`] makes a git work tree in which the pristine source is the first commit, each
//! patch is one commit and so is the overlay; [`refresh`] writes the commits back. What is not changed comes back
//! byte by byte: object names, which would differ, are left out of the diffs.

mod check;
mod edit;
mod refresh;
mod work_tree;

#[cfg(test)]
mod tests;

use anyhow::Result;

pub use check::check;

use crate::workspace::Workspace;

#[derive(clap::Subcommand)]
pub enum Command {
    /// Check that each patch argues for itself and that the series applies to every pinned version
    Check,
    /// Make a git work tree with one commit a patch
    Edit(Version),
    /// Write the commits of the work tree back as the series
    Refresh(Version),
}

#[derive(clap::Args)]
pub struct Version {
    /// The pinned version of CPython [default: the first in pins.toml]
    #[arg(long, value_name = "VERSION")]
    cpython: Option<String>,
}

pub fn run(command: &Command) -> Result<()> {
    let workspace = Workspace::new();
    let _lock = workspace.lock()?;
    match command {
        Command::Check => check(&workspace),
        Command::Edit(version) => edit::edit(&workspace, version.cpython.as_deref()),
        Command::Refresh(version) => refresh::refresh(&workspace, version.cpython.as_deref()),
    }
}
