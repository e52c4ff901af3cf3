//! The modules of a process.

use std::ptr;

use super::object::{Object, Raised};
use super::raw;

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
