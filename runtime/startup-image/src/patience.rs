//! How old an image gets at least before it is renewed, and a note in its place before somebody tries again.
//!
//! There are programs that change in each run what they have looked at: a cache that they read and write, a directory
//! with a journal. Their images are out of date as soon as the run has ended. After some that were out of date so soon,
//! each has to wait twice as long as the one before it, and one that has lasted has its successor wait no more.

use core::time::Duration;

/// What has kept an image from being taken may have passed by then: a full disk, a process that was killed.
pub const OF_NOTES: Duration = Duration::from_hours(24);

/// What is out of date earlier was hardly edited by hand.
const SHORTEST: Duration = Duration::from_secs(10);
const LONGEST: Duration = Duration::from_hours(1);
/// So many may be out of date at once, one after the other: somebody tries something.
const FREE: u32 = 4;

/// How old an image gets at least that comes after so many that were out of date soon.
pub fn of_image(short_lived: u32) -> Duration {
    let Some(doublings) = short_lived.checked_sub(FREE) else {
        return Duration::ZERO;
    };
    let longer = SHORTEST.saturating_mul(1_u32.checked_shl(doublings).unwrap_or(u32::MAX));
    longer.min(LONGEST)
}

/// How many there have been in a row with one that came after so many, and was out of date at this age.
pub fn short_lived_with(age: Duration, short_lived: u32) -> u32 {
    let was_short = age < (of_image(short_lived) * 2).max(SHORTEST);
    if was_short {
        short_lived.saturating_add(1)
    } else {
        0
    }
}
