//! The modules of a process.

use std::ptr;

use super::object::{Object, Raised};
use super::raw;

/// Whether there is a module of a name, or one is about to be imported.
pub fn is_there(name: &Object) -> bool {
    // SAFETY: the GIL is held; returns a new reference, or NULL with or without an exception.
    let module = unsafe { Object::from_new(raw::PyImport_GetModule(name.as_ptr())) };
    // Without an exception there is nothing to clear.
    module.map_err(Raised::clear).is_ok()
}

/// Names in a dictionary of modules, of those that are no packages. Modules are not asked for attributes: some import
/// others then.
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
    // SAFETY: it is an object; the namespace belongs to it if it is a module, and keys are compared as strings are.
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

/// Calls a function, which runs no Python code, with each key and value of a dictionary, in their order.
fn visit(dictionary: &Object, mut each: impl FnMut(*mut raw::PyObject, *mut raw::PyObject)) {
    let (mut position, mut key, mut value) = (0, ptr::null_mut(), ptr::null_mut());
    // SAFETY: the GIL is held, and nothing changes the dictionary meanwhile; of any other object there are no entries.
    unsafe {
        while raw::PyDict_Next(dictionary.as_ptr(), &mut position, &mut key, &mut value) != 0 {
            each(key, value);
        }
    }
}
