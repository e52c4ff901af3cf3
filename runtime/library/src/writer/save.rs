//! Phase 4: the file is saved.

use std::io::{Error, Result, Write};
use std::path::Path;

use archive_format::Header;

use crate::files::sealed::Unnamed;

pub fn save(path: &Path, bytes: &[u8]) -> Result<()> {
    const MODE: u32 = 0o644;
    let header = Header::parse(bytes, bytes.len() as u64).map_err(Error::other)?;
    let mut unnamed = Unnamed::new(path, MODE)?;
    unnamed.file().write_all(bytes)?;
    unnamed.name(header.seal_ns())
}
