//! Makes the work tree.

use anyhow::{Result, bail};

use super::work_tree::{OVERLAY, WorkTree};
use crate::fetch;
use crate::pins::Pins;
use crate::progress::Phase;
use crate::series::Series;
use crate::source;
use crate::workspace::Workspace;

pub fn edit(workspace: &Workspace, version: Option<&str>) -> Result<()> {
    let pins = Pins::load(&workspace.patches())?;
    let pin = pins.choose(version)?;
    let series = Series::load(&workspace.patches())?;
    let tree = WorkTree::new(workspace, &pin.version)?;
    let dir = tree.dir().display();
    if tree.exists() && !tree.is_exported()? {
        bail!(
            "{dir} has changes that are not in the series\n\
             Write them back with `cargo xtask patch refresh --cpython {}`, or remove the directory.",
            pin.version
        );
    }

    let tarball = fetch::tarball(&workspace.downloads(), pin, None)?;
    let phase = Phase::start("make the work tree");
    source::unpack(&tarball, tree.dir(), |_| true)?;
    tree.init()?;
    for patch in &series.patches {
        patch.apply(tree.dir(), &["--index"])?;
        tree.commit_as(patch.header(), &patch.name)?;
    }
    if !series.overlay_files()?.is_empty() {
        series.copy_overlay(tree.dir())?;
        tree.add_all()?;
        tree.commit_as("Add whole new files", OVERLAY)?;
    }
    tree.mark_exported()?;
    phase.done();
    eprintln!(
        "{dir} has one commit for each patch, and one for overlay/ (git log pristine..)\n\
         To change a patch:  git commit --fixup COMMIT; git rebase --interactive --autosquash pristine\n\
         To add one:         commit with a subject and a paragraph that says why;\n\
         \x20                   a line `Patch: NAME.patch` names the file\n\
         Then:               cargo xtask patch refresh{}",
        version
            .map(|version| format!(" --cpython {version}"))
            .unwrap_or_default()
    );
    Ok(())
}
