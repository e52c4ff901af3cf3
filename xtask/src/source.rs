//! The source tree of a build: the pinned tarball, the series, and the Python package.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};

use crate::digest::Inputs;
use crate::fetch;
use crate::mirror::{self, Extra};
use crate::pins::Pin;
use crate::progress::Phase;
use crate::series::Series;
use crate::stamp::{self, Stamp};
use crate::workspace::{Build, Workspace};

/// Updates the source tree of a build.
pub fn prepare(workspace: &Workspace, build: &Build, pin: &Pin) -> Result<()> {
    let series = if build.is_stock() {
        None
    } else {
        let series = Series::load(&workspace.patches())?;
        Some(series.without(build.patches.left_out())?)
    };
    let mut inputs = Inputs::new();
    inputs.add(&pin.sha256);
    if let Some(series) = &series {
        series.add_to(&mut inputs)?;
    }
    let inputs = inputs.finish();

    let source = build.source();
    let stamp = stamp(build);
    if !stamp.is(&inputs) {
        let tarball = fetch::tarball(&workspace.downloads(), pin, None)?;
        let phase = Phase::start(format!("unpack and patch {}", pin.version));
        stamp.clear()?;
        let fresh = source.with_extension("tmp");
        unpack(&tarball, &fresh, |_| true)?;
        if let Some(series) = &series {
            series.apply(&fresh)?;
            add_python(workspace, &fresh)?;
        }
        if source.exists() {
            mirror::mirror(&fresh, &source, Extra::Remove)?;
            stamp::remove_dir(&fresh)?;
        } else {
            fs::rename(&fresh, &source)
                .with_context(|| format!("cannot create {}", source.display()))?;
        }
        stamp.set(&inputs)?;
        phase.done();
    } else if series.is_some() {
        add_python(workspace, &source)?;
    }
    Ok(())
}

/// The packages that the project adds to the standard library.
pub const PACKAGES: [&str; 2] = ["cds", "_cds_workers"];

/// Adds the project's Python code to the standard library: its packages and the module `_cds`.
fn add_python(workspace: &Workspace, source: &Path) -> Result<()> {
    let (from, to) = (workspace.python_modules(), source.join("Lib"));
    for package in PACKAGES {
        mirror::mirror(&from.join(package), &to.join(package), Extra::Remove)?;
    }
    mirror::update(&from.join("_cds.py"), &to.join("_cds.py"))?;
    Ok(())
}

/// Identifies the inputs of the source tree, without the Python package.
pub fn identity(build: &Build) -> Result<String> {
    stamp(build).read()
}

fn stamp(build: &Build) -> Stamp {
    Stamp::new(build.source().with_extension("stamp"))
}

/// Unpacks the `wanted` files of a tarball as a new tree at `to`. The paths are relative to the tree.
pub fn unpack(tarball: &Path, to: &Path, wanted: impl Fn(&Path) -> bool) -> Result<()> {
    stamp::remove_dir(to)?;
    fs::create_dir_all(to).with_context(|| format!("cannot create {}", to.display()))?;
    let what = || format!("cannot unpack {}", tarball.display());
    let file = File::open(tarball).with_context(what)?;
    let mut archive = tar::Archive::new(xz2::read::XzDecoder::new(file));
    for entry in archive.entries().with_context(what)? {
        let mut entry = entry.with_context(what)?;
        let path: PathBuf = entry
            .path()
            .with_context(what)?
            .components()
            .skip(1)
            .collect();
        let is_relative = path
            .components()
            .all(|part| matches!(part, std::path::Component::Normal(_)));
        ensure!(
            is_relative,
            "{} has an entry outside of its directory: {}",
            tarball.display(),
            path.display()
        );
        let is_tree = path.as_os_str().is_empty();
        if !is_tree && !entry.header().entry_type().is_dir() && wanted(&path) {
            let target = to.join(&path);
            if let Some(dir) = target.parent() {
                fs::create_dir_all(dir).with_context(what)?;
            }
            entry.unpack(&target).with_context(what)?;
        }
    }
    Ok(())
}
