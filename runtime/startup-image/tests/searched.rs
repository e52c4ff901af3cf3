//! Which entries of a searched directory are compared.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::time::{Duration, SystemTime};

use proptest::prelude::*;
use startup_image::searched::{Searched, State};

const SUFFIXES: [&[u8]; 2] = [b".abi3.so", b".py"];

fn state(directory: &Path, names: &[u8]) -> State {
    let path = directory.as_os_str().as_bytes();
    State::now(path, names, SUFFIXES.into_iter()).expect("it can be listed")
}

fn is_as_it_was(directory: &Path, names: &[u8], state: State) -> bool {
    let path = directory.as_os_str().as_bytes().into();
    let names = names.into();
    Searched { path, names, state }.is_as_it_was(SUFFIXES.into_iter())
}

fn fill(directory: &Path, entries: &BTreeSet<&str>) {
    for entry in fs::read_dir(directory).expect("it can be listed") {
        fs::remove_file(entry.expect("it can be read").path()).expect("it is a file");
    }
    for entry in entries {
        fs::write(directory.join(entry), "").expect("it can be written");
    }
}

fn set_time(directory: &Path, seconds: u64) {
    let time = SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
    let opened = File::open(directory).expect("it can be opened");
    opened.set_modified(time).expect("it is our own");
}

/// Sets of entries; some entries have one of the names `a` and `ab`.
fn entries() -> impl Strategy<Value = BTreeSet<&'static str>> {
    let all = [
        "a",
        "a.py",
        "a.abi3.so",
        "a.txt",
        "a.so",
        "ab",
        "ab.py",
        "abc.py",
        "b.py",
        "py",
        ".py",
    ];
    proptest::sample::subsequence(all.to_vec(), 0..all.len())
        .prop_map(|it| it.into_iter().collect())
}

proptest! {
    #[test]
    fn entries_that_a_search_finds_count_and_no_others(before in entries(), after in entries()) {
        const NAMES: &[u8] = b"a\0ab\0";
        const COUNT: [&str; 5] = ["a", "a.py", "a.abi3.so", "ab", "ab.py"];
        let directory = tempfile::tempdir().expect("a directory can be made");
        fill(directory.path(), &before);
        set_time(directory.path(), 1);
        let state = state(directory.path(), NAMES);
        fill(directory.path(), &after);
        set_time(directory.path(), 2);
        let that_count = |entries: &BTreeSet<&'static str>| {
            COUNT.into_iter().filter(|entry| entries.contains(entry)).collect::<Vec<_>>()
        };
        let expected = that_count(&before) == that_count(&after);
        prop_assert_eq!(is_as_it_was(directory.path(), NAMES, state), expected);
    }
}

/// A finder recognizes a directory by its time, so it would not list another directory with the same time.
#[test]
fn another_directory_of_the_same_time_is_not_the_same() {
    let parent = tempfile::tempdir().expect("a directory can be made");
    let (one, other) = (parent.path().join("one"), parent.path().join("other"));
    for directory in [&one, &other] {
        fs::create_dir(directory).expect("it can be made");
        set_time(directory, 1);
    }
    let state = state(&one, b"");
    assert!(is_as_it_was(&one, b"", state.clone()));
    assert!(!is_as_it_was(&other, b"", state.clone()));
    set_time(&other, 2);
    assert!(is_as_it_was(&other, b"", state.clone()));
    fs::remove_dir(&one).expect("it can be removed");
    assert!(!is_as_it_was(&one, b"", state));
}
