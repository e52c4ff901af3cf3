//! The modules of an image, for its key.

use crate::cpython::modules::names_of_plain;
use crate::cpython::object::{Object, Result};

/// The names of modules that are not packages, one per line.
pub fn plain_modules() -> Result<Vec<u8>> {
    let modules = Object::import(c"sys")?.attribute(c"modules")?;
    let lines = names_of_plain(&modules).into_iter().map(|name| name + "\n");
    Ok(lines.collect::<String>().into_bytes())
}
