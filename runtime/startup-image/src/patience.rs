//! The minimum age of an image before it is renewed, and of a note before the next attempt to take an image.
//!
//! Some programs change, in each run, a file that they have looked at: a cache that they read and write, a directory
//! with a journal. Their images are out of date as soon as the run has ended. After a few such images, each image is
//! renewed only after twice the time of the image before. After an image that lasts longer, the next one is renewed at
//! once again.

use core::time::Duration;

/// After this time, the reason why no image could be taken may be gone: a full disk, a process that was killed.
pub const OF_NOTES: Duration = Duration::from_hours(24);

/// After so many attempts in a row, the reason is hardly gone later. A new archive is a reason to try again.
pub const MOST_ATTEMPTS: u32 = 3;

/// An image that is out of date earlier was hardly made so by a person who edits a file.
const SHORTEST: Duration = Duration::from_secs(10);
const LONGEST: Duration = Duration::from_hours(1);
/// So many short-lived images in a row do not delay the next one: a person may be editing the program.
const FREE: u32 = 4;

/// The minimum age of an image that comes after so many short-lived images in a row.
pub fn of_image(short_lived: u32) -> Duration {
    let Some(doublings) = short_lived.checked_sub(FREE) else {
        return Duration::ZERO;
    };
    let longer = SHORTEST.saturating_mul(1_u32.checked_shl(doublings).unwrap_or(u32::MAX));
    longer.min(LONGEST)
}

/// The number of short-lived images in a row, including an image that came after `short_lived` others and was out of
/// date at this age; 0 if this image was not short-lived.
pub fn short_lived_with(age: Duration, short_lived: u32) -> u32 {
    let was_short = age < (of_image(short_lived) * 2).max(SHORTEST);
    if was_short {
        short_lived.saturating_add(1)
    } else {
        0
    }
}
