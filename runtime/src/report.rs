//! The report of `-X cds_stats`, on stderr when the interpreter ends.

use std::fmt::Write;

use crate::memory;
use crate::runtime::Runtime;

pub fn text(runtime: &Runtime) -> String {
    let mut text = String::new();
    // Writing to a string cannot fail.
    let _ = write_report(&mut text, runtime);
    text
}

fn write_report(text: &mut String, runtime: &Runtime) -> std::fmt::Result {
    if runtime.layers.is_empty() {
        return writeln!(text, "cds: no archive in use");
    }
    let counted = runtime.stats.snapshot();
    writeln!(
        text,
        "cds: modules from the archive: {} ({} source files, {} frozen), from elsewhere: {}",
        counted.source + counted.frozen,
        counted.source,
        counted.frozen,
        counted.missed
    )?;
    for (name, miss) in &counted.missed_names {
        writeln!(text, "cds:   {name}: {}", miss.reason())?;
    }
    for layer in runtime.layers.iter() {
        let archive = &layer.archive;
        let place = if archive.relocated {
            "relocated to"
        } else {
            "in place at"
        };
        writeln!(
            text,
            "cds: {} {place} {:#x}",
            archive.path.display(),
            archive.base()
        )?;
        let usage = memory::usage(archive);
        let usage: Vec<String> = usage
            .iter()
            .map(|u| format!("{} {} of {} kB", u.kind, u.private_dirty, u.resident))
            .collect();
        writeln!(
            text,
            "cds:   written to, of memory in use: {}",
            usage.join(", ")
        )?;
    }
    Ok(())
}
