//! The end of a restored process. Objects whose end can be observed are finalized, as in a plain process. All other
//! objects are left alone. With `-X cds_full_exit`, all objects are finalized.

use std::ffi::{c_int, c_void};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use startup_image::command_line::CommandLine;

use super::start::is_restored;
use crate::cpython::ending::Ending;
use crate::cpython::mortality;
use crate::cpython::object::Result;
use crate::cpython::own;
use crate::cpython::sight::Seen;
use crate::cpython::table::Kept;
use crate::image::taking::dry_run_report;

static IS_FULL: AtomicBool = AtomicBool::new(false);
static IS_STRICT: AtomicBool = AtomicBool::new(false);
/// The number of libraries that had ever been loaded when the process was restored.
static LIBRARIES: AtomicU64 = AtomicU64::new(0);

/// Notes the options of the command line about the end, and the number of loaded libraries.
pub fn begin(line: &CommandLine) {
    for (name, setting) in [("cds_full_exit", &IS_FULL), ("cds_strict", &IS_STRICT)] {
        let is_set = line.cds(name).is_some_and(|value| value != b"0");
        setting.store(is_set, Ordering::Relaxed);
    }
    LIBRARIES.store(loaded_libraries(), Ordering::Relaxed);
}

/// Finalizes mortal objects, if the process was restored. Returns whether CPython has nothing more to finalize.
pub fn finalize_restored() -> bool {
    if !mortality::are_immortal() {
        // The first dry run only shows that the process ends. It finalizes nothing: the other process does that later.
        return is_restored();
    }
    if !is_restored() {
        // The restored processes finalize the objects of the image.
        return true;
    }
    let is_full = IS_FULL.load(Ordering::Relaxed);
    if let Err(raised) = finalize(is_full) {
        raised.clear();
    }
    !is_full
}

fn finalize(is_full: bool) -> Result<()> {
    let streams = own::module(c"cds.image.streams")?;
    if is_full {
        streams.attribute(c"unbuffer")?.call(Vec::new())?;
    }
    // Taken before the modules are removed: no Python code can find the buffers afterwards.
    let buffers = streams.attribute(c"_buffers")?.to_items()?;
    let result = finalize_objects(is_full);
    for buffer in buffers {
        let flushed = buffer.attribute(c"flush");
        if let Err(raised) = flushed.and_then(|flush| flush.call(Vec::new())) {
            // The stream is closed, or its reader is gone.
            raised.clear();
        }
    }
    result
}

/// Does the steps of a plain process whose effects can be observed.
fn finalize_objects(is_full: bool) -> Result<()> {
    let _kept = Kept::begin();
    let mut ending = Ending::new(IS_STRICT.load(Ordering::Relaxed))?;
    let seen = if is_full || Ending::is_collection_seen() {
        Seen::Anything
    } else {
        ending.seen()
    };
    match seen {
        Seen::Nothing => return Ok(()),
        Seen::Native => {
            ending.detach_modules()?;
            if dry_run_report::is_dry_run() || ending.collect_native() {
                return Ok(());
            }
            Ending::collect_first();
        }
        Seen::Anything => {
            Ending::collect_first();
            ending.detach_modules()?;
        }
    }
    if !is_full && !ending.leaves_something() {
        Ending::collect();
        return Ok(());
    }
    if dry_run_report::is_dry_run() {
        // The restored processes finalize the objects of the image.
        return Ok(());
    }
    ending.collect_as_if_all_died();
    if !is_full && !ending.is_seen() {
        return Ok(());
    }
    ending.clear_modules();
    if ending.is_seen() {
        ending.finalize_unreferenced();
    }
    if !ending.is_seen() {
        return Ok(());
    }
    Ending::clear_interpreter();
    ending.collect_as_if_all_died();
    if ending.is_seen() {
        ending.finalize_rest();
    }
    Ok(())
}

/// Ends a restored process without the destructors of the image's libraries. If the process has loaded another library,
/// the destructors of that library matter, and `exit(3)` has to call all destructors.
pub fn end_restored(exit_code: c_int) {
    dry_run_report::end();
    let is_as_before = loaded_libraries() == LIBRARIES.load(Ordering::Relaxed);
    if is_restored() && is_as_before && !IS_FULL.load(Ordering::Relaxed) {
        // SAFETY: a null pointer means all streams, and `_exit()` takes a number. `exit()` flushes the streams, too.
        unsafe {
            libc::fflush(std::ptr::null_mut());
            libc::_exit(exit_code);
        }
    }
}

/// The number of libraries that were ever loaded (`dlpi_adds`, dl_iterate_phdr(3)).
fn loaded_libraries() -> u64 {
    unsafe extern "C" fn visit(
        info: *mut libc::dl_phdr_info,
        _size: usize,
        count: *mut c_void,
    ) -> c_int {
        // SAFETY: the C library passes a valid description, and `count` is the variable of the caller.
        unsafe { count.cast::<u64>().write((*info).dlpi_adds) };
        1
    }
    let mut count = 0_u64;
    // SAFETY: the callback gets `count` and does not outlive this call.
    unsafe { libc::dl_iterate_phdr(Some(visit), (&raw mut count).cast()) };
    count
}
