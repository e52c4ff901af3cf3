//! Images of a program that are rarely restored are taken more rarely.

use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use startup_image::{pace, uses};

/// The starts without an image until the next one is taken.
fn starts_until_due(entry: &Path) -> usize {
    let entry = entry.as_os_str().as_bytes();
    (1..100).find(|_| pace::is_due(entry)).unwrap()
}

#[test]
fn images_that_are_not_used_become_rare_and_images_that_pay_do_not() {
    let entry = tempfile::tempdir().unwrap();
    let path = entry.path().as_os_str().as_bytes();
    let take_after = |restores| {
        for _ in 0..restores {
            uses::count(path, 0).unwrap();
        }
        let starts = starts_until_due(entry.path());
        pace::begin_anew(path).unwrap();
        starts
    };
    let awaited = [0, 0, 0, 0, 0, 0, 0, 9].map(take_after);
    assert_eq!(awaited, [1, 2, 4, 8, 16, 16, 16, 16]);
    // An image that pays is renewed at once, and the program gets its images sooner again.
    let awaited = [10, 50, 10, 10, 10, 10, 10].map(take_after);
    assert_eq!(awaited, [1; 7]);
    assert_eq!([0, 0, 10, 0].map(take_after), [2, 4, 1, 4]);
}

/// A file of another version, or one that a full disk has cut off.
#[test]
fn a_file_that_cannot_be_read_delays_nothing() {
    let entry = tempfile::tempdir().unwrap();
    let path = entry.path().as_os_str().as_bytes();
    fs::write(entry.path().join("pace"), [7; 11]).unwrap();
    assert_eq!(starts_until_due(entry.path()), 1);
    pace::begin_anew(path).unwrap();
    assert_eq!(starts_until_due(entry.path()), 2);
    let damaged = [0, u64::MAX, 0].map(u64::to_le_bytes).concat();
    fs::write(entry.path().join("pace"), damaged).unwrap();
    assert_eq!(starts_until_due(entry.path()), 16);
    fs::remove_file(entry.path().join("pace")).unwrap();
    std::os::unix::fs::symlink("elsewhere", entry.path().join("pace")).unwrap();
    assert_eq!(starts_until_due(entry.path()), 1);
    assert!(pace::begin_anew(path).is_err());
    assert!(!entry.path().join("elsewhere").exists());
}
