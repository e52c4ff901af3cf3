//! Counts what this process got from archives and what it did not.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::answer::miss::Miss;
use crate::fault;

/// The counters of one process.
#[derive(Default)]
pub struct Stats {
    source: AtomicU64,
    frozen: AtomicU64,
    details: Option<Details>,
}

/// Details that are recorded only if statistics were requested.
#[derive(Default)]
struct Details {
    missed: Mutex<BTreeMap<String, Miss>>,
    unknown_directories: Mutex<BTreeSet<String>>,
    /// Whether times are measured. Reading the clock would stop a traced process (the program whose image is taken).
    counts_time: AtomicBool,
    nanoseconds: [AtomicU64; Activity::COUNT],
}

/// The kind of source that a module's code would have come from.
#[derive(Debug, Clone, Copy)]
pub enum Origin {
    Source,
    Frozen,
}

/// An activity whose time is measured.
#[derive(Debug, Clone, Copy)]
pub enum Activity {
    Open,
    FindModule,
    GetCode,
    FindPattern,
}

impl Activity {
    const COUNT: usize = 4;
}

impl Stats {
    pub fn new(keeps_details: bool, counts_time: bool) -> Self {
        let details = || Details {
            counts_time: counts_time.into(),
            ..Details::default()
        };
        Self {
            details: keeps_details.then(details),
            ..Self::default()
        }
    }

    /// Sets all counters to zero, and starts to measure times.
    pub fn reset(&self) {
        for counter in [&self.source, &self.frozen] {
            counter.store(0, Ordering::Relaxed);
        }
        if let Some(details) = &self.details {
            details.counts_time.store(true, Ordering::Relaxed);
            for time in &details.nanoseconds {
                time.store(0, Ordering::Relaxed);
            }
            if let Ok(mut missed) = details.missed.lock() {
                missed.clear();
            }
            if let Ok(mut directories) = details.unknown_directories.lock() {
                directories.clear();
            }
        }
    }

    pub fn hit(&self, origin: Origin) {
        let counter = match origin {
            Origin::Source => &self.source,
            Origin::Frozen => &self.frozen,
        };
        counter.fetch_add(1, Ordering::Relaxed);
    }

    /// How many modules got their code from an archive.
    pub fn hits(&self) -> u64 {
        self.source_hits() + self.frozen.load(Ordering::Relaxed)
    }

    /// How many of these modules would otherwise have got their code from a source or `.pyc` file.
    pub fn source_hits(&self) -> u64 {
        self.source.load(Ordering::Relaxed)
    }

    pub fn miss(&self, name: &str, miss: Miss) {
        if let Some(details) = &self.details
            && let Ok(mut missed) = details.missed.lock()
        {
            missed.insert(name.to_owned(), miss);
            fault::point("missed");
        }
    }

    /// Records a directory whose contents no archive knows.
    pub fn unknown_directory(&self, path: &str) {
        if let Some(details) = &self.details
            && let Ok(mut directories) = details.unknown_directories.lock()
        {
            directories.insert(path.to_owned());
        }
    }

    /// Runs `work`, and measures its time if statistics are wanted.
    pub fn timed<T>(&self, activity: Activity, work: impl FnOnce() -> T) -> T {
        let timed = self.details.as_ref();
        let timed = timed.filter(|details| details.counts_time.load(Ordering::Relaxed));
        let Some(details) = timed else {
            return work();
        };
        let start = Instant::now();
        let result = work();
        details.add(activity, start.elapsed());
        result
    }

    pub fn time(&self, activity: Activity) -> Duration {
        let details = self.details.as_ref();
        Duration::from_nanos(details.map_or(0, |details| {
            details.nanoseconds[activity as usize].load(Ordering::Relaxed)
        }))
    }

    /// The modules whose code did not come from an archive. Empty if details are not recorded.
    pub fn missed(&self) -> BTreeMap<String, Miss> {
        self.detail(|details| &details.missed)
    }

    /// The directories whose contents no archive knows. Empty if details are not recorded.
    pub fn unknown_directories(&self) -> BTreeSet<String> {
        self.detail(|details| &details.unknown_directories)
    }

    fn detail<T: Clone + Default>(&self, of: impl Fn(&Details) -> &Mutex<T>) -> T {
        let detail = self
            .details
            .as_ref()
            .and_then(|details| of(details).lock().ok());
        detail.map_or_else(T::default, |detail| detail.clone())
    }
}

impl Details {
    fn add(&self, activity: Activity, time: Duration) {
        let nanoseconds = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        self.nanoseconds[activity as usize].fetch_add(nanoseconds, Ordering::Relaxed);
    }
}
