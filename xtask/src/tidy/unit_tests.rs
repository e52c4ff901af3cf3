//! Crates whose unit tests cannot be linked (`test = false` in `Cargo.toml`) have none: nobody would notice that they do
//! not run.

use std::fs;

use anyhow::{Context, Result};

use crate::mirror;
use crate::workspace::Workspace;

pub fn check(workspace: &Workspace) -> Result<Vec<String>> {
    let runtime = workspace.root().join("runtime");
    let files = mirror::files(&runtime)?;
    let read = |file: &std::path::Path| {
        let path = runtime.join(file);
        fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))
    };
    let mut problems = Vec::new();
    for manifest in files.iter().filter(|file| file.ends_with("Cargo.toml")) {
        if !has_no_tests(&read(manifest)?) {
            continue;
        }
        let sources = manifest.with_file_name("src");
        for source in files.iter().filter(|file| file.starts_with(&sources)) {
            let is_code = source.extension().is_some_and(|ending| ending == "rs");
            if is_code && read(source)?.contains("#[cfg(test)]") {
                problems.push(format!(
                    "runtime/{}: the tests in this file are never run; test it through ./python",
                    source.display()
                ));
            }
        }
    }
    Ok(problems)
}

fn has_no_tests(manifest: &str) -> bool {
    manifest.lines().any(|line| line.trim() == "test = false")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_manifest_can_exclude_unit_tests() {
        assert!(has_no_tests("[lib]\ntest = false\n"));
        assert!(!has_no_tests("[lib]\ndoctest = false\n"));
    }
}
