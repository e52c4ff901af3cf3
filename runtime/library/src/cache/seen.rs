//! Which programs were started before: a small file of fixed size.
//!
//! The file has a row for the last digits of a program's number, and in it the numbers of the programs that were
//! started last. If many programs are started only once (`-c` with another text each time), they replace each other
//! here, and leave nothing else. Two processes that write at the same time lose a number; the program is then noted when
//! it is started again.

use std::ffi::OsStr;
use std::fs::OpenOptions;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;

const NAME: &str = "seen";
const ROWS: u64 = 1024;
const IN_A_ROW: usize = 8;
const ROW_BYTES: usize = IN_A_ROW * size_of::<u64>();
/// Hexadecimal digits of a number.
const DIGITS: usize = 16;

/// Notes that a program was started. Returns whether this was known. `entry` is the name of the program's entry.
pub fn note(directory: &Path, entry: &OsStr) -> bool {
    number(entry).is_some_and(|number| note_number(directory, number).unwrap_or(false))
}

fn number(entry: &OsStr) -> Option<u64> {
    u64::from_str_radix(entry.to_str()?.get(..DIGITS)?, 16).ok()
}

fn note_number(directory: &Path, number: u64) -> std::io::Result<bool> {
    let mut options = OpenOptions::new();
    options
        .read(true)
        .write(true)
        .create(true)
        .mode(0o600)
        .custom_flags(libc::O_NOFOLLOW | libc::O_NOCTTY | libc::O_NONBLOCK);
    let file = options.open(directory.join(NAME))?;
    let place = number % ROWS * ROW_BYTES as u64;
    let mut row = [0; ROW_BYTES];
    // A row behind the end of the file is empty.
    let _ = file.read_at(&mut row, place)?;
    let number = number.to_le_bytes();
    let (known, _) = row.as_chunks::<{ size_of::<u64>() }>();
    if known.contains(&number) {
        return Ok(true);
    }
    row.rotate_right(number.len());
    row[..number.len()].copy_from_slice(&number);
    file.write_all_at(&row, place)?;
    Ok(false)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_is_known_from_its_second_start_on() {
        let directory = tempfile::tempdir().unwrap();
        let note = |name: &str| note(directory.path(), OsStr::new(name));
        let name = "0123456789abcdef0123456789abcdef";
        assert_eq!([note(name), note(name), note(name)], [false, true, true]);
        assert!(!note("fedcba9876543210fedcba9876543210"));
        assert!(!note("short"));
    }

    #[test]
    fn the_oldest_program_of_a_row_is_forgotten() {
        let directory = tempfile::tempdir().unwrap();
        let note = |program| note_number(directory.path(), program * ROWS + 7).unwrap();
        for program in 1..=IN_A_ROW as u64 {
            assert!(!note(program));
        }
        assert!(note(1));
        assert!(!note(100));
        assert!(!note(1));
        let size = directory.path().join(NAME).metadata().unwrap().len();
        assert!(size <= ROWS * ROW_BYTES as u64);
    }
}
