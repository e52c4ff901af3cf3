//! Interned strings of the archive, found by content.

use archive_format::content_hash;

use crate::cpython::archived;
use crate::cpython::object::Object;
use crate::layers::Layers;

/// The archived string equal to a live one.
///
/// # Safety
/// `string` is an exact str, and the caller holds the GIL.
pub unsafe fn find(
    layers: &Layers,
    string: *mut crate::cpython::bindings::PyObject,
) -> Option<Object> {
    // SAFETY: an exact str.
    let hash = content_hash(unsafe { archived::characters(string) });
    // An interned string is in one layer only.
    layers.iter_from_lowest().find_map(|layer| {
        let candidates = layer.archive.tables.interned(hash);
        candidates
            .filter(|offset| !layer.hides(*offset))
            .filter_map(|offset| layer.archive.object(offset))
            .find_map(|(candidate, room)| {
                // SAFETY: `room` bytes from there on are mapped.
                let same = unsafe { archived::is_same_string(candidate.as_ptr(), room, string) };
                // SAFETY: then it is a str, and immortal.
                same.then(|| unsafe { Object::from_borrowed(candidate.cast().as_ptr()) })
            })
    })
}
