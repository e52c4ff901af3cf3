//! Garbage collections that an import provokes.
//!
//! Importing a module makes objects that stay: classes, functions, dicts. Each 2,000 of them make a collection
//! due, which traverses them and finds next to nothing. While archived modules are being imported such
//! collections wait; the first one that is due afterwards traverses what all of them would have.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::cpython::bindings::PyInterpreterState;
use crate::cpython::collector;

/// Decides which collections wait.
pub struct Postponer {
    /// The threshold at start-up. A program that sets another one gets what it asks for.
    threshold: i32,
    /// How many modules had got their code from an archive when a collection was last due.
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

    /// Whether the collection that is due can wait, where `imported` modules have got their code from an archive
    /// so far. A second one with no import in between cannot.
    ///
    /// # Safety
    /// `interp` is the interpreter of the calling thread.
    pub unsafe fn postpones(&self, interp: *mut PyInterpreterState, imported: u64) -> bool {
        let before = self.seen.swap(imported, Ordering::Relaxed);
        // SAFETY: the caller passes the interpreter of its thread, whose GIL it holds.
        let is_as_ever = unsafe {
            collector::threshold(interp) == self.threshold && !collector::is_observed(interp)
        };
        before != imported && is_as_ever
    }
}
