//! Reads ahead if the page cache is cold.
//!
//! Page faults wait for the disk one after the other. Most of an archive's hot part will be needed. So if it is not in
//! memory, it is requested at once, and the disk reads it while the interpreter starts.

use std::fs::File;
use std::io::IoSliceMut;
use std::num::NonZero;

use archive_format::Header;
use rustix::fs::Advice;
use rustix::io::{Errno, ReadWriteFlags};

/// Starts reading the hot part, unless its last page is already in memory.
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
        // This is only advice: if the call fails, the pages are read on demand.
        let _ = rustix::fs::fadvise(file, 0, NonZero::new(end), Advice::WillNeed);
    }
}
