//! Where the process that an image is taken of has searched for modules: directories, and names.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::fs;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

/// What was searched for in a directory.
pub struct Search {
    /// None if others may have been searched for, too.
    pub names: Option<BTreeSet<String>>,
    /// What was there before.
    pub entries: Vec<OsString>,
}

type Searches = BTreeMap<String, Search>;

static SEARCHES: Mutex<Searches> = Mutex::new(BTreeMap::new());

/// Whether those that are made now do not count.
static ARE_IGNORED: AtomicBool = AtomicBool::new(false);

/// Has searches not count until it is called again: whoever makes an image looks for modules, too.
pub fn ignore(are_ignored: bool) {
    ARE_IGNORED.store(are_ignored, Ordering::Relaxed);
}

/// Takes notice of a search that is about to be made; without a name, it is not known what is searched for.
pub fn note(directory: &str, name: Option<&str>) {
    if ARE_IGNORED.load(Ordering::Relaxed) {
        return;
    }
    let Ok(mut searches) = SEARCHES.lock() else {
        return;
    };
    let first = || {
        let entries = fs::read_dir(directory).into_iter().flatten().flatten();
        Search {
            names: Some(BTreeSet::new()),
            entries: entries.map(|entry| entry.file_name()).collect(),
        }
    };
    let search = searches.entry(directory.to_owned()).or_insert_with(first);
    match name {
        Some(name) => {
            if let Some(names) = &mut search.names {
                names.insert(name.to_owned());
            }
        }
        None => search.names = None,
    }
}

/// What was noted so far, which is forgotten.
pub fn take() -> Searches {
    SEARCHES
        .lock()
        .map(|mut searches| std::mem::take(&mut *searches))
        .unwrap_or_default()
}
