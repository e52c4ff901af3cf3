//! Where the process that becomes an image has searched for modules: the directories, and the names in each.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::fs;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

/// What was searched for in a directory.
pub struct Search {
    /// The searched names; none if the process may have searched for any name.
    pub names: Option<BTreeSet<String>>,
    /// The entries of the directory before the first search.
    pub entries: Vec<OsString>,
}

type Searches = BTreeMap<String, Search>;

static SEARCHES: Mutex<Searches> = Mutex::new(BTreeMap::new());

/// Whether searches are currently ignored.
static ARE_IGNORED: AtomicBool = AtomicBool::new(false);

/// Makes [`note`] ignore searches, or stops that: the code that takes the image searches for modules, too.
pub fn ignore(are_ignored: bool) {
    ARE_IGNORED.store(are_ignored, Ordering::Relaxed);
}

/// Notes a search that is about to be made. Without a name, the searched name is unknown.
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

/// Returns the searches so far, and forgets them.
pub fn take() -> Searches {
    SEARCHES
        .lock()
        .map(|mut searches| std::mem::take(&mut *searches))
        .unwrap_or_default()
}
