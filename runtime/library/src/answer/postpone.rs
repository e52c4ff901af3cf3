//! Garbage collections that imports cause.
//!
//! Importing a module creates objects that stay alive: classes, functions, dicts. Every 2,000 new objects cause a
//! collection, which traverses objects and finds almost no garbage. While archived modules are being imported, such
//! collections are postponed. The first collection that is due afterwards traverses the objects of all of them.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::cpython::bindings::PyInterpreterState;
use crate::cpython::collector;

/// Decides which collections are postponed.
pub struct Postponer {
    /// The threshold at the start. If the program changes it, no collection is postponed.
    threshold: i32,
    /// How many modules had got their code from an archive when the last collection was due.
    seen: AtomicU64,
}

impl Postponer {
    /// # Safety
    /// `interp` is an interpreter.
    pub unsafe fn new(interp: *mut PyInterpreterState) -> Self {
        Self {
            // SAFETY: the caller passes an interpreter.
            threshold: unsafe { collector::threshold(interp) },
            seen: AtomicU64::new(0),
        }
    }

    /// Whether the collection that is due can be postponed. `imported` is the number of modules that have got their
    /// code from an archive so far: if none was added since the last collection was due, this one is not postponed.
    ///
    /// # Safety
    /// `interp` is the interpreter of the calling thread.
    pub unsafe fn postpones(&self, interp: *mut PyInterpreterState, imported: u64) -> bool {
        let before = self.seen.swap(imported, Ordering::Relaxed);
        // SAFETY: the caller passes the interpreter of its thread and holds the GIL.
        let is_as_ever = unsafe {
            collector::threshold(interp) == self.threshold && !collector::is_observed(interp)
        };
        before != imported && is_as_ever
    }
}
