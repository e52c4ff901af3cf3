//! The garbage collector's settings. Every function here must be called with the GIL held.

use super::raw;

/// How many allocations cause a collection (`gc.get_threshold()[0]`).
pub fn threshold() -> i32 {
    // SAFETY: the thread holds the GIL, so it has an interpreter.
    unsafe { raw::cds_glue_gc_threshold(raw::PyInterpreterState_Get()) }
}

/// Whether the program can notice collections (`gc.callbacks`, `gc.set_debug()`).
pub fn is_observed() -> bool {
    // SAFETY: the thread holds the GIL of its interpreter.
    unsafe { raw::cds_glue_gc_is_observed(raw::PyInterpreterState_Get()) != 0 }
}
