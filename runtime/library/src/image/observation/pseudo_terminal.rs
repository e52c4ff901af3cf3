//! A terminal for a watched program whose run had a terminal (pty(7)).

use std::io::{Error, Result};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::ptr;

use startup_image::streams::OwnTerminal;

/// A pseudo-terminal. Nothing reads its output, because a program is stopped before it writes anything.
pub struct PseudoTerminal {
    streams: [bool; 3],
    program_end: OwnedFd,
    /// The program's end works as a terminal only while this end is open.
    _other_end: OwnedFd,
}

impl PseudoTerminal {
    /// Opens a pseudo-terminal with the modes and the size of another terminal.
    ///
    /// # Errors
    /// The system has no free pseudo-terminal, or `/dev/pts` is not mounted.
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
            // SAFETY: the call writes to two variables and reads `size`. The null pointers are allowed (openpty(3)).
            unsafe { libc::openpty(&mut other, &mut own, ptr::null_mut(), ptr::null(), &size) };
        if result < 0 {
            return Err(Error::last_os_error());
        }
        // SAFETY: `openpty()` has opened both descriptors, and nothing else owns them.
        let ends = unsafe { [other, own].map(|end| OwnedFd::from_raw_fd(end)) };
        let modes = like.modes.raw();
        // SAFETY: the call reads a `struct termios`, and `modes` has all of its bytes.
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

    /// Makes the terminal those standard streams of this process that were a terminal in the run. A forked process may
    /// call this.
    pub fn become_streams(&self) {
        for number in (0..)
            .zip(self.streams)
            .filter_map(|(number, is_one)| is_one.then_some(number))
        {
            // SAFETY: the call replaces the descriptor of a standard stream, which no object of this process owns.
            unsafe { libc::dup2(self.program_end.as_raw_fd(), number) };
        }
    }
}
