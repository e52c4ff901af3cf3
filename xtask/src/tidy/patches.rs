//! The README says how many patches there are, and how many lines they add and remove.

use std::fs;

use anyhow::{Context, Result};

use crate::series::Series;
use crate::workspace::Workspace;

pub fn check(workspace: &Workspace) -> Result<Vec<String>> {
    let series = Series::load(&workspace.patches())?;
    let (mut added, mut removed) = (0, 0);
    for patch in &series.patches {
        let changes = patch.text.lines();
        for line in changes.skip_while(|line| !line.starts_with("diff ")) {
            added += usize::from(line.starts_with('+') && !line.starts_with("+++"));
            removed += usize::from(line.starts_with('-') && !line.starts_with("---"));
        }
    }
    let count = series.patches.len();
    let expected = format!("{count} patches ({added} lines added, {removed} removed)");
    let text =
        fs::read_to_string(workspace.root().join("README.md")).context("cannot read README.md")?;
    let problem = || format!("README.md does not say \"{expected}\"");
    Ok((!text.contains(&expected))
        .then(problem)
        .into_iter()
        .collect())
}
