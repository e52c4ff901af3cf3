//! The modules of the package `cds` that this library uses. While a program runs that an image is to be taken of, and in the
//! processes that are restored from that, `sys.modules` does not have them: the program would find modules that it has not
//! imported.

use std::ffi::CStr;
use std::ptr;
use std::sync::atomic::{AtomicPtr, Ordering};

use super::object::{Object, Result};
use super::raw;

/// A dict like `sys.modules`, which nobody lets go of; NULL as long as `sys.modules` has them.
static MODULES: AtomicPtr<raw::PyObject> = AtomicPtr::new(ptr::null_mut());

/// Has modules be found in a dict like `sys.modules`.
pub fn keep(modules: Object) {
    MODULES.store(modules.into_ptr(), Ordering::Release);
}

/// Whether an object is that dict.
pub fn is_modules(object: *mut raw::PyObject) -> bool {
    object == MODULES.load(Ordering::Acquire)
}

/// A module, which is imported if it is none of those that were kept.
pub fn module(name: &CStr) -> Result<Object> {
    let modules = MODULES.load(Ordering::Acquire);
    if !modules.is_null() {
        // SAFETY: the GIL is held; the dict is alive, and the reference to what it has is borrowed.
        unsafe {
            let found = raw::PyDict_GetItemString(modules, name.as_ptr());
            if !found.is_null() {
                return Ok(Object::from_borrowed(found));
            }
        }
    }
    Object::import(name)
}
