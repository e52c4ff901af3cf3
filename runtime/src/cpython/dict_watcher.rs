//! Being told of each change of a dict.

use std::ffi::c_int;
use std::sync::OnceLock;

use super::object::{Object, Raised, Result};
use super::raw;

/// Who is told: of a key, and its value, or none if it was removed.
type Told = fn(&Object, Option<&Object>);

static TOLD: OnceLock<Told> = OnceLock::new();

/// Has a function called whenever a dict is about to be changed. There is one such function in a process.
pub fn watch(dict: &Object, told: Told) -> Result<()> {
    let _ = TOLD.set(told);
    // SAFETY: the caller of the hook holds the GIL.
    let watcher = unsafe { raw::PyDict_AddWatcher(Some(changed)) };
    if watcher < 0 {
        return Err(Raised);
    }
    // SAFETY: as above; the watcher is the one that was just added.
    if unsafe { raw::PyDict_Watch(watcher, dict.as_ptr()) } < 0 {
        return Err(Raised);
    }
    Ok(())
}

unsafe extern "C" fn changed(
    _event: raw::PyDict_WatchEvent,
    _dict: *mut raw::PyObject,
    key: *mut raw::PyObject,
    value: *mut raw::PyObject,
) -> c_int {
    if let Some(told) = TOLD.get()
        && !key.is_null()
    {
        // SAFETY: the interpreter passes objects, or NULL for a value that is removed.
        unsafe {
            let value = (!value.is_null()).then(|| Object::from_borrowed(value));
            told(&Object::from_borrowed(key), value.as_ref());
        }
    }
    0
}
