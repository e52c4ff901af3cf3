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

/// The start of the last line, which counts the attempts to take an image.
const ATTEMPTS: &str = "attempts: ";
const MOST_BYTES: u64 = 1 << 16;

/// Writes a note. The next attempt to take an image is made when the archive is renewed, or after a day; after some
/// attempts in a row, only when the archive is renewed.
pub fn write(path: &Path, reason: &[u8]) -> Result<()> {
    let before = OwnFile::open(path.as_os_str().as_bytes())
        .ok()
        .flatten()
        .map_or(0, |own| attempts(&own));
    let mut note = Unnamed::new(path, MODE)?;
    let file = note.file();
    write!(file, "{START}{REMEDY}")?;
    file.write_all(reason)?;
    write!(file, "\n{ATTEMPTS}{}\n", before.saturating_add(1))?;
    note.name(0)
}

/// How many attempts to take an image have failed in a row; 0 if the file is not a note.
pub fn attempts(own: &OwnFile) -> u32 {
    let text = text(own).unwrap_or_default();
    let last = text.lines().last().unwrap_or_default();
    let count = last.strip_prefix(ATTEMPTS);
    count.and_then(|count| count.parse().ok()).unwrap_or(0)
}

/// The text of a note in one line; none if the file is not a note.
pub fn read(path: &Path) -> Option<String> {
    let own = OwnFile::open(path.as_os_str().as_bytes()).ok()??;
    let text = text(&own)?;
    let reasons = text.strip_prefix(START)?.strip_prefix(REMEDY)?;
    let is_reason = |line: &&str| !line.is_empty() && !line.starts_with(ATTEMPTS);
    let reasons = reasons.lines().filter(is_reason);
    let reasons = reasons.collect::<Vec<_>>().join("; ");
    Some(format!("{START}: {reasons}"))
}

fn text(own: &OwnFile) -> Option<String> {
    let bytes = own
        .read(0, MOST_BYTES.min(own.status.st_size as u64))
        .ok()?;
    Some(String::from_utf8_lossy(&bytes).into_owned())
}

/// Whether a file is a note.
pub fn is_note(own: &OwnFile) -> bool {
    own.read(0, START.len() as u64)
        .is_ok_and(|start| start == START.as_bytes())
}
