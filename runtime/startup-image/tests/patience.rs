//! The time after which short-lived images are renewed.

use std::time::Duration;

use startup_image::patience::{of_image, short_lived_with};

const SECOND: Duration = Duration::from_secs(1);
const HOUR: Duration = Duration::from_hours(1);

/// A program runs each second, and each run changes a file that the program looks at.
#[test]
fn what_is_renewed_at_once_waits_longer_each_time() {
    let (mut short_lived, mut renewals, mut made) = (0, 0, 0);
    for now in 1..24 * 3600 {
        let age = SECOND * (now - made);
        if age >= of_image(short_lived) {
            (short_lived, renewals, made) = (short_lived_with(age, short_lived), renewals + 1, now);
        }
    }
    assert_eq!(of_image(short_lived), HOUR);
    assert!(renewals < 40, "{renewals}");
    // The program has stopped to change the file.
    assert_eq!(short_lived_with(HOUR * 2, short_lived), 0);
    assert_eq!(of_image(u32::MAX), HOUR);
}

/// A user edits a program and runs it.
#[test]
fn what_was_edited_is_renewed_at_once() {
    assert_eq!(of_image(3), Duration::ZERO);
    assert_eq!(short_lived_with(SECOND * 15, 3), 0);
}
