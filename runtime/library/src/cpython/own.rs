//! The modules of the package `cds` that this library uses. `sys.modules` does not contain them while a program runs of
//! which an image is to be taken, nor in the processes that are restored from this image: otherwise the program would
//! find modules there that it has not imported.

use std::ffi::CStr;
use std::ptr;
use std::sync::atomic::{AtomicPtr, Ordering};

use super::object::{Object, Result};
use super::raw;

/// A dict like `sys.modules`, whose reference is never released. NULL as long as the modules are in `sys.modules`.
static MODULES: AtomicPtr<raw::PyObject> = AtomicPtr::new(ptr::null_mut());

/// From now on, [`module`] looks for modules in this dict, which is like `sys.modules`.
pub fn keep(modules: Object) {
    MODULES.store(modules.into_ptr(), Ordering::Release);
}

/// Whether `object` is the dict of [`keep`].
pub fn is_modules(object: *mut raw::PyObject) -> bool {
    object == MODULES.load(Ordering::Acquire)
}

/// Returns a module of the dict. A module that is not there is imported.
pub fn module(name: &CStr) -> Result<Object> {
    let modules = MODULES.load(Ordering::Acquire);
    if !modules.is_null() {
        // SAFETY: the GIL is held, the dict is alive, and the call returns a borrowed reference or NULL.
        unsafe {
            let found = raw::PyDict_GetItemString(modules, name.as_ptr());
            if !found.is_null() {
                return Ok(Object::from_borrowed(found));
            }
        }
    }
    Object::import(name)
}
