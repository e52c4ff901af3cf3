//! What came from the archive in this process, and what did not.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::catalog::Miss;

/// Counters of one process. Names are kept only if somebody asked for statistics.
#[derive(Default)]
pub struct Stats {
    source: AtomicU64,
    frozen: AtomicU64,
    missed: AtomicU64,
    /// Of these, what a new archive would have.
    missed_needlessly: AtomicU64,
    missed_names: Option<Mutex<BTreeMap<String, Miss>>>,
}

/// Where a module's code was asked for.
#[derive(Debug, Clone, Copy)]
pub enum Origin {
    Source,
    Frozen,
}

/// The counters at one moment.
pub struct Snapshot {
    /// Modules whose code came from the archive instead of a source or `.pyc` file.
    pub source: u64,
    /// Frozen modules whose code came from the archive.
    pub frozen: u64,
    /// Modules whose code did not come from the archive.
    pub missed: u64,
    /// Which, and why; empty if names are not kept.
    pub missed_names: Vec<(String, Miss)>,
}

impl Stats {
    pub fn new(keep_names: bool) -> Self {
        Self {
            missed_names: keep_names.then(Mutex::default),
            ..Self::default()
        }
    }

    pub fn hit(&self, origin: Origin) {
        let counter = match origin {
            Origin::Source => &self.source,
            Origin::Frozen => &self.frozen,
        };
        counter.fetch_add(1, Ordering::Relaxed);
    }

    /// Whether the program loaded a module that a new archive would have.
    pub fn is_archive_incomplete(&self) -> bool {
        self.missed_needlessly.load(Ordering::Relaxed) > 0
    }

    /// How many modules got their code from an archive.
    pub fn hits(&self) -> u64 {
        self.source.load(Ordering::Relaxed) + self.frozen.load(Ordering::Relaxed)
    }

    pub fn miss(&self, name: &str, miss: Miss) {
        self.missed.fetch_add(1, Ordering::Relaxed);
        if matches!(
            miss,
            Miss::NotInArchive | Miss::SourceChanged | Miss::Damaged
        ) {
            self.missed_needlessly.fetch_add(1, Ordering::Relaxed);
        }
        if let Some(names) = &self.missed_names
            && let Ok(mut names) = names.lock()
        {
            names.insert(name.to_owned(), miss);
        }
    }

    pub fn snapshot(&self) -> Snapshot {
        let names = self
            .missed_names
            .as_ref()
            .and_then(|names| names.lock().ok());
        Snapshot {
            source: self.source.load(Ordering::Relaxed),
            frozen: self.frozen.load(Ordering::Relaxed),
            missed: self.missed.load(Ordering::Relaxed),
            missed_names: names.map_or_else(Vec::new, |n| {
                n.iter().map(|(k, v)| (k.clone(), *v)).collect()
            }),
        }
    }
}
