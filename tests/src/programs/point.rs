//! The point at which the program of an automatic image was stopped, and how many modules it had loaded before.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde::Deserialize;
use walkdir::WalkDir;

use super::scratch::Scratch;
use crate::report::Report;
use crate::{Outcome, clean};

pub struct Point {
    /// What the program was stopped at, or why there is no image.
    pub stopped_at: String,
    /// None if no run was restored, or if the last run left no statistics.
    pub modules: Option<Modules>,
}

/// Numbers of modules with files, without the modules that each interpreter loads.
#[derive(Clone, Copy)]
pub struct Modules {
    pub before: usize,
    pub all: usize,
}

impl Modules {
    /// The modules that were loaded before the point, in percent of all.
    pub fn share(self) -> f64 {
        100.0 * self.before as f64 / self.all.max(1) as f64
    }
}

/// The report of `cds inspect --json` about an image, or about the note in its place.
#[derive(Deserialize)]
struct Inspected {
    note: Option<String>,
    stopped_at: Option<String>,
}

impl Point {
    /// Examines the newest image in the cache. `archived` has the statistics of a run with an archive, `restored` those
    /// of a restored run.
    pub fn of(archived: &Path, restored: &Path, scratch: &Scratch) -> Self {
        let image = newest_image(&scratch.cache());
        Self {
            stopped_at: image
                .and_then(|image| stopped_at(&image, scratch))
                .unwrap_or_else(|| "there is no image".to_owned()),
            modules: modules(archived, restored, scratch),
        }
    }
}

/// The image, or the note in place of one, that was written last.
fn newest_image(cache: &Path) -> Option<PathBuf> {
    let files = WalkDir::new(cache).into_iter().flatten();
    let images = files.filter(|file| file.file_name().to_string_lossy().ends_with(".image"));
    let images = images.filter_map(|image| Some((image.metadata().ok()?.modified().ok()?, image)));
    images
        .max_by_key(|(written, _)| *written)
        .map(|(_, image)| image.into_path())
}

fn stopped_at(image: &Path, scratch: &Scratch) -> Option<String> {
    let mut command = scratch.venv().command();
    command.args(["-I", "-X", "cds=off", "-m", "cds", "inspect", "--json"]);
    let found = Outcome::of(command.arg(image)).stdout;
    let found: Inspected = serde_json::from_str(&found).ok()?;
    found.stopped_at.or(found.note)
}

fn modules(archived: &Path, restored: &Path, scratch: &Scratch) -> Option<Modules> {
    let restored = Report::read(restored).ok()?;
    restored.startup_image?;
    let later = restored.modules.of_files();
    let of_interpreter = of_interpreter(scratch)?;
    let all = Report::read(archived).ok()?.modules.of_files();
    let all = all.saturating_sub(of_interpreter);
    Some(Modules {
        before: all.saturating_sub(later),
        all,
    })
}

/// The number of modules that the interpreter loads for a program that does nothing.
fn of_interpreter(scratch: &Scratch) -> Option<usize> {
    let stats = scratch.archive("nothing.json");
    let mut command = Command::new(scratch.venv().python());
    clean(&mut command);
    command.arg(format!("-Xcds_stats={}", stats.display()));
    Outcome::of(command.args(["-c", "pass"]));
    Some(Report::read(&stats).ok()?.modules.of_files())
}
