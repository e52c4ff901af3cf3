//! Writes the commits of the work tree back as the series.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};

use super::work_tree::{OVERLAY, WorkTree};
use crate::mirror;
use crate::pins::Pins;
use crate::series::{Patch, Series};
use crate::stamp;
use crate::workspace::Workspace;

pub fn refresh(workspace: &Workspace, version: Option<&str>) -> Result<()> {
    let pins = Pins::load(&workspace.patches())?;
    let pin = pins.choose(version)?;
    let tree = WorkTree::new(workspace, &pin.version)?;
    ensure!(
        tree.exists(),
        "there is no work tree; `cargo xtask patch edit --cpython {}` makes it",
        pin.version
    );
    let uncommitted = tree.uncommitted()?;
    if !uncommitted.is_empty() {
        bail!(
            "{} has changes that belong to no commit yet:\n{uncommitted}\nCommit them first.",
            tree.dir().display()
        );
    }

    // All patches are made before any file is written.
    let mut patches: Vec<Patch> = Vec::new();
    let mut overlay = Vec::new();
    for commit in tree.commits()? {
        ensure!(
            !commit.header.starts_with("fixup!") && !commit.header.starts_with("squash!"),
            "\"{}\" must be squashed: git rebase --interactive --autosquash pristine",
            commit.header.lines().next().unwrap_or_default()
        );
        if commit.name == OVERLAY {
            overlay.extend(tree.added(&commit)?);
            continue;
        }
        ensure!(
            commit.name.ends_with(".patch") && !commit.name.contains('/'),
            "{} is not a valid name for a patch",
            commit.name
        );
        ensure!(
            patches.iter().all(|patch| patch.name != commit.name),
            "two commits have the name {}",
            commit.name
        );
        let diff = tree.diff(&commit)?;
        ensure!(
            !diff.is_empty(),
            "{} changes nothing: drop the commit",
            commit.name
        );
        let patch = Patch {
            name: commit.name.clone(),
            text: format!("{}\n\n{diff}", commit.header),
        };
        patch.check()?;
        patches.push(patch);
    }
    // The overlay is copied after all patches have been applied, so no patch may change a file of the overlay.
    for patch in &patches {
        if let Some(path) = patch
            .touched()
            .find(|path| overlay.iter().any(|file| file == path))
        {
            bail!(
                "{} changes {}: squash that into the commit of {OVERLAY}",
                patch.name,
                path.display()
            );
        }
    }

    let old = Series::load(&workspace.patches())?;
    let is_newest = pin.version == pins.newest().version;
    for patch in &mut patches {
        // In an older release, the same change has other line numbers. This difference alone is no change.
        if let Some(old) = old.patches.iter().find(|old| old.name == patch.name)
            && !is_newest
            && without_positions(&old.text) == without_positions(&patch.text)
        {
            patch.text.clone_from(&old.text);
        }
    }
    let changed = write(&workspace.patches(), &patches)? + write_overlay(&tree, &old, &overlay)?;
    tree.mark_exported()?;
    match changed {
        0 => eprintln!("the series is unchanged"),
        _ => eprintln!("{changed} files have changed; check them with `cargo xtask patch check`"),
    }
    Ok(())
}

/// Writes the patches and the order file. Returns how many files it has changed.
fn write(dir: &Path, patches: &[Patch]) -> Result<usize> {
    let path = dir.join("series");
    let old =
        fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
    let comments = old
        .lines()
        .take_while(|line| line.starts_with('#') || line.is_empty());
    let names = patches.iter().map(|patch| patch.name.as_str());
    let series: String = comments
        .chain(names)
        .flat_map(|line| [line, "\n"])
        .collect();

    let mut changed = 0;
    for patch in patches {
        changed += usize::from(write_if_new(&dir.join(&patch.name), &patch.text)?);
    }
    changed += usize::from(write_if_new(&path, &series)?);
    for entry in fs::read_dir(dir).with_context(|| format!("cannot read {}", dir.display()))? {
        let path = entry
            .with_context(|| format!("cannot read {}", dir.display()))?
            .path();
        let is_patch = path
            .extension()
            .is_some_and(|extension| extension == "patch");
        if is_patch && patches.iter().all(|patch| !path.ends_with(&patch.name)) {
            eprintln!("  removed {}", path.display());
            stamp::remove_file(&path)?;
            changed += 1;
        }
    }
    Ok(changed)
}

fn write_if_new(path: &Path, text: &str) -> Result<bool> {
    if fs::read_to_string(path).is_ok_and(|old| old == text) {
        return Ok(false);
    }
    fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))?;
    eprintln!("  wrote {}", path.display());
    Ok(true)
}

fn write_overlay(tree: &WorkTree, series: &Series, files: &[std::path::PathBuf]) -> Result<usize> {
    let mut changed = 0;
    for file in files {
        let path = series.overlay().join(file);
        if mirror::update(&tree.dir().join(file), &path)? {
            eprintln!("  wrote {}", path.display());
            changed += 1;
        }
    }
    for file in series
        .overlay_files()?
        .iter()
        .filter(|file| !files.contains(file))
    {
        let path = series.overlay().join(file);
        stamp::remove_file(&path)?;
        eprintln!("  removed {}", path.display());
        changed += 1;
    }
    Ok(changed)
}

/// A patch without the line numbers of its hunks.
fn without_positions(patch: &str) -> String {
    let position = |line: &str| {
        let ranges = line.strip_prefix("@@ ")?;
        let (ranges, context) = ranges.split_once(" @@")?;
        let lengths: Vec<_> = ranges
            .split(' ')
            .map(|range| range.split_once(',').map_or("1", |(_, n)| n))
            .collect();
        Some(format!("@@ {} @@{context}\n", lengths.join(" ")))
    };
    patch
        .lines()
        .map(|line| position(line).unwrap_or_else(|| format!("{line}\n")))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_are_no_part_of_a_change_but_lengths_are() {
        let patch = |hunk| format!("Why\n\n--- a/f\n+++ b/f\n{hunk}\n 1\n-2\n+two\n 3\n");
        let at = without_positions(&patch("@@ -2,3 +2,3 @@ int f()"));
        assert_eq!(at, without_positions(&patch("@@ -102,3 +105,3 @@ int f()")));
        assert_ne!(at, without_positions(&patch("@@ -2,3 +2,4 @@ int f()")));
        assert_ne!(at, without_positions(&patch("@@ -2,3 +2,3 @@ int g()")));
    }

    fn patch(name: &str) -> Patch {
        Patch {
            name: name.into(),
            text: format!("{name}\n"),
        }
    }

    #[test]
    fn writing_is_idempotent_keeps_comments_and_removes_what_is_gone() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("series"), "# order\nb.patch\n").unwrap();
        fs::write(dir.path().join("b.patch"), "b.patch\n").unwrap();
        let patches = [patch("a.patch"), patch("c.patch")];
        assert_eq!(write(dir.path(), &patches).unwrap(), 4);
        assert_eq!(
            fs::read_to_string(dir.path().join("series")).unwrap(),
            "# order\na.patch\nc.patch\n"
        );
        assert!(!dir.path().join("b.patch").exists());
        assert_eq!(write(dir.path(), &patches).unwrap(), 0);
    }
}
