//! Interned strings of the archive, found by content.

use cds_format::content_hash;

use crate::cpython::archived;
use crate::cpython::object::Object;
use crate::reader::Mapped;

/// The archived string equal to a live one.
///
/// # Safety
/// `string` is an exact str, and the caller holds the GIL.
pub unsafe fn find(
    archive: &Mapped,
    string: *mut crate::cpython::bindings::PyObject,
) -> Option<Object> {
    // SAFETY: an exact str.
    let hash = content_hash(unsafe { archived::characters(string) });
    for offset in archive.tables.interned(hash) {
        let Some((candidate, room)) = archive.object(offset) else {
            continue;
        };
        // SAFETY: `room` bytes from there on are mapped.
        if unsafe { archived::is_same_string(candidate.as_ptr(), room, string) } {
            // SAFETY: it is a str, and immortal.
            return Some(unsafe { Object::from_borrowed(candidate.cast().as_ptr()) });
        }
    }
    None
}
