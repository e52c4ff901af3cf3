//! The standard streams of a process.

use alloc::format;
use alloc::string::String;

use rustix::fd::{BorrowedFd, RawFd};
use rustix::fs::FileType;
use rustix::termios::{isatty, tcgetwinsize};
use serde::{Deserialize, Serialize};

const NAMES: [&str; 3] = ["standard input", "standard output", "standard error"];

fn stream(number: u8) -> BorrowedFd<'static> {
    // SAFETY: it is only asked what it is, which does no harm if it is closed or something else.
    unsafe { BorrowedFd::borrow_raw(RawFd::from(number)) }
}

/// One that the interpreter would do without, or not start with.
pub fn unusable() -> Option<&'static str> {
    let mut streams = (0..).zip(NAMES);
    let unusable = streams.find(|(number, _)| {
        let status = rustix::fs::fstat(stream(*number));
        !status.is_ok_and(|s| FileType::from_raw_mode(s.st_mode) != FileType::Directory)
    });
    unusable.map(|(_, name)| name)
}

/// What imports have learnt of the terminal that a stream may lead to: many decide once and for all whether they print
/// in colour.
#[derive(Serialize, Deserialize, PartialEq, Eq, Clone, Copy)]
pub struct Terminal {
    number: u8,
    is_there: bool,
    /// Rows and columns, if that counts.
    size: Option<(u16, u16)>,
}

impl Terminal {
    /// That of one of the streams now.
    pub fn of(number: u8, with_size: bool) -> Self {
        let size = tcgetwinsize(stream(number)).ok();
        let size = size.filter(|_| with_size);
        Self {
            number,
            is_there: isatty(stream(number)),
            size: size.map(|size| (size.ws_row, size.ws_col)),
        }
    }

    /// What the stream is called.
    pub fn stream(&self) -> &'static str {
        NAMES.get(usize::from(self.number)).unwrap_or(&"a stream")
    }

    /// Why an image whose imports have learnt this does not fit a process; none if it does.
    pub fn mismatch(&self) -> Option<String> {
        let now = Self::of(self.number, self.size.is_some());
        let name = self.stream();
        match *self == now {
            true => None,
            false if self.is_there && now.is_there => Some(format!(
                "it was made where {name} was a terminal of another size"
            )),
            false if self.is_there => Some(format!("it was made where {name} was a terminal")),
            false => Some(format!("it was made where {name} was no terminal")),
        }
    }
}
