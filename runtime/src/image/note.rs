//! What stands in the place of an image that cannot be: a text that says why.

use std::io::{Result, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use cds_image::own_file::OwnFile;

use crate::sealed::Unnamed;

const MODE: u32 = 0o600;
/// How every note begins.
const START: &str = "no startup image";
/// How one goes on that stays until somebody removes it, and one that is written anew with the archive.
const FINAL: &str = " is taken here any more";
const PRELIMINARY: &str = " could be taken";

/// Writes that no image could be taken; when the archive is written anew, that may be different.
pub fn write(path: &Path, reason: &[u8]) -> Result<()> {
    save(path, PRELIMINARY, reason)
}

/// Writes that no image is to be taken.
pub fn write_final(path: &Path, reason: &str) -> Result<()> {
    save(path, FINAL, reason.as_bytes())
}

fn save(path: &Path, kind: &str, reason: &[u8]) -> Result<()> {
    let mut note = Unnamed::new(path, MODE)?;
    let file = note.file();
    writeln!(file, "{START}{kind}; to try again, remove this file")?;
    file.write_all(reason)?;
    note.name(0)
}

/// Whether a file is a note.
pub fn is_note(own: &OwnFile) -> bool {
    begins_with(own, START)
}

/// Whether there is a note that stays.
pub fn is_final(path: &Path) -> bool {
    let own = OwnFile::open(path.as_os_str().as_bytes());
    matches!(own, Ok(Some(own)) if begins_with(&own, &[START, FINAL].concat()))
}

fn begins_with(own: &OwnFile, text: &str) -> bool {
    own.read(0, text.len() as u64)
        .is_ok_and(|start| start == text.as_bytes())
}
