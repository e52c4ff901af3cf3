//! What an archive that renews itself must keep: `-X cds_auto`.

use crate::cpython::archived;
use crate::cpython::object::Result;
use crate::layers::Layer;
use crate::trace::{self, Use};

/// The lines of a trace list that name what a layer has: a program does not use all of it in each run. They are for the
/// archive only, since other programs may have left them there.
pub fn lines(layer: &Layer) -> Result<Vec<String>> {
    let tables = &layer.archive.tables;
    let modules = tables.modules().filter(|module| module.code.is_some());
    let mut lines: Vec<String> = modules
        .filter(|module| !module.origin.starts_with('<'))
        .map(|module| trace::module_line(module.name, Some(module.origin), Use::NotImported))
        .collect();
    for offset in tables.all_patterns() {
        let Some((pattern, room)) = layer.archive.object(offset) else {
            continue;
        };
        // SAFETY: `room` bytes from there on are mapped; its fields are those of a tuple.
        let fields = unsafe {
            archived::tuple(pattern.cast().as_ptr(), room).map(|tuple| tuple.tuple_items())
        };
        if let Some([pattern, flags, ..]) = fields.as_deref() {
            let (flags, pattern) = (flags.ascii()?, pattern.ascii()?);
            lines.push(trace::pattern_line(flags.to_str()?, pattern.to_str()?));
        }
    }
    Ok(lines)
}
