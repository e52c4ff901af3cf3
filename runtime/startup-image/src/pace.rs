//! How soon the next image of a program is taken: a small file in the entry of the program.
//!
//! To take an image costs about as much processor time as ten restores save. The images of some programs are soon out of
//! date, and the surroundings of some differ from start to start. Images would then cost more than they save. So after
//! an image that was rarely restored, twice as many starts without an image are awaited before the next one is taken.
//!
//! Processes that start at the same time may be counted as one.

use alloc::vec::Vec;

use rustix::fd::OwnedFd;
use rustix::io::{Errno, Result};

use crate::{own_file, uses};

const NAME: &[u8] = b"/pace";
/// An image that was restored so often has saved what the next one costs.
const PAYS: u64 = 10;
/// So many starts are awaited at most.
const MOST_AWAITED: u64 = 16;
const NUMBER_BYTES: usize = size_of::<u64>();

/// What the file contains, since the last image was taken.
struct Pace {
    /// The starts without an image.
    missed: u64,
    /// How many such starts are awaited.
    awaited: u64,
    /// How often all images of the program had been restored before.
    restored: u64,
}

/// Notes a start without an image. Returns whether an image may be taken now.
pub fn is_due(entry: &[u8]) -> bool {
    let Ok(file) = own_file::open_existing_to_change(&path(entry)) else {
        // No image was taken yet.
        return true;
    };
    let Ok(pace) = Pace::read(&file) else {
        return true;
    };
    let missed = pace.missed.saturating_add(1);
    if missed >= pace.awaited {
        return true;
    }
    Pace { missed, ..pace }.write(&file).is_err()
}

/// Notes that an image was taken.
///
/// # Errors
/// The file cannot be read or written.
pub fn begin_anew(entry: &[u8]) -> Result<()> {
    let restored = uses::of_all(entry);
    let file = own_file::open_to_change(&path(entry))?;
    let awaited = match Pace::read(&file) {
        Err(_) => 1,
        Ok(then) if restored.saturating_sub(then.restored) >= PAYS => then.awaited / 2,
        Ok(then) => then.awaited.saturating_mul(2),
    };
    let anew = Pace {
        missed: 0,
        awaited: awaited.clamp(1, MOST_AWAITED),
        restored,
    };
    anew.write(&file)
}

fn path(entry: &[u8]) -> Vec<u8> {
    [entry, NAME].concat()
}

impl Pace {
    /// # Errors
    /// The file is too short: no image was taken yet.
    fn read(file: &OwnedFd) -> Result<Self> {
        let mut bytes = [0; 3 * NUMBER_BYTES];
        if rustix::io::pread(file, &mut bytes, 0)? < bytes.len() {
            return Err(Errno::IO);
        }
        let (numbers, _) = bytes.as_chunks();
        let number = |index: usize| u64::from_le_bytes(numbers[index]);
        Ok(Self {
            missed: number(0),
            awaited: number(1),
            restored: number(2),
        })
    }

    fn write(&self, file: &OwnedFd) -> Result<()> {
        let numbers = [self.missed, self.awaited, self.restored];
        let bytes = numbers.map(u64::to_le_bytes).concat();
        rustix::io::pwrite(file, &bytes, 0).map(drop)
    }
}
