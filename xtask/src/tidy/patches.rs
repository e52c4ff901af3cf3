//! Each patch names its kind. The README says how many patches there are, and how many lines they add and remove.

use std::fs;

use anyhow::{Context, Result};

use crate::series::Series;
use crate::workspace::Workspace;

/// A hook calls the runtime. An upstreamable patch needs no runtime and is useful for CPython. A temporary patch can be
/// removed when a release contains the change.
const KINDS: [&str; 3] = ["hook", "upstreamable", "temporary"];

pub fn check(workspace: &Workspace) -> Result<Vec<String>> {
    let series = Series::load(&workspace.patches())?;
    let mut problems = Vec::new();
    let (mut added, mut removed) = (0, 0);
    for patch in &series.patches {
        let mut lines = patch
            .text
            .lines()
            .take_while(|line| !line.starts_with("diff "));
        let kind = lines.find_map(|line| line.strip_prefix("Kind: "));
        if !kind.is_some_and(|kind| KINDS.contains(&kind)) {
            problems.push(format!(
                "{} has no line \"Kind: {}\"",
                patch.name,
                KINDS.join("|")
            ));
        }
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
    if !text.contains(&expected) {
        problems.push(format!("README.md does not say \"{expected}\""));
    }
    Ok(problems)
}
