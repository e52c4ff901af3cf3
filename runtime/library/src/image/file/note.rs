//! The note: a text that replaces the image file if no image could be taken, and gives the reason.

use std::io::{Result, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use startup_image::own_file::OwnFile;

use crate::files::sealed::Unnamed;

const MODE: u32 = 0o600;
/// The start of each note.
const START: &str = "no startup image could be taken";
/// The end of the first line. The reason follows in the next lines.
const REMEDY: &str = "; to try again, remove this file\n";

/// Writes a note. The next attempt to take an image is made when the archive is renewed, or after a day.
pub fn write(path: &Path, reason: &[u8]) -> Result<()> {
    let mut note = Unnamed::new(path, MODE)?;
    let file = note.file();
    write!(file, "{START}{REMEDY}")?;
    file.write_all(reason)?;
    note.name(0)
}

/// The text of a note in one line; none if the file is not a note.
pub fn read(path: &Path) -> Option<String> {
    const MOST_BYTES: u64 = 1 << 16;
    let own = OwnFile::open(path.as_os_str().as_bytes()).ok()??;
    let bytes = own
        .read(0, MOST_BYTES.min(own.status.st_size as u64))
        .ok()?;
    let text = String::from_utf8_lossy(&bytes).into_owned();
    let reasons = text.strip_prefix(START)?.strip_prefix(REMEDY)?;
    let reasons = reasons.lines().filter(|line| !line.is_empty());
    let reasons = reasons.collect::<Vec<_>>().join("; ");
    Some(format!("{START}: {reasons}"))
}

/// Whether a file is a note.
pub fn is_note(own: &OwnFile) -> bool {
    own.read(0, START.len() as u64)
        .is_ok_and(|start| start == START.as_bytes())
}
