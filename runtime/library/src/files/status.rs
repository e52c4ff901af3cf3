//! The status of a file, by the system call with which the C library asks for it. A filter of system calls that was made
//! for stock CPython may kill a process that uses statx(2), as `std::fs::File::metadata()` does.

use std::fs::File;
use std::io::{Error, Result};
use std::mem::MaybeUninit;
use std::os::fd::AsRawFd;

/// The status of an open file.
///
/// # Errors
/// The kernel reports none.
pub fn of(file: &File) -> Result<libc::stat> {
    let mut status = MaybeUninit::uninit();
    // SAFETY: the call writes to `status`, and to all of it if it succeeds.
    unsafe {
        if libc::fstat(file.as_raw_fd(), status.as_mut_ptr()) != 0 {
            return Err(Error::last_os_error());
        }
        Ok(status.assume_init())
    }
}
