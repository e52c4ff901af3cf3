//! Reading ahead where the page cache is cold.
//!
//! Page faults wait for the disk one after the other. What an archive's hot part holds will be wanted for the most
//! part, so if it is not in memory it is asked for at once, and comes while the interpreter starts.

use std::fs::File;
use std::io::IoSliceMut;
use std::num::NonZero;

use archive_format::Header;
use rustix::fs::Advice;
use rustix::io::{Errno, ReadWriteFlags};

/// Starts reading the hot part, unless it is in memory already. Whether it is, its last page tells.
pub fn hot_part(file: &File, header: &Header) {
    let end = header.hot_file_bytes();
    let mut byte = [0];
    let last = rustix::io::preadv2(
        file,
        &mut [IoSliceMut::new(&mut byte)],
        end.saturating_sub(1),
        ReadWriteFlags::NOWAIT,
    );
    if last == Err(Errno::AGAIN) {
        // It is advice: where it cannot be taken nothing is lost.
        let _ = rustix::fs::fadvise(file, 0, NonZero::new(end), Advice::WillNeed);
    }
}
