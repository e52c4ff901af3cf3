//! The values that a program gives to variables, and takes from them again: imports that an image does before the program
//! has begun must not depend on these.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use super::variables::Compared;
use crate::cpython::dict_watcher;
use crate::cpython::object::{Object, Raised, Result};

static IS_KEPT: AtomicBool = AtomicBool::new(false);
static HISTORY: Mutex<Vec<Compared>> = Mutex::new(Vec::new());

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
    match (change, HISTORY.lock()) {
        (Ok(change), Ok(mut history)) => history.push(change),
        // No variable has such a name or value.
        (Err(raised), _) => raised.clear(),
        (Ok(_), Err(_)) => {}
    }
}

/// Pairs of names and values, or None for variables that were removed.
pub fn changes() -> Result<Object> {
    let history = HISTORY
        .lock()
        .map_or_else(|_| Vec::new(), |history| history.clone());
    let changes = history.iter().map(|(name, value)| {
        let value = value.as_ref().map(|value| Object::from_bytes(value));
        let value = value.transpose()?.unwrap_or_else(Object::none);
        Object::tuple(vec![Object::from_bytes(name)?, value])
    });
    Object::list(changes.collect::<std::result::Result<Vec<_>, Raised>>()?)
}
