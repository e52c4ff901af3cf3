//! The report of a dry run at its end: the pages that it has written to.

use std::ffi::c_int;
use std::io::{self, Error, PipeWriter, Write};
use std::sync::OnceLock;

use startup_image::PAGE;
use startup_image::format::PrefaultRange;

use super::memory_map;
use crate::kernel::page_map::PageMap;

/// The largest gap between two ranges, in bytes, that is prefaulted, too. This costs less than another system call.
const LONGEST_GAP: u64 = PAGE;

/// The pipe to which a dry run writes its report.
static REPORT: OnceLock<PipeWriter> = OnceLock::new();

/// Makes this process, which was just forked, a dry run.
pub fn begin(report: PipeWriter) {
    // This function is called once, so `set()` cannot fail.
    let _ = REPORT.set(report);
}

/// Whether this process is a dry run.
pub fn is_dry_run() -> bool {
    REPORT.get().is_some()
}

/// Writes the report and ends the process, if it is a dry run.
pub fn end() {
    let Some(mut report) = REPORT.get() else {
        return;
    };
    let written = needed().and_then(|pages| {
        let bytes = postcard::to_stdvec(&pages).map_err(Error::other)?;
        report.write_all(&bytes)
    });
    // SAFETY: the call takes a number and ends the process.
    unsafe { libc::_exit(c_int::from(written.is_err())) };
}

/// The pages that this process has written to since it was forked.
fn needed() -> io::Result<Vec<PrefaultRange>> {
    let pages = PageMap::of_process("self")?;
    let mut needed: Vec<PrefaultRange> = Vec::new();
    for mapping in memory_map::of_process("self")? {
        if mapping.protection & memory_map::WRITE == 0 {
            continue;
        }
        let flags = pages.flags(mapping.start, mapping.end)?;
        let addresses = (mapping.start..).step_by(PAGE as usize);
        for (start, _) in addresses.zip(flags).filter(|(_, flags)| flags.is_own()) {
            let end = start + PAGE;
            match needed.last_mut() {
                Some(last) if last.end >= mapping.start && start - last.end <= LONGEST_GAP => {
                    last.end = end;
                }
                _ => needed.push(PrefaultRange { start, end }),
            }
        }
    }
    Ok(needed)
}
