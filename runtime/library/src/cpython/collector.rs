//! The garbage collector's settings.

use super::raw;

/// How many allocations cause a collection (`gc.get_threshold()[0]`).
///
/// # Safety
/// `interp` is an interpreter.
pub unsafe fn threshold(interp: *mut raw::PyInterpreterState) -> i32 {
    // SAFETY: the caller passes an interpreter.
    unsafe { raw::cds_glue_gc_threshold(interp) }
}

/// Whether the program can notice collections (`gc.callbacks`, `gc.set_debug()`).
///
/// # Safety
/// `interp` is an interpreter whose GIL is held.
pub unsafe fn is_observed(interp: *mut raw::PyInterpreterState) -> bool {
    // SAFETY: the caller passes an interpreter and holds its GIL.
    unsafe { raw::cds_glue_gc_is_observed(interp) != 0 }
}
