//! Which programs were started before: a small file of fixed size.
//!
//! The file has a row for the last digits of a program's number, and in it the numbers of the programs that were
//! started last. If many programs are started only once (`-c` with another text each time), they replace each other
//! here, and leave nothing else. Two processes that write at the same time lose a number; the program is then noted when
//! it is started again.

use rustix::io::Result;

use crate::own_file;

const NAME: &[u8] = b"/seen";
const ROWS: u64 = 1024;
const IN_A_ROW: usize = 8;
const NUMBER_BYTES: usize = size_of::<u64>();
const ROW_BYTES: usize = IN_A_ROW * NUMBER_BYTES;
/// Hexadecimal digits of a number.
const DIGITS: usize = 2 * NUMBER_BYTES;

/// Notes in the directory of a build that a program was started. Returns whether this was known. `entry` is the name of
/// the program's entry.
///
/// # Errors
/// The file cannot be read or written.
pub fn note(directory: &[u8], entry: &[u8]) -> Result<bool> {
    let digits = entry
        .get(..DIGITS)
        .and_then(|digits| str::from_utf8(digits).ok());
    match digits.and_then(|digits| u64::from_str_radix(digits, 16).ok()) {
        Some(number) => note_number(directory, number),
        None => Ok(false),
    }
}

fn note_number(directory: &[u8], number: u64) -> Result<bool> {
    let file = own_file::open_to_change(&[directory, NAME].concat())?;
    let place = number % ROWS * ROW_BYTES as u64;
    let mut row = [0; ROW_BYTES];
    // A row behind the end of the file is empty.
    rustix::io::pread(&file, &mut row, place)?;
    let number = number.to_le_bytes();
    let (known, _) = row.as_chunks::<NUMBER_BYTES>();
    if known.contains(&number) {
        return Ok(true);
    }
    row.rotate_right(NUMBER_BYTES);
    row[..NUMBER_BYTES].copy_from_slice(&number);
    rustix::io::pwrite(&file, &row, place)?;
    Ok(false)
}
