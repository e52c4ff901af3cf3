//! A terminal for a program that is watched, as a run has had one (pty(7)).

use std::io::{Error, Result};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::ptr;

use startup_image::streams::OwnTerminal;

/// Nobody reads what is written to it: a program is stopped before it writes anything.
pub struct PseudoTerminal {
    streams: [bool; 3],
    program_end: OwnedFd,
    /// It is a terminal as long as this end is open.
    _other_end: OwnedFd,
}

impl PseudoTerminal {
    /// One with the modes and the size of another one.
    ///
    /// # Errors
    /// There are no more, or `/dev/pts` is not mounted.
    pub fn new(like: &OwnTerminal) -> Result<Self> {
        let (mut other, mut own) = (-1, -1);
        let (rows, columns) = like.size;
        let size = libc::winsize {
            ws_row: rows,
            ws_col: columns,
            ws_xpixel: 0,
            ws_ypixel: 0,
        };
        let result =
            // SAFETY: writes two descriptors, and reads the size.
            unsafe { libc::openpty(&mut other, &mut own, ptr::null_mut(), ptr::null(), &size) };
        if result < 0 {
            return Err(Error::last_os_error());
        }
        // SAFETY: they are open, and nobody else has them.
        let ends = unsafe { [other, own].map(|end| OwnedFd::from_raw_fd(end)) };
        let modes = like.modes.raw();
        // SAFETY: reads a `struct termios`, of which these are all bytes.
        if unsafe { libc::ioctl(own, libc::TCSETS, modes.as_ptr()) } < 0 {
            return Err(Error::last_os_error());
        }
        let [other_end, program_end] = ends;
        Ok(Self {
            streams: like.streams,
            program_end,
            _other_end: other_end,
        })
    }

    /// Makes it the standard streams of this process that it was; a forked process may do so.
    pub fn become_streams(&self) {
        for number in (0..)
            .zip(self.streams)
            .filter_map(|(number, is_one)| is_one.then_some(number))
        {
            // SAFETY: replaces a descriptor, which this process has no other use for.
            unsafe { libc::dup2(self.program_end.as_raw_fd(), number) };
        }
    }
}
