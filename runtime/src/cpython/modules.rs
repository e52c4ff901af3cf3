//! Which modules are new in a process.

use std::ptr;

use super::object::{Object, Result};
use super::raw;

/// Modules that there were, by the addresses of their names and of themselves.
///
/// Neither is looked at when others are compared with them: that would cost a restored process all the memory that they lie
/// in. Those that were immortal then are still there, so that no other has the address.
pub struct Known(Vec<Addresses>);

type Addresses = [usize; 2];

impl Known {
    /// Those of a dictionary, `sys.modules`.
    pub fn of(modules: &Object) -> Self {
        let mut known = Vec::new();
        visit(modules, |name, module| known.push(addresses(name, module)));
        Self(known)
    }

    /// Pairs of name and module that are in the dictionary now and were not.
    pub fn others(&self, modules: &Object) -> Result<Vec<Object>> {
        let mut others = Vec::new();
        let mut next = 0;
        visit(modules, |name, module| {
            let known = addresses(name, module);
            if self.0.get(next) == Some(&known) {
                next += 1;
            } else if let Some(place) = self.0.iter().position(|other| *other == known) {
                // Those before it were removed, or it was put back.
                next = place + 1;
            } else {
                // SAFETY: the dictionary keeps both alive.
                others.push(unsafe { [name, module].map(|object| Object::from_borrowed(object)) });
            }
        });
        let pairs = others.into_iter().map(|pair| Object::tuple(pair.into()));
        pairs.collect()
    }
}

fn addresses(name: *mut raw::PyObject, module: *mut raw::PyObject) -> Addresses {
    [name.addr(), module.addr()]
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
