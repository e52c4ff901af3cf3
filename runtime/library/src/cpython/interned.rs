//! The interpreter's own dict of interned strings.

use super::object::Object;
use super::raw;

/// The interned string equal to `string`, if there is one.
///
/// # Safety
/// `string` is an exact str, and the caller holds the GIL.
pub unsafe fn find(string: &Object) -> Option<Object> {
    // SAFETY: the caller passes a str and holds the GIL. The call returns a borrowed reference, or NULL without an
    // exception.
    unsafe {
        let found = raw::cds_glue_find_interned(string.as_ptr());
        (!found.is_null()).then(|| Object::from_borrowed(found))
    }
}
