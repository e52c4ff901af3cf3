//! The modules of a process.

use std::ffi::c_int;
use std::ptr;

use super::object::{Borrowed, Object, Raised};
use super::raw;

/// Sets a module up. The result is negative if this fails.
pub type SetUp = unsafe extern "C" fn(module: Borrowed) -> c_int;

/// A module, and its set-up that was not done yet.
pub struct PendingSetUp {
    module: Borrowed,
    set_up: SetUp,
}

// SAFETY: the module is used only with the GIL, like all objects.
unsafe impl Send for PendingSetUp {}

impl PendingSetUp {
    /// # Safety
    /// `set_up` may be called once with the module, later. The module uses single-phase initialization.
    pub unsafe fn new(module: &Object, set_up: SetUp) -> Self {
        // A module with single-phase initialization (PEP 489) lives as long as the interpreter, because
        // `modules_by_index` refers to it (CPython, Python/import.c). So the reference is borrowed from there.
        Self {
            module: module.borrowed(),
            set_up,
        }
    }

    /// Sets the module up, with the GIL. The result is negative if this fails.
    pub fn run(self) -> c_int {
        // SAFETY: the caller of `new()` has allowed one call, and `self` is used up. The module is still alive.
        unsafe { (self.set_up)(self.module) }
    }
}

/// Whether a module of this name is loaded or is being imported.
pub fn is_there(name: &Object) -> bool {
    // SAFETY: the GIL is held. The call returns a new reference, or NULL with or without an exception.
    let module = unsafe { Object::from_new(raw::PyImport_GetModule(name.as_ptr())) };
    // Without an exception there is nothing to clear.
    module.map_err(Raised::clear).is_ok()
}

/// Names of the modules in a dict of modules that are not packages. No attribute of a module is read, since some
/// modules import others when an attribute is read.
pub fn names_of_plain(modules: &Object) -> Vec<String> {
    let mut names = Vec::new();
    visit(modules, |name, module| {
        // SAFETY: the dictionary keeps the name alive.
        let name = unsafe { Object::from_borrowed(name) };
        match name.to_str() {
            Ok(text) if !is_package(module) => names.push(text.to_owned()),
            Ok(_) => {}
            Err(raised) => raised.clear(),
        }
    });
    names
}

fn is_package(module: *mut raw::PyObject) -> bool {
    // SAFETY: `module` is an object. If it is a module, it owns the namespace. Comparing the keys with a string runs no
    // Python code.
    unsafe {
        let namespace = raw::PyModule_GetDict(module);
        let found = match namespace.is_null() {
            true => -1,
            false => raw::PyDict_ContainsString(namespace, c"__path__".as_ptr()),
        };
        if found < 0 {
            Raised.clear();
        }
        found > 0
    }
}

/// Calls `each` with each key and value of a dict, in order. `each` must run no Python code.
fn visit(dictionary: &Object, mut each: impl FnMut(*mut raw::PyObject, *mut raw::PyObject)) {
    let (mut position, mut key, mut value) = (0, ptr::null_mut(), ptr::null_mut());
    // SAFETY: the GIL is held, and nothing changes the dict meanwhile. For an object of another type, `PyDict_Next()`
    // returns no entries.
    unsafe {
        while raw::PyDict_Next(dictionary.as_ptr(), &mut position, &mut key, &mut value) != 0 {
            each(key, value);
        }
    }
}
