//! The values that a program gives to variables, and takes from them again: imports that an image does before the program
//! has begun must not depend on these.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use super::late_changes;
use crate::cpython::dict_watcher;
use crate::cpython::object::{Object, Result};
use crate::runtime;

/// So many values of a variable are kept: no import sets one so often, so that it is known to be the program's.
const MOST_VALUES: usize = 100;

/// None if the variable was removed.
pub type Value = Option<Vec<u8>>;

static IS_KEPT: AtomicBool = AtomicBool::new(false);
static HISTORY: Mutex<BTreeMap<Vec<u8>, Vec<Value>>> = Mutex::new(BTreeMap::new());

/// Watches `posix.environ`; [`keep`] says from when on that is kept.
pub fn watch() -> Result<()> {
    let environ = Object::import(c"posix")?.attribute(c"environ")?;
    dict_watcher::watch(&environ, note)
}

pub fn keep(is_kept: bool) {
    IS_KEPT.store(is_kept, Ordering::Relaxed);
}

fn note(name: &Object, value: Option<&Object>) {
    if !IS_KEPT.load(Ordering::Relaxed) {
        return;
    }
    let bytes = |object: &Object| object.to_bytes().map(<[u8]>::to_vec);
    let change = bytes(name).and_then(|name| Ok((name, value.map(bytes).transpose()?)));
    let (name, value) = match change {
        Ok(change) => change,
        // No variable has such a name or value.
        Err(raised) => return raised.clear(),
    };
    late_changes::notice(&name, value.as_deref());
    let Some(runtime) = runtime::current() else {
        return;
    };
    if let Ok(mut history) = HISTORY.lock() {
        let values = history.entry(name.clone()).or_default();
        if values.len() < MOST_VALUES {
            values.push(value.clone());
            drop(history);
            runtime.variable_changed(name, value);
        }
    }
}

/// Pairs of names and values, or None for variables that were removed.
pub fn changes() -> Vec<(Vec<u8>, Value)> {
    let history = HISTORY
        .lock()
        .map_or_else(|_| BTreeMap::new(), |history| history.clone());
    let pairs = |(name, values): (Vec<u8>, Vec<Value>)| {
        values.into_iter().map(move |value| (name.clone(), value))
    };
    history.into_iter().flat_map(pairs).collect()
}
