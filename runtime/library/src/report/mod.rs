//! The report of `-X cds_stats` at the end of the interpreter: what came from the archives, what did not and why, and
//! how long it took.

pub mod memory;
pub mod stats;

use std::fmt::Write;
use std::fs;
use std::path::Path;

use serde::Serialize;

use self::stats::Activity;
use crate::answer::miss::Miss;
use crate::fault;
use crate::image;
use crate::layers::Layers;
use crate::messages::complain;
use crate::options::{self, Choice, StatsTarget};
use crate::record::profile;
use crate::runtime::Runtime;

/// Writes the reports that the options request at exit.
pub fn finish(runtime: &Runtime) {
    if let Some(path) = &runtime.options.profile
        && let Err(error) = profile::write(path, &runtime.layers)
    {
        complain(&format!(
            "cannot write the profile {}: {error}",
            path.display()
        ));
    }
    if let Some(target) = runtime.stats_target() {
        write(runtime, target);
    }
}

/// The report. In JSON, the keys are the names of these fields.
#[derive(Serialize)]
struct Report {
    /// The startup image from which the process was restored. Then the other fields only cover what happened since.
    startup_image: Option<String>,
    /// The reason why the image beside the archive was not restored, if there is an image.
    startup_image_refused: Option<String>,
    modules: Modules,
    /// Directories in which the import system searched without an archive.
    directories: Vec<Reason>,
    seconds: Seconds,
    archives: Vec<Archive>,
}

#[derive(Serialize)]
struct Modules {
    from_archive: u64,
    source_files: u64,
    frozen: u64,
    elsewhere: Vec<Reason>,
}

#[derive(Serialize)]
struct Reason {
    name: String,
    reason: String,
}

/// Time spent in this library.
#[derive(Serialize)]
struct Seconds {
    opening: f64,
    finding_modules: f64,
    getting_code: f64,
    finding_patterns: f64,
}

#[derive(Serialize)]
struct Archive {
    path: String,
    address: u64,
    relocated: bool,
    modules: usize,
    sections: Vec<Section>,
}

/// Memory of a section in this process, in kB.
#[derive(Serialize)]
struct Section {
    name: &'static str,
    in_use_kb: u64,
    written_kb: u64,
}

/// Writes the report to the destination that the options select.
pub fn write(runtime: &Runtime, target: &StatsTarget) {
    fault::point("report");
    let report = report(runtime);
    match target {
        StatsTarget::Stderr => eprint!("{}", text(&report)),
        StatsTarget::File(path) => {
            if let Err(error) = save(&report, path) {
                complain(&format!(
                    "cannot write the statistics {}: {error}",
                    path.display()
                ));
            }
        }
    }
}

fn save(report: &Report, path: &Path) -> std::io::Result<()> {
    let is_json = path
        .extension()
        .is_some_and(|extension| extension == "json");
    let text = if is_json {
        serde_json::to_string_pretty(report)? + "\n"
    } else {
        text(report)
    };
    fs::write(path, text)
}

fn report(runtime: &Runtime) -> Report {
    let stats = &runtime.stats;
    let missed = stats.missed().into_iter();
    let directories = stats.unknown_directories().into_iter();
    let seconds = |activity| stats.time(activity).as_secs_f64();
    let archives = runtime.layers.iter().map(|layer| {
        let archive = &layer.archive;
        let sections = memory::usage(archive).into_iter().map(|usage| Section {
            name: usage.kind.name(),
            in_use_kb: usage.resident,
            written_kb: usage.private_dirty,
        });
        let modules = archive.tables.modules();
        Archive {
            path: archive.path.display().to_string(),
            address: archive.base(),
            relocated: archive.relocated,
            modules: modules.filter(|module| module.code.is_some()).count(),
            sections: sections.collect(),
        }
    });
    Report {
        startup_image: runtime
            .startup_image()
            .map(|path| path.display().to_string()),
        startup_image_refused: image::refusal().map(|refusal| explained(runtime, refusal)),
        modules: Modules {
            from_archive: stats.hits(),
            source_files: stats.source_hits(),
            frozen: stats.hits() - stats.source_hits(),
            elsewhere: missed
                .map(|(name, miss)| Reason {
                    reason: miss_reason(&runtime.layers, &name, miss),
                    name,
                })
                .collect(),
        },
        directories: directories
            .map(|name| Reason {
                reason: directory_reason(&runtime.layers, &name).to_owned(),
                name,
            })
            .collect(),
        seconds: Seconds {
            opening: seconds(Activity::Open),
            finding_modules: seconds(Activity::FindModule),
            getting_code: seconds(Activity::GetCode),
            finding_patterns: seconds(Activity::FindPattern),
        },
        archives: archives.collect(),
    }
}

