//! Which programs were started before.

use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;

use startup_image::seen;

/// A directory of a build.
struct Build(tempfile::TempDir);

impl Build {
    fn note(&self, entry: &str) -> bool {
        let directory = self.0.path().as_os_str().as_bytes();
        seen::note(directory, entry.as_bytes()).unwrap()
    }
}

fn build() -> Build {
    Build(tempfile::tempdir().unwrap())
}

#[test]
fn a_program_is_known_from_its_second_start_on() {
    let build = build();
    let name = "0123456789abcdef0123456789abcdef";
    assert_eq!([0; 3].map(|_| build.note(name)), [false, true, true]);
    assert!(!build.note("fedcba9876543210fedcba9876543210"));
    assert!(
        [0; 3]
            .map(|_| build.note("short"))
            .iter()
            .all(|known| !known)
    );
}

#[test]
fn the_oldest_program_of_a_row_is_forgotten_and_the_file_stays_small() {
    let build = build();
    // Programs whose numbers have the same last digits share a row of eight.
    let name = |number: u32| format!("{number:08x}00000007{:016x}", 0);
    for number in 1..=8 {
        assert!(!build.note(&name(number)));
    }
    assert!(build.note(&name(1)));
    assert!(!build.note(&name(100)));
    assert!(!build.note(&name(1)));
    for number in 0..5000_u32 {
        build.note(&format!(
            "{:08x}{:08x}{:016x}",
            number,
            number.wrapping_mul(2_654_435_761),
            0
        ));
    }
    let status = fs::metadata(build.0.path().join("seen")).unwrap();
    assert!(status.len() <= 64 << 10);
    assert_eq!(status.mode() & 0o777, 0o600);
}

#[test]
fn a_file_that_cannot_be_used_is_an_error() {
    assert!(seen::note(b"/nonexistent", b"0123456789abcdef").is_err());
    let build = build();
    std::os::unix::fs::symlink("/dev/null", build.0.path().join("seen")).unwrap();
    let directory = build.0.path().as_os_str().as_bytes();
    assert!(seen::note(directory, b"0123456789abcdef").is_err());
}
