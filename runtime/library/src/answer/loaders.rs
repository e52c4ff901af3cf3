//! The loader for each file name suffix.

use crate::cpython::module_suffixes;
use crate::cpython::object::{Object, Result};

/// The loaders of a `FileFinder`: suffix and class, in the order in which it tries them. `None` if the suffixes or
/// their order differ from those of the interpreter's own finders, for which directories are indexed: then the finder
/// could choose another file.
pub fn standard(loaders: &Object) -> Result<Option<Vec<(String, Object)>>> {
    let mut found = Vec::new();
    for pair in loaders.to_items()? {
        let [suffix, loader] = &pair.to_items()?[..] else {
            return Ok(None);
        };
        found.push((suffix.to_str()?.to_owned(), loader.clone()));
    }
    Ok(module_suffixes()
        .eq(found.iter().map(|(suffix, _)| suffix.as_bytes()))
        .then_some(found))
}
