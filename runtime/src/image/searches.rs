//! Where the process that an image is taken of has searched for modules: directories, and names.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Mutex;

/// None of the names where others may have been searched for, too.
pub type Searches = BTreeMap<String, Option<BTreeSet<String>>>;

static SEARCHES: Mutex<Searches> = Mutex::new(BTreeMap::new());

/// Takes notice of a search; without a name, it is not known what was searched for.
pub fn note(directory: &str, name: Option<&str>) {
    let Ok(mut searches) = SEARCHES.lock() else {
        return;
    };
    let names = searches.entry(directory.to_owned());
    let names = names.or_insert_with(|| Some(BTreeSet::new()));
    match name {
        Some(name) => {
            if let Some(names) = names {
                names.insert(name.to_owned());
            }
        }
        None => *names = None,
    }
}

/// What was noted so far, which is forgotten.
pub fn take() -> Searches {
    SEARCHES
        .lock()
        .map(|mut searches| std::mem::take(&mut *searches))
        .unwrap_or_default()
}
