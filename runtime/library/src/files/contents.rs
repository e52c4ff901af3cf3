//! Reads a file with the system calls of an import. A program may have installed a filter that kills it for others.

use std::fs::File;
use std::io::{Read, Result};
use std::path::Path;

/// The contents of a file. Unlike `std::fs::read()`, this does not ask for the size of the file (statx(2)).
///
/// # Errors
/// The file cannot be read.
pub fn read(path: impl AsRef<Path>) -> Result<Vec<u8>> {
    let mut contents = Vec::new();
    File::open(path)?
        .take(u64::MAX)
        .read_to_end(&mut contents)?;
    Ok(contents)
}
