//! The lines of documents, comments and Python code are not too long for a window.

use std::fs;

use anyhow::{Context, Result};

use crate::mirror;
use crate::workspace::Workspace;

/// In characters.
const LONGEST: usize = 130;
const DIRECTORIES: [&str; 5] = ["ci", "docs", "runtime", "tests", "xtask"];
const ENDINGS: [&str; 3] = ["md", "py", "rs"];

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
                let counts = match ending.to_str() {
                    Some("md") => !line.starts_with('|'),
                    // rustfmt wraps the code, and does not wrap string literals.
                    Some("rs") => line.trim_start().starts_with("//"),
                    _ => true,
                };
                if counts && line.chars().count() > LONGEST {
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
