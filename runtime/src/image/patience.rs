//! How old an image gets at least before it is renewed.
//!
//! There are programs that change in each run what they have looked at: a cache that they read and write, a directory with a journal.
//! Their images are out of date as soon as the run has ended. After some that were out of date so soon, each has to wait twice as
//! long as the one before it, and one that has lasted has its successor wait no more.

use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::time::{Duration, SystemTime};

use cds_image::format::{Image, ImageFile, modified_ns};

/// What is out of date earlier was hardly edited by hand.
const SHORTEST: Duration = Duration::from_secs(10);
const LONGEST: Duration = Duration::from_hours(1);
/// So many may be out of date at once, one after the other: somebody tries something.
const FREE: u32 = 4;

/// Whether an image that is out of date has waited long enough.
pub fn is_over(file: &ImageFile, image: &Image) -> bool {
    age(file) >= patience(image.short_lived)
}

/// How many images there have been in a row that were out of date soon, before the one that is about to be written to a path.
pub fn short_lived_before(path: &Path) -> u32 {
    let Ok(Some(file)) = ImageFile::open(path.as_os_str().as_bytes()) else {
        return 0;
    };
    let before = file.image().map_or(0, |image| image.short_lived);
    with(age(&file), before)
}

fn patience(short_lived: u32) -> Duration {
    let Some(doublings) = short_lived.checked_sub(FREE) else {
        return Duration::ZERO;
    };
    let longer = SHORTEST.saturating_mul(1_u32.checked_shl(doublings).unwrap_or(u32::MAX));
    longer.min(LONGEST)
}

/// How many there are with one that was out of date at this age.
fn with(age: Duration, short_lived: u32) -> u32 {
    let was_short = age < (patience(short_lived) * 2).max(SHORTEST);
    if was_short {
        short_lived.saturating_add(1)
    } else {
        0
    }
}

/// How long ago it was written; forever if that is in the future.
fn age(file: &ImageFile) -> Duration {
    let status = rustix::fs::fstat(&file.file).ok();
    let written = status.and_then(|status| u64::try_from(modified_ns(&status)).ok());
    let written = SystemTime::UNIX_EPOCH + Duration::from_nanos(written.unwrap_or_default());
    written.elapsed().unwrap_or(Duration::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A program that runs each second, and changes each time what it looks at.
    #[test]
    fn what_is_renewed_at_once_waits_longer_each_time() {
        let second = Duration::from_secs(1);
        let (mut short_lived, mut renewals, mut made) = (0, 0, 0);
        for now in 1..24 * 3600 {
            let age = second * (now - made);
            if age >= patience(short_lived) {
                (short_lived, renewals, made) = (with(age, short_lived), renewals + 1, now);
            }
        }
        assert_eq!(patience(short_lived), LONGEST);
        assert!(renewals < 40, "{renewals}");
        // It has stopped doing so.
        assert_eq!(with(LONGEST * 2, short_lived), 0);
        assert_eq!(patience(u32::MAX), LONGEST);
    }

    /// Somebody edits a program, and runs it.
    #[test]
    fn what_was_edited_is_renewed_at_once() {
        assert_eq!(with(Duration::from_secs(15), FREE - 1), 0);
        assert_eq!(patience(FREE - 1), Duration::ZERO);
    }
}
