//! Which loader a file name's suffix stands for.

use crate::cpython::module_suffixes;
use crate::cpython::object::{Object, Result};

/// The loaders of a `FileFinder`: suffix and class in the order in which it tries them. `None` if the suffixes
/// are not those of the interpreter's own finders, in their order, for which directories are indexed; then
/// another file might win.
pub fn standard(loaders: &Object) -> Result<Option<Vec<(String, Object)>>> {
    let mut found = Vec::new();
    for pair in loaders.to_items()? {
        let [suffix, loader] = &pair.to_items()?[..] else {
            return Ok(None);
        };
        found.push((suffix.to_str()?.to_owned(), loader.clone()));
    }
    Ok(module_suffixes()
        .eq(found.iter().map(|(suffix, _)| suffix.as_str()))
        .then_some(found))
}
