//! Archive files that functions of this module inspect, and the exceptions that they raise if this is impossible.

use std::path::Path;

use crate::cpython::object::{Exception, Raised, Result};
use crate::inspect::Here;
use crate::inspect::stored_archive::StoredArchive;
use crate::reader::OpenError;
use crate::runtime;

pub(super) fn here() -> Result<Here<'static>> {
    let runtime = runtime::current().ok_or_else(disabled)?;
    Ok(Here {
        config: &runtime.config,
        executable: &runtime.executable,
    })
}

pub(super) fn disabled() -> Raised {
    Raised::new(Exception::Os, "the archive runtime has been disabled")
}

/// # Errors
/// `OSError` if the file cannot be read, `ValueError` if it is not a valid archive.
pub(super) fn open(path: &Path) -> Result<StoredArchive> {
    StoredArchive::open(path).map_err(raised)
}

pub(super) fn raised(error: OpenError) -> Raised {
    match error {
        OpenError::Rejected(_) => damaged(&error.to_string()),
        _ => Raised::new(Exception::Os, &error.to_string()),
    }
}

pub(super) fn damaged(text: &str) -> Raised {
    Raised::new(Exception::Value, text)
}
