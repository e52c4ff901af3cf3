//! Does each patch give its reason, and does the series apply to every pinned version?

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use clap::ValueEnum;

use crate::fetch;
use crate::pins::{Pin, Pins};
use crate::series::Series;
use crate::source;
use crate::workspace::{Optional, Patches, Workspace};

pub fn check(workspace: &Workspace) -> Result<()> {
    let pins = Pins::load(&workspace.patches())?;
    let series = Series::load(&workspace.patches())?;
    let mut sound = true;
    for patch in &series.patches {
        if let Err(error) = patch.check() {
            eprintln!("  {error}");
            sound = false;
        }
    }
    let mut checked = 0;
    for pin in pins.iter() {
        // If a version cannot be fetched, this is not an error of the series.
        let tarball = match fetch::tarball(&workspace.downloads(), pin, None) {
            Ok(tarball) => tarball,
            Err(error) => {
                eprintln!("  {}: not checked: {error:#}", pin.version);
                continue;
            }
        };
        checked += 1;
        match apply(workspace, pin, &series, &tarball) {
            Ok(files) => {
                eprintln!(
                    "  {}: {} patches and {files} new files apply",
                    pin.version,
                    series.patches.len()
                );
            }
            Err(error) => {
                eprintln!("  {}: {error:#}", pin.version);
                sound = false;
            }
        }
        for optional in Optional::value_variants() {
            let patches = Patches::Without(*optional);
            let name = patches.left_out().unwrap_or_default();
            let rest = Series::load(&workspace.patches())?.without(patches.left_out())?;
            if let Err(error) = apply(workspace, pin, &rest, &tarball) {
                eprintln!("  {}, without {name}: {error:#}", pin.version);
                sound = false;
            }
        }
    }
    ensure!(
        checked > 0,
        "no pinned version can be fetched, so the series is not checked"
    );
    if !sound {
        bail!("the series has errors; `cargo xtask patch edit` makes a work tree to fix them");
    }
    Ok(())
}

/// Applies the series to those files of the tarball that it touches.
fn apply(workspace: &Workspace, pin: &Pin, series: &Series, tarball: &Path) -> Result<usize> {
    let overlay = series.overlay_files()?;
    let touched: HashSet<_> = series
        .patches
        .iter()
        .flat_map(|patch| patch.touched())
        .chain(overlay.iter().map(PathBuf::as_path))
        .collect();
    let dir = workspace.version(&pin.version);
    std::fs::create_dir_all(&dir).with_context(|| format!("cannot create {}", dir.display()))?;
    let dir = tempfile::Builder::new()
        .prefix("check.")
        .tempdir_in(&dir)
        .context("cannot create a directory")?;
    source::unpack(tarball, dir.path(), |path| touched.contains(path))?;
    series.apply(dir.path())?;
    Ok(overlay.len())
}