/// The reason why a startup image is not used. If no image could be taken, this is the reason why.
fn explained(runtime: &Runtime, refusal: String) -> String {
    let Choice::File(archive) = &runtime.options.archive else {
        return refusal;
    };
    let image = options::image(archive);
    let note = image::note(&image).map(|note| format!("{} is not used: {note}", image.display()));
    note.unwrap_or(refusal)
}

/// The reason why a module's code did not come from an archive. If no archive has the module's path, an archive may
/// have another path for the same name: then the program has found another file than the dump.
fn miss_reason(layers: &Layers, name: &str, miss: Miss) -> String {
    let reason = miss.reason();
    if miss != Miss::NotInArchive {
        return reason.to_owned();
    }
    let mut modules = layers
        .iter()
        .flat_map(|layer| layer.archive.tables.modules());
    match modules.find(|module| module.name == name && !module.origin.starts_with('<')) {
        Some(module) => format!("{reason}, which has {}", module.origin),
        None => reason.to_owned(),
    }
}

fn directory_reason(layers: &Layers, path: &str) -> &'static str {
    let mut layers = layers.iter();
    if layers.any(|layer| layer.archive.tables.directory(path).is_some()) {
        "changed since the dump, or has an entry that only the file system can resolve"
    } else {
        "not in the archive"
    }
}

fn text(report: &Report) -> String {
    let mut text = String::new();
    // Writing to a string cannot fail.
    let _ = write_text(&mut text, report);
    text
}

fn write_text(text: &mut String, report: &Report) -> std::fmt::Result {
    if let Some(path) = &report.startup_image {
        writeln!(text, "cds: started from {path}; since then:")?;
    }
    if let Some(refusal) = &report.startup_image_refused {
        writeln!(text, "cds: {refusal}")?;
    }
    if report.archives.is_empty() {
        return writeln!(text, "cds: no archive in use");
    }
    let modules = &report.modules;
    writeln!(
        text,
        "cds: modules from the archive: {} ({} source files, {} frozen), from elsewhere: {}",
        modules.from_archive,
        modules.source_files,
        modules.frozen,
        modules.elsewhere.len()
    )?;
    for Reason { name, reason } in &modules.elsewhere {
        writeln!(text, "cds:   {name}: {reason}")?;
    }
    writeln!(
        text,
        "cds: directories searched in the ordinary way: {}",
        report.directories.len()
    )?;
    for Reason { name, reason } in &report.directories {
        writeln!(text, "cds:   {name}: {reason}")?;
    }
    let milliseconds = |seconds: f64| seconds * 1e3;
    writeln!(
        text,
        "cds: milliseconds: {:.2} opening, {:.2} finding modules, {:.2} getting code, {:.2} finding patterns",
        milliseconds(report.seconds.opening),
        milliseconds(report.seconds.finding_modules),
        milliseconds(report.seconds.getting_code),
        milliseconds(report.seconds.finding_patterns),
    )?;
    for archive in &report.archives {
        let place = if archive.relocated {
            "relocated to"
        } else {
            "in place at"
        };
        writeln!(text, "cds: {} {place} {:#x}", archive.path, archive.address)?;
        let usage = archive.sections.iter().map(|section| {
            format!(
                "{} {} of {} kB",
                section.name, section.written_kb, section.in_use_kb
            )
        });
        writeln!(
            text,
            "cds:   written to, of memory in use: {}",
            usage.collect::<Vec<_>>().join(", ")
        )?;
    }
    Ok(())
}
