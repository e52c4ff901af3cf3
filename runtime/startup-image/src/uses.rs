//! How often each image of a program was restored: a small file in the entry of the program.
//!
//! The file has a number of 8 bytes for each variant. Two processes that are restored at the same time may be counted as
//! one.

use rustix::io::Result;

use crate::cache::VARIANTS;
use crate::own_file;

const MOST_BYTES: usize = VARIANTS * size_of::<u64>();
const NAME: &[u8] = b"/uses";

/// How often all images of a program were restored.
pub fn of_all(entry: &[u8]) -> u64 {
    let mut numbers = [0; MOST_BYTES];
    let read = own_file::open_existing_to_change(&[entry, NAME].concat())
        .and_then(|file| rustix::io::pread(&file, &mut numbers, 0));
    let (numbers, _) = numbers[..read.unwrap_or(0)].as_chunks();
    let numbers = numbers.iter().map(|number| u64::from_le_bytes(*number));
    numbers.fold(0, u64::wrapping_add)
}

/// Counts that the image of a variant is restored.
///
/// # Errors
/// The file cannot be read or written.
pub fn count(entry: &[u8], variant: usize) -> Result<()> {
    let file = own_file::open_to_change(&[entry, NAME].concat())?;
    let mut number = [0; size_of::<u64>()];
    let place = (variant * number.len()) as u64;
    // What is behind the end of the file is zero.
    rustix::io::pread(&file, &mut number, place)?;
    let next = u64::from_le_bytes(number).wrapping_add(1);
    rustix::io::pwrite(&file, &next.to_le_bytes(), place)?;
    Ok(())
}
