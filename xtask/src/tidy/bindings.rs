//! The library uses each name of CPython for which it generates bindings.

use std::fs;

use anyhow::{Context, Result};

use crate::mirror;
use crate::workspace::Workspace;

/// The text between the name of a list and its entries, and the text after the list.
const LIST: &str = ": &[&str] = &[";
const END: &str = "];";

pub fn check(workspace: &Workspace) -> Result<Vec<String>> {
    let library = workspace.root().join("runtime/library");
    let read = |path: &str| {
        let path = library.join(path);
        fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))
    };
    let script = read("build.rs")?;
    let mut code = String::new();
    for file in mirror::files(&library.join("src"))? {
        if file.extension().is_some_and(|ending| ending == "rs") {
            code += &read(&format!("src/{}", file.display()))?;
        }
    }
    let unused = listed(&script)
        .into_iter()
        .filter(|name| !has_word(&code, name));
    Ok(unused
        .map(|name| format!("runtime/library/build.rs: no code uses {name}"))
        .collect())
}

/// The names in the lists of a build script, without patterns, which are for names of the project itself.
fn listed(script: &str) -> Vec<&str> {
    let lists = script.split(LIST).skip(1);
    let lists = lists.filter_map(|rest| rest.split_once(END));
    let names = lists.flat_map(|(list, _)| list.split('"').skip(1).step_by(2));
    names.filter(|name| !name.ends_with(".*")).collect()
}

fn has_word(code: &str, word: &str) -> bool {
    let is_of_name = |character: char| character.is_ascii_alphanumeric() || character == '_';
    code.match_indices(word).any(|(at, _)| {
        let before = code[..at].chars().next_back();
        let after = code[at + word.len()..].chars().next();
        !before.is_some_and(is_of_name) && !after.is_some_and(is_of_name)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_whole_words_of_lists() {
        let script = "const TYPES: &[&str] = &[\n    \"PyA\", // a.h\n    \"PyAB\",\n    \"cds_.*\",\n];\nlet x = \"PyC\";";
        assert_eq!(listed(script), ["PyA", "PyAB"]);
        assert!(has_word("raw::PyA()", "PyA"));
        assert!(!has_word("raw::PyAB()", "PyA"));
    }
}
