//! `docs/architecture.md` has a table of rooms (directories of code). Each row names exactly the modules of its room.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use anyhow::{Context, Result};

use crate::mirror;
use crate::workspace::Workspace;

const DOCUMENT: &str = "docs/architecture.md";
/// The trees in which each directory with code is a room.
const HOUSES: [&str; 3] = ["runtime", "xtask/src", "tests/src"];
/// Directories that are no rooms: tests and their data.
const LEFT_OUT: [&str; 2] = ["tests", "snapshots"];

/// Modules by room.
type Rooms = BTreeMap<String, BTreeSet<String>>;

pub fn check(workspace: &Workspace) -> Result<Vec<String>> {
    let text = fs::read_to_string(workspace.root().join(DOCUMENT))
        .with_context(|| format!("cannot read {DOCUMENT}"))?;
    let (named, there) = (named(&text), there(workspace)?);
    let mut problems = Vec::new();
    let nothing = BTreeSet::new();
    for room in named.keys().chain(there.keys()).collect::<BTreeSet<_>>() {
        let (named, there) = (
            named.get(room).unwrap_or(&nothing),
            there.get(room).unwrap_or(&nothing),
        );
        let differences = [
            (named.difference(there), "there is no module"),
            (there.difference(named), "the table does not name"),
        ];
        for (modules, problem) in differences {
            problems.extend(
                modules.map(|module| format!("{DOCUMENT}, `{room}`: {problem} `{module}`")),
            );
        }
    }
    Ok(problems)
}

/// Reads the rows of tables whose first cell is a directory: this is the room, and the last cell has its modules.
fn named(text: &str) -> Rooms {
    let mut rooms = Rooms::new();
    for line in text.lines().filter(|line| line.starts_with("| `")) {
        let cells: Vec<&str> = line.trim_matches('|').split('|').map(str::trim).collect();
        let (Some(room), Some(modules)) = (cells.first(), cells.last()) else {
            continue;
        };
        if let Some(room) = room.trim_matches('`').strip_suffix('/') {
            let modules = modules.split('`').skip(1).step_by(2);
            rooms
                .entry(room.to_owned())
                .or_default()
                .extend(modules.map(str::to_owned));
        }
    }
    rooms
}

fn there(workspace: &Workspace) -> Result<Rooms> {
    let mut rooms = Rooms::new();
    for house in HOUSES {
        for file in mirror::files(&workspace.root().join(house))? {
            let is_code = file.extension().is_some_and(|it| it == "rs" || it == "py");
            let is_left_out = LEFT_OUT.iter().any(|name| file.starts_with(name))
                || file
                    .iter()
                    .any(|part| LEFT_OUT.iter().any(|name| part == *name));
            let name = file.file_stem().unwrap_or_default().to_string_lossy();
            if !is_code
                || is_left_out
                || ["mod", "lib", "main", "__init__", "build"].contains(&&*name)
            {
                continue;
            }
            let directory = file
                .parent()
                .unwrap_or(&file)
                .to_string_lossy()
                .into_owned();
            let room = format!("{house}/{directory}");
            rooms
                .entry(room.trim_end_matches('/').to_owned())
                .or_default()
                .insert(name.into_owned());
        }
    }
    Ok(rooms)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rooms_are_rows_of_tables() {
        let text = "\
| `runtime/library/src/reader/` | opens an archive | `check`, `map` |
| not a room | of `code` | `x` |
| `figure` | of a bench | `y` |
";
        let expected = BTreeSet::from(["check".to_owned(), "map".to_owned()]);
        assert_eq!(
            named(text),
            BTreeMap::from([("runtime/library/src/reader".to_owned(), expected)])
        );
    }
}
