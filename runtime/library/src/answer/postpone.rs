//! Garbage collections that imports cause.
//!
//! Importing a module creates objects that stay alive: classes, functions, dicts. Every 2,000 new objects cause a
//! collection, which traverses objects and finds almost no garbage. While archived modules are being imported, such
//! collections are postponed. The first collection that is due afterwards traverses the objects of all of them.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::cpython::collector;

/// Decides which collections are postponed.
pub struct Postponer {
    /// The threshold at the start. If the program changes it, no collection is postponed.
    threshold: i32,
    /// How many modules had got their code from an archive when the last collection was due.
    seen: AtomicU64,
}

impl Postponer {
    pub fn new() -> Self {
        Self {
            threshold: collector::threshold(),
            seen: AtomicU64::new(0),
        }
    }

    /// Whether the collection that is due can be postponed. `imported` is the number of modules that have got their
    /// code from an archive so far: if none was added since the last collection was due, this one is not postponed.
    pub fn postpones(&self, imported: u64) -> bool {
        let before = self.seen.swap(imported, Ordering::Relaxed);
        let is_as_ever = collector::threshold() == self.threshold && !collector::is_observed();
        before != imported && is_as_ever
    }
}
