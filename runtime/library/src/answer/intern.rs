//! Finds interned strings of the archive by their content.

use archive_format::content_hash;

use crate::cpython::archived;
use crate::cpython::object::Object;
use crate::layers::Layers;

/// The archived string that equals a live one.
///
/// # Safety
/// `string` is an exact str, and the caller holds the GIL.
pub unsafe fn find(layers: &Layers, string: &Object) -> Option<Object> {
    // SAFETY: the caller passes an exact str.
    let hash = content_hash(unsafe { archived::characters(string) });
    // Each interned string is in only one layer.
    layers.iter_from_lowest().find_map(|layer| {
        let candidates = layer.archive.tables.interned(hash);
        candidates
            .filter(|offset| !layer.hides(*offset))
            .filter_map(|offset| layer.archive.object(offset))
            .find_map(|(candidate, room)| {
                // SAFETY: `room` bytes from this address on are mapped, and the caller passes an exact str.
                unsafe { archived::same_string(candidate, room, string) }
            })
    })
}
