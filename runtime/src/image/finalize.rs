//! The end of a restored process.

use super::resume::is_restored;
use crate::cpython::object::{Object, Result};

/// Takes apart what the process has loaded since it was restored, if it was. Returns whether it was.
pub fn finalize_restored() -> bool {
    if !is_restored() {
        return false;
    }
    if let Err(raised) = finalize() {
        raised.clear();
    }
    true
}

fn finalize() -> Result<()> {
    Object::import(c"cds.startup")?
        .attribute(c"finalize")?
        .call(Vec::new())?;
    Ok(())
}
