//! Dependencies have one direction: no two modules use each other, directly or through others. Some modules must not
//! use some others at all. Some modules are for one room only.

use std::collections::BTreeSet;

use anyhow::Result;

use super::imports::{self, Uses, is_inside};
use crate::workspace::Workspace;

const CRATES: [&str; 6] = [
    "runtime/archive-format",
    "runtime/launcher",
    "runtime/library",
    "runtime/startup-image",
    "tests",
    "xtask",
];
const LIBRARY: &str = "runtime/library";
const PACKAGE: &str = "runtime/python/cds";

/// The tree, the prefix of modules that must not use others, and the prefix of these others.
const NEVER: [(&str, &str, &str); 8] = [
    (LIBRARY, "reader", "writer"),
    (LIBRARY, "writer", "reader"),
    (LIBRARY, "inspect", "image"),
    (LIBRARY, "cpython", "image"),
    (LIBRARY, "answer", "image"),
    (PACKAGE, "collect", "image"),
    (PACKAGE, "collect", "cli"),
    (PACKAGE, "image", "cli"),
];

/// The tree, a room, and a module that no code outside of this room uses.
const ONLY: [(&str, &str, &str); 1] = [(LIBRARY, "cpython", "cpython::bindings")];

pub fn check(workspace: &Workspace) -> Result<Vec<String>> {
    let mut problems = Vec::new();
    for name in CRATES {
        let uses = imports::of_crate(&workspace.root().join(name).join("src"))?;
        examine(name, &uses, &mut problems);
    }
    let uses = imports::of_package(&workspace.root().join(PACKAGE))?;
    examine(PACKAGE, &uses, &mut problems);
    Ok(problems)
}

fn examine(tree: &str, uses: &Uses, problems: &mut Vec<String>) {
    for circle in circles(uses) {
        problems.push(format!("{tree}: a circle of {}", circle.join(", ")));
    }
    let is_of = |module: &str, room: &str| module == room || is_inside(module, room);
    for (_, user, used) in NEVER.iter().filter(|(of, ..)| *of == tree) {
        for (module, others) in uses.iter().filter(|(module, _)| is_of(module, user)) {
            let others = others.iter().filter(|other| is_of(other, used));
            problems.extend(
                others.map(|other| {
                    format!("{tree}: {module} uses {other}: {user} must not use {used}")
                }),
            );
        }
    }
    for (_, room, own) in ONLY.iter().filter(|(of, ..)| *of == tree) {
        let users = uses.iter().filter(|(module, _)| !is_of(module, room));
        let users = users.filter(|(_, others)| others.iter().any(|other| is_of(other, own)));
        problems.extend(
            users.map(|(module, _)| format!("{tree}: {module} uses {own}: only {room} may use it")),
        );
    }
}

/// Sets of modules that use each other, directly or through others.
fn circles(uses: &Uses) -> BTreeSet<Vec<&str>> {
    let reached = |from: &str| {
        let mut reached = BTreeSet::new();
        let mut pending: Vec<&str> = uses[from].iter().map(String::as_str).collect();
        while let Some(module) = pending.pop() {
            if reached.insert(module) {
                pending.extend(uses[module].iter().map(String::as_str));
            }
        }
        reached
    };
    let mut found = BTreeSet::new();
    for module in uses.keys() {
        let others = reached(module);
        if others.contains(module.as_str()) {
            let circle = others
                .into_iter()
                .filter(|other| reached(other).contains(module.as_str()));
            found.insert(circle.collect());
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn uses(all: &[(&str, &[&str])]) -> Uses {
        let own = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        all.iter()
            .map(|(module, used)| ((*module).to_owned(), own(used)))
            .collect()
    }

    #[test]
    fn a_circle_is_found_once() {
        let uses = uses(&[("a", &["b", "d"]), ("b", &["c"]), ("c", &["a"]), ("d", &[])]);
        assert_eq!(circles(&uses), BTreeSet::from([vec!["a", "b", "c"]]));
    }

    #[test]
    fn what_must_not_be_known_is_named() {
        let uses = uses(&[("reader::map", &["writer"]), ("writer", &[])]);
        let mut problems = Vec::new();
        examine(LIBRARY, &uses, &mut problems);
        assert_eq!(
            problems,
            ["runtime/library: reader::map uses writer: reader must not use writer"]
        );
    }

    #[test]
    fn only_its_room_uses_a_module() {
        let bindings = "cpython::bindings";
        let uses = uses(&[
            (bindings, &[]),
            ("cpython::object", &[bindings]),
            ("image::taking::take", &["cpython::object", bindings]),
        ]);
        let mut problems = Vec::new();
        examine(LIBRARY, &uses, &mut problems);
        assert_eq!(
            problems,
            [
                "runtime/library: image::taking::take uses cpython::bindings: only cpython may use it"
            ]
        );
    }
}
