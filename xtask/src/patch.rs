//! `cargo xtask patch`: work on the patch series.
//!
//! A patch is edited as a commit. [`edit`] makes a git work tree: the first commit is the pristine source, and each
//! patch and the overlay is one further commit. [`refresh`] writes the commits back. Unchanged patches stay the same
//! byte for byte: the diffs contain no names of git objects, which would differ.

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
    /// Check that each patch gives its reason and that the series applies to every pinned version
    Check,
    /// Make a git work tree with one commit for each patch
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
