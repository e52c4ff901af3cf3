//! The end of a restored process: objects are finalized whose end can be seen, as in a plain process, and everything else is
//! left alone. `-X cds_full_exit` has all of it finalized.

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
/// How many libraries had ever been loaded when the process was restored.
static LIBRARIES: AtomicU64 = AtomicU64::new(0);

/// Takes notice of what there is, and of what the command line says of the end.
pub fn begin(line: &CommandLine) {
    for (name, setting) in [("cds_full_exit", &IS_FULL), ("cds_strict", &IS_STRICT)] {
        let is_set = line.cds(name).is_some_and(|value| value != b"0");
        setting.store(is_set, Ordering::Relaxed);
    }
    LIBRARIES.store(loaded_libraries(), Ordering::Relaxed);
}

/// Finalizes what is mortal, if the process was restored. Returns whether that is all there is to do.
pub fn finalize_restored() -> bool {
    if !mortality::are_immortal() {
        // A dry run before there is an image shows that the process ends; nothing is finalized twice.
        return is_restored();
    }
    if !is_restored() {
        // What the image has is finalized by the processes that are restored from it.
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
    // When modules are gone, no Python code could find it.
    let buffers = streams.attribute(c"_buffers")?.to_items()?;
    let result = finalize_objects(is_full);
    for buffer in buffers {
        let flushed = buffer.attribute(c"flush");
        if let Err(raised) = flushed.and_then(|flush| flush.call(Vec::new())) {
            // It is closed, or nobody reads it.
            raised.clear();
        }
    }
    result
}

/// Does as much as can be seen of what a plain process does.
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
        // What the image has is finalized by the processes that are restored from it.
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

/// Ends a restored process without the destructors of the image's libraries. If another library has been loaded since,
/// whose destructors count, `exit(3)` has to call them all.
pub fn end_restored(exit_code: c_int) {
    dry_run_report::end();
    let is_as_before = loaded_libraries() == LIBRARIES.load(Ordering::Relaxed);
    if is_restored() && is_as_before && !IS_FULL.load(Ordering::Relaxed) {
        // SAFETY: writes what the C library's streams still hold, as exit() does.
        unsafe {
            libc::fflush(std::ptr::null_mut());
            libc::_exit(exit_code);
        }
    }
}

/// How many libraries were ever loaded (`dlpi_adds`, dl_iterate_phdr(3)).
fn loaded_libraries() -> u64 {
    unsafe extern "C" fn visit(
        info: *mut libc::dl_phdr_info,
        _size: usize,
        count: *mut c_void,
    ) -> c_int {
        // SAFETY: a valid description, and `count` as it was given.
        unsafe { count.cast::<u64>().write((*info).dlpi_adds) };
        1
    }
    let mut count = 0_u64;
    // SAFETY: the callback gets `count` and does not outlive this call.
    unsafe { libc::dl_iterate_phdr(Some(visit), (&raw mut count).cast()) };
    count
}
