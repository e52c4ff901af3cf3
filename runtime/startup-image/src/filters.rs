//! Whether the system calls of this process are filtered (seccomp(2)). A filter can kill the process for a call that stock
//! CPython does not make.

use rustix::fs::{CWD, Mode, OFlags};

const STATUS: &[u8] = b"/proc/self/status";
const MOST_BYTES: usize = 4096;
/// The line of a process without a filter (proc(5)).
const NONE: &[u8] = b"\nSeccomp:\t0\n";

/// Whether there may be a filter. To find out, this only makes calls that the start of each interpreter makes.
pub fn may_exist() -> bool {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC;
    let Ok(file) = rustix::fs::openat(CWD, STATUS, flags, Mode::empty()) else {
        return true;
    };
    let mut status = [0; MOST_BYTES];
    let Ok(length) = rustix::io::read(&file, &mut status[..]) else {
        return true;
    };
    let mut lines = status[..length].windows(NONE.len());
    !lines.any(|line| line == NONE)
}
