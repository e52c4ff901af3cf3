//! `cargo xtask outdated`: which pins are older than the newest release that `packaging/upstream.toml` names.

use std::collections::BTreeMap;
use std::fs;

use anyhow::{Context, Result, bail};
use serde::Deserialize;

use crate::package;
use crate::pins::{Pin, Pins};
use crate::workspace::Workspace;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Table {
    checked: String,
    newest: BTreeMap<String, String>,
}

pub fn run(workspace: &Workspace) -> Result<()> {
    let path = workspace.root().join("packaging/upstream.toml");
    let text =
        fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
    let what = || format!("{} is not a table of releases", path.display());
    let table: Table = toml::from_str(&text).with_context(what)?;
    let pins = Pins::load(&workspace.patches())?;
    let mut all = vec![pins.newest().clone()];
    all.extend(package::pins(workspace)?);
    let behind = behind(&table, &all);
    println!("{} was updated on {}.", path.display(), table.checked);
    if behind.is_empty() {
        println!("All {} pins are the newest releases.", all.len());
        return Ok(());
    }
    for line in &behind {
        println!("{line}");
    }
    bail!(
        "{} of {} pins are behind; docs/releasing.md says how to change them",
        behind.len(),
        all.len()
    )
}

fn behind(table: &Table, pins: &[Pin]) -> Vec<String> {
    let line = |pin: &Pin| match table.newest.get(&pin.name) {
        Some(newest) if *newest == pin.version => None,
        Some(newest) => Some(format!(
            "{} {}: {newest} is released",
            pin.name, pin.version
        )),
        None => Some(format!("{} {}: not in the table", pin.name, pin.version)),
    };
    pins.iter().filter_map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pins::DebianSource;

    #[test]
    fn what_is_behind_or_unknown_is_listed() {
        let pin = |name: &str, version: &str| Pin {
            name: name.into(),
            version: version.into(),
            sha256: String::new(),
            size: 0,
            url: None,
            suffix: "tar.gz".into(),
            debian: DebianSource {
                package: name.into(),
                version: None,
                suites: vec![],
            },
        };
        let table = Table {
            checked: "2026-11-28".into(),
            newest: [("a", "1.10"), ("b", "2")]
                .map(|(name, version)| (name.to_owned(), version.to_owned()))
                .into(),
        };
        let pins = [pin("a", "1.9"), pin("b", "2"), pin("c", "3")];
        assert_eq!(
            behind(&table, &pins),
            ["a 1.9: 1.10 is released", "c 3: not in the table"]
        );
    }
}
