//! The end of a restored process: what it has made itself is finalized as ever, and what the image brought along is left
//! alone. `-X cds_full_exit` has all of it finalized.

use std::ffi::{c_int, c_void};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use cds_image::command_line::CommandLine;

use super::rehearse;
use super::resume::is_restored;
use crate::cpython::modules::Known;
use crate::cpython::object::{Object, Result};

static IS_FULL: AtomicBool = AtomicBool::new(false);
/// How many libraries had ever been loaded when the process was restored.
static LIBRARIES: AtomicU64 = AtomicU64::new(0);
/// What is in the image.
static MODULES: OnceLock<Known> = OnceLock::new();

/// Takes notice of the modules that the image has.
pub fn begin_image() -> Result<()> {
    let _ = MODULES.set(Known::of(&modules()?));
    Ok(())
}

/// Takes notice of what there is, and of what the command line says of the end.
pub fn begin(line: &CommandLine) {
    let is_full = line.cds("cds_full_exit").is_some_and(|value| value != b"0");
    IS_FULL.store(is_full, Ordering::Relaxed);
    LIBRARIES.store(loaded_libraries(), Ordering::Relaxed);
}

/// Takes apart what the process has loaded since it was restored, if it was. Returns whether that is all there is to do.
pub fn finalize_restored() -> bool {
    if !is_restored() {
        return false;
    }
    let is_full = IS_FULL.load(Ordering::Relaxed);
    let result = if is_full {
        unbuffer_streams()
    } else {
        finalize()
    };
    if let Err(raised) = result {
        raised.clear();
    }
    !is_full
}

fn unbuffer_streams() -> Result<()> {
    let streams = Object::import(c"cds.streams")?;
    streams.attribute(c"unbuffer")?.call(Vec::new())?;
    Ok(())
}

fn finalize() -> Result<()> {
    let new = match MODULES.get() {
        Some(known) => known.others(&modules()?)?,
        None => Vec::new(),
    };
    let startup = Object::import(c"cds.startup")?;
    let new = Object::list(new)?;
    startup.attribute(c"finalize")?.call(vec![new])?;
    Ok(())
}

fn modules() -> Result<Object> {
    Object::import(c"sys")?.attribute(c"modules")
}

/// Ends a restored process without the destructors of the image's libraries. If another library has been loaded since,
/// whose destructors count, `exit(3)` has to call them all.
pub fn end_restored(exit_code: c_int) {
    rehearse::end();
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
