//! No line is so long that a window cuts it off. Rows of tables, links and snapshots cannot be divided.

use std::fs;

use anyhow::{Context, Result};

use crate::mirror;
use crate::workspace::Workspace;

/// Characters.
const LONGEST: usize = 130;
const DIRECTORIES: [&str; 5] = ["ci", "docs", "runtime", "tests", "xtask"];
const ENDINGS: [&str; 4] = ["md", "py", "rs", "toml"];

pub fn check(workspace: &Workspace) -> Result<Vec<String>> {
    let mut problems = Vec::new();
    for directory in DIRECTORIES {
        let directory = workspace.root().join(directory);
        if !directory.is_dir() {
            continue;
        }
        for file in mirror::files(&directory)? {
            let ending = file.extension().unwrap_or_default();
            if !ENDINGS.iter().any(|known| ending == *known) {
                continue;
            }
            let path = directory.join(&file);
            let text = fs::read_to_string(&path)
                .with_context(|| format!("cannot read {}", path.display()))?;
            for (line, number) in text.lines().zip(1..) {
                if line.chars().count() > LONGEST && !is_indivisible(line) {
                    problems.push(format!(
                        "{}:{number}: more than {LONGEST} characters",
                        path.display()
                    ));
                }
            }
        }
    }
    Ok(problems)
}

/// A row of a table, or a line of code that is mostly one text.
fn is_indivisible(line: &str) -> bool {
    let line = line.trim_start();
    line.starts_with('|') || !line.starts_with("//") && line.contains(['"', '\''])
}
