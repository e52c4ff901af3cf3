//! Which modules of a tree of code use which others, by `use` in Rust, and by `import` at the top of Python files.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use anyhow::{Context, Result};

use crate::mirror;

/// The modules that each module uses. The paths have the notation of Rust (`a::b`).
pub type Uses = BTreeMap<String, BTreeSet<String>>;

/// The modules of a crate, by the directory of its sources.
pub fn of_crate(directory: &Path) -> Result<Uses> {
    let texts = texts(directory, "rs")?;
    let uses = |module: &String, text: &String| {
        let used = paths_used(text).into_iter();
        let used = used.filter_map(|path| resolved(module, &path, &texts));
        // Modules inside of a module are a part of it.
        let is_other = |used: &String| used != module && !is_inside(module, used);
        used.filter(is_other).collect()
    };
    Ok(texts
        .iter()
        .map(|(module, text)| (module.clone(), uses(module, text)))
        .collect())
}

/// The modules of a Python package. Imports in functions do not count: they are in functions because they run later.
pub fn of_package(directory: &Path) -> Result<Uses> {
    let package = directory.file_name().unwrap_or_default().to_string_lossy();
    let texts = texts(directory, "py")?;
    let known = |path: &str| texts.contains_key(path).then(|| path.to_owned());
    let of_line = |line: &str| -> Vec<String> {
        let Some((from, names)) = line
            .strip_prefix("from ")
            .and_then(|rest| rest.split_once(" import "))
        else {
            return Vec::new();
        };
        let Some(from) = from.strip_prefix(&*package) else {
            return Vec::new();
        };
        let from = from.trim_start_matches('.').replace('.', "::");
        let names = names.trim_matches(['(', ')']).split(',').map(str::trim);
        let inner = names.filter_map(|name| known(&joined(&from, name)));
        inner.chain(known(&from)).collect()
    };
    let uses = |text: &String| text.lines().flat_map(of_line).collect::<BTreeSet<_>>();
    Ok(texts
        .iter()
        .map(|(module, text)| {
            let mut used = uses(text);
            used.remove(module);
            (module.clone(), used)
        })
        .collect())
}

/// The texts of the files by module. The root has the empty path.
fn texts(directory: &Path, ending: &str) -> Result<BTreeMap<String, String>> {
    let mut texts = BTreeMap::new();
    for file in mirror::files(directory)? {
        if file.extension().is_none_or(|found| found != ending) {
            continue;
        }
        let path = directory.join(&file);
        let text =
            fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
        let module = file.with_extension("").to_string_lossy().replace('/', "::");
        let is_of_directory = ["mod", "lib", "main", "__init__"];
        let (outer, name) = module.rsplit_once("::").unwrap_or(("", &module));
        let module = if is_of_directory.contains(&name) {
            outer.to_owned()
        } else {
            module
        };
        texts.insert(module, text);
    }
    Ok(texts)
}

/// The paths in the trees of `use`, and paths in code that begin with `crate::`.
fn paths_used(text: &str) -> Vec<String> {
    let code: Vec<&str> = text
        .lines()
        .map(|line| line.split("//").next().unwrap_or_default())
        .collect();
    let code = code.join("\n");
    let mut paths = Vec::new();
    for start in ["use crate::", "use super::", "use self::"] {
        for part in code.split(start).skip(1) {
            let tree: String = part
                .split(';')
                .next()
                .unwrap_or_default()
                .split_whitespace()
                .collect();
            let beginning = start.strip_prefix("use ").unwrap_or_default();
            divide(beginning, &tree, &mut paths);
        }
    }
    for part in code.split("crate::").skip(1) {
        let is_of_path = |character: char| character.is_alphanumeric() || "_:".contains(character);
        let end = part.find(|character| !is_of_path(character));
        paths.push(format!("crate::{}", &part[..end.unwrap_or(part.len())]));
    }
    paths
}

/// Expands a tree of `use` to paths.
fn divide(beginning: &str, tree: &str, paths: &mut Vec<String>) {
    let mut depth = 0;
    let is_between = |character: char| {
        match character {
            '{' => depth += 1,
            '}' => depth -= 1,
            _ => {}
        }
        character == ',' && depth == 0
    };
    let parts: Vec<&str> = tree.split(is_between).collect();
    for part in parts {
        match part.split_once('{') {
            Some((before, inner)) => {
                let inner = inner.strip_suffix('}').unwrap_or(inner);
                divide(&format!("{beginning}{before}"), inner, paths);
            }
            None => paths.push(format!("{beginning}{part}")),
        }
    }
}

/// The module that contains the item of a path, which a module uses.
fn resolved(module: &str, path: &str, texts: &BTreeMap<String, String>) -> Option<String> {
    let mut base: Vec<&str> = module.split("::").filter(|part| !part.is_empty()).collect();
    for part in path.split("::") {
        match part {
            "crate" => base.clear(),
            "self" => {}
            "super" => {
                base.pop();
            }
            part => base.push(part),
        }
    }
    while !base.is_empty() {
        let candidate = base.join("::");
        if texts.contains_key(&candidate) {
            return Some(candidate);
        }
        base.pop();
    }
    None
}

/// Whether a module is inside of another one.
pub fn is_inside(module: &str, outer: &str) -> bool {
    module
        .strip_prefix(outer)
        .is_some_and(|rest| rest.starts_with("::"))
}

fn joined(outer: &str, name: &str) -> String {
    if outer.is_empty() {
        name.to_owned()
    } else {
        format!("{outer}::{name}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_of_a_tree() {
        let text = "use crate::a::{b, c::{self, D}};\nuse super::e; // use crate::f;\nlet x = crate::g::h();\n";
        assert_eq!(
            paths_used(text),
            [
                "crate::a::b",
                "crate::a::c::self",
                "crate::a::c::D",
                "super::e",
                "crate::a::",
                "crate::g::h"
            ]
        );
    }

    #[test]
    fn paths_lead_to_modules() {
        let known = ["", "a", "a::b", "c"].map(|name| (name.to_owned(), String::new()));
        let known = BTreeMap::from(known);
        let to = |module, path| resolved(module, path, &known);
        assert_eq!(to("c", "crate::a::b::Name"), Some("a::b".to_owned()));
        assert_eq!(to("a::b", "super::Name"), Some("a".to_owned()));
        assert_eq!(to("a::b", "crate::Name"), None);
    }
}
