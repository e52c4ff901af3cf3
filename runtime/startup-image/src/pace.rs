//! How soon the next image of a program is taken: a small file in the entry of the program.
//!
//! To take an image costs about as much processor time as ten restores save. The images of some programs are soon out of
//! date, and the surroundings of some differ from start to start. Images would then cost more than they save. So the
//! next image is taken at once only if the last one was restored often enough. Otherwise, two starts without an image
//! are awaited, and each time twice as many.
//!
//! Processes that start at the same time may be counted as one.

use alloc::vec::Vec;
use core::ops::RangeInclusive;

use rustix::fd::OwnedFd;
use rustix::io::{Errno, Result};

use crate::{own_file, uses};

const NAME: &[u8] = b"/pace";
/// An image that was restored so often has saved what the next one costs.
const PAYS: u64 = 10;
/// The smallest and the largest number of starts that are awaited.
const AWAITED: RangeInclusive<u64> = 2..=16;
const NUMBER_BYTES: usize = size_of::<u64>();

/// What the file contains, since the last image was taken.
struct Pace {
    /// The starts without an image.
    missed: u64,
    /// How many such starts are awaited, unless the image pays.
    awaited: u64,
    /// How often all images of the program had been restored before.
    restored: u64,
}

/// Notes a start without an image. Returns whether an image may be taken now.
pub fn is_due(entry: &[u8]) -> bool {
    let Some((file, pace)) = open(entry) else {
        return true;
    };
    let missed = pace.missed.saturating_add(1);
    pace.awaited_by(entry) <= 1 || Pace { missed, ..pace }.write(&file).is_err()
}

/// How many starts without an image are awaited before the next image is taken: 1 if it is taken at once.
pub fn awaited(entry: &[u8]) -> u64 {
    open(entry).map_or(1, |(_, pace)| pace.awaited_by(entry))
}

/// None if no image was taken yet.
fn open(entry: &[u8]) -> Option<(OwnedFd, Pace)> {
    let file = own_file::open_existing_to_change(&path(entry)).ok()?;
    let pace = Pace::read(&file).ok()?;
    Some((file, pace))
}

/// Notes that an image was taken.
///
/// # Errors
/// The file cannot be read or written.
pub fn begin_anew(entry: &[u8]) -> Result<()> {
    let restored = uses::of_all(entry);
    let file = own_file::open_to_change(&path(entry))?;
    let awaited = match Pace::read(&file) {
        Err(_) => 0,
        Ok(then) if then.has_paid(restored) => then.awaited / 2,
        Ok(then) => then.awaited.saturating_mul(2),
    };
    let anew = Pace {
        missed: 0,
        awaited: awaited.clamp(*AWAITED.start(), *AWAITED.end()),
        restored,
    };
    anew.write(&file)
}

fn path(entry: &[u8]) -> Vec<u8> {
    [entry, NAME].concat()
}

impl Pace {
    /// The starts that are still awaited.
    fn awaited_by(&self, entry: &[u8]) -> u64 {
        // A damaged file must not keep a program from its images.
        let awaited = self.awaited.min(*AWAITED.end());
        let rest = awaited.saturating_sub(self.missed).max(1);
        if rest > 1 && self.has_paid(uses::of_all(entry)) {
            return 1;
        }
        rest
    }

    /// Whether the last image has saved what it cost. `restored` is how often all images have been restored up to now.
    fn has_paid(&self, restored: u64) -> bool {
        restored.saturating_sub(self.restored) >= PAYS
    }

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
