//! Each path of this repository that a document or a comment names exists.

use std::collections::BTreeSet;
use std::fs;

use anyhow::{Context, Result};

use crate::mirror;
use crate::workspace::Workspace;

/// The directories with which the paths begin.
const TOPS: [&str; 7] = [
    "cpython-patches/",
    "ci/",
    "docs/",
    "packaging/",
    "runtime/",
    "tests/",
    "xtask/",
];
const DOCUMENTS: [&str; 2] = ["README.md", "CONTRIBUTING.md"];
const ENDINGS: [&str; 4] = ["h", "md", "py", "rs"];

pub fn check(workspace: &Workspace) -> Result<Vec<String>> {
    let root = workspace.root();
    let mut files: Vec<_> = DOCUMENTS.iter().map(|name| root.join(name)).collect();
    for top in TOPS {
        let directory = root.join(top);
        if directory.is_dir() {
            let inside = mirror::files(&directory)?.into_iter();
            files.extend(inside.map(|file| directory.join(file)));
        }
    }
    let mut problems = Vec::new();
    for file in files {
        let ending = file.extension().unwrap_or_default();
        if !ENDINGS.iter().any(|known| ending == *known) {
            continue;
        }
        let text =
            fs::read_to_string(&file).with_context(|| format!("cannot read {}", file.display()))?;
        let is_document = ending == "md";
        let lines = text.lines().map(str::trim_start);
        let lines = lines.filter(|line| is_document || line.starts_with(['/', '#', '*']));
        for path in lines.flat_map(paths).collect::<BTreeSet<_>>() {
            if !root.join(path).exists() {
                problems.push(format!("{}: {path} does not exist", file.display()));
            }
        }
    }
    Ok(problems)
}

/// The words of a line that are paths of this repository.
fn paths(line: &str) -> impl Iterator<Item = &str> {
    let is_of_path =
        |character: char| character.is_ascii_alphanumeric() || "_./-".contains(character);
    let words = line.split(move |character| !is_of_path(character));
    let words = words.map(|word| word.trim_matches(['.', '-']));
    words.filter(|word| {
        TOPS.iter()
            .any(|top| word.starts_with(top) && word.len() > top.len())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_that_are_paths() {
        let line = "See `runtime/library/src/ffi.rs`, and (docs/guide.md). A/tests/b, xtask/ and tests/*.rs are none.";
        let found: Vec<&str> = paths(line).collect();
        assert_eq!(found, ["runtime/library/src/ffi.rs", "docs/guide.md"]);
    }
}
