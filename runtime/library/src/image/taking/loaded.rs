//! The modules that an image has, for its key.

use crate::cpython::modules::names_of_plain;
use crate::cpython::object::{Object, Result};

/// The names of those that are no packages, one a line.
pub fn plain_modules() -> Result<Vec<u8>> {
    let modules = Object::import(c"sys")?.attribute(c"modules")?;
    let lines = names_of_plain(&modules).into_iter().map(|name| name + "\n");
    Ok(lines.collect::<String>().into_bytes())
}
