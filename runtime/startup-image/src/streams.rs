//! The standard streams of a process.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use rustix::fd::{BorrowedFd, RawFd};
use rustix::fs::FileType;
use rustix::termios::tcgetwinsize;
use serde::{Deserialize, Serialize};

const NAMES: [&str; 3] = ["standard input", "standard output", "standard error"];

fn stream(number: u8) -> BorrowedFd<'static> {
    // SAFETY: the descriptor is only used for queries, which return an error if it is closed or not of the expected
    // kind.
    unsafe { BorrowedFd::borrow_raw(RawFd::from(number)) }
}

/// The name of a stream that is closed or is a directory. The interpreter replaces such a stream or refuses to start.
pub fn unusable() -> Option<&'static str> {
    let mut streams = (0..).zip(NAMES);
    let unusable = streams.find(|(number, _)| {
        let status = rustix::fs::fstat(stream(*number));
        !status.is_ok_and(|s| FileType::from_raw_mode(s.st_mode) != FileType::Directory)
    });
    unusable.map(|(_, name)| name)
}

/// The modes of a terminal in the format of the kernel (`struct termios`, asm-generic/termbits.h): four words of flags,
/// then the line discipline and the special characters.
#[derive(Serialize, Deserialize, PartialEq, Eq, Clone, Copy, Debug)]
pub struct Modes {
    flags: [u32; 4],
    characters: [u8; 20],
}

/// The whole `struct termios` in bytes.
type RawModes = [u8; 36];

impl Modes {
    /// The modes of the terminal that a stream leads to; none if it leads to no terminal.
    fn of(number: u8) -> Option<Self> {
        const TCGETS: rustix::ioctl::Opcode = 0x5401;
        // SAFETY: the request only writes a `struct termios`, which has 36 bytes.
        let raw: RawModes = unsafe {
            let request = rustix::ioctl::Getter::<TCGETS, RawModes>::new();
            rustix::ioctl::ioctl(stream(number), request).ok()?
        };
        let (flags, characters) = raw.split_at(16);
        let flags: Vec<u32> = flags
            .chunks_exact(4)
            .filter_map(|word| Some(u32::from_ne_bytes(word.try_into().ok()?)))
            .collect();
        Some(Self {
            flags: flags.try_into().ok()?,
            characters: characters.try_into().ok()?,
        })
    }

    /// The modes in the format of the kernel.
    pub fn raw(&self) -> Vec<u8> {
        let flags = self.flags.iter().flat_map(|word| word.to_ne_bytes());
        flags.chain(self.characters).collect()
    }
}

/// Rows and columns.
type Size = (u16, u16);

fn size(number: u8) -> Option<Size> {
    let size = tcgetwinsize(stream(number)).ok()?;
    Some((size.ws_row, size.ws_col))
}

/// The terminal that a process was started in.
#[derive(Serialize, Deserialize, PartialEq, Eq, Clone, Debug)]
pub struct OwnTerminal {
    /// Which of the standard streams lead to it.
    pub streams: [bool; 3],
    pub modes: Modes,
    pub size: Size,
}

impl OwnTerminal {
    /// The terminal of this process; none if no standard stream leads to a terminal.
    pub fn of_process() -> Option<Self> {
        let modes = [0, 1, 2].map(Modes::of);
        let number = modes.iter().position(Option::is_some)?;
        Some(Self {
            streams: modes.map(|modes| modes.is_some()),
            modes: modes[number]?,
            size: size(number as u8)?,
        })
    }
}

/// What imports have asked about the terminal that a stream may lead to. Many modules decide during the import whether
/// they print in colour.
#[derive(Serialize, Deserialize, PartialEq, Eq, Clone, Copy)]
pub struct Terminal {
    number: u8,
    is_there: bool,
    /// Set if they are compared.
    modes: Option<Modes>,
    /// Set if it is compared.
    size: Option<Size>,
}

impl Terminal {
    /// The current state of one of the standard streams.
    pub fn of(number: u8, with_modes: bool, with_size: bool) -> Self {
        let modes = Modes::of(number);
        Self {
            number,
            is_there: modes.is_some(),
            modes: modes.filter(|_| with_modes),
            size: size(number).filter(|_| with_size),
        }
    }

    /// The name of the stream.
    pub fn stream(&self) -> &'static str {
        NAMES.get(usize::from(self.number)).unwrap_or(&"a stream")
    }

    /// Why the image does not fit this process; none if the terminal is the same.
    pub fn mismatch(&self) -> Option<String> {
        let now = Self::of(self.number, self.modes.is_some(), self.size.is_some());
        if *self == now {
            return None;
        }
        let name = self.stream();
        Some(match (self.is_there, now.is_there) {
            (true, true) if self.size == now.size => {
                format!("it was made where {name} was a terminal with other modes (stty)")
            }
            (true, true) => format!("it was made where {name} was a terminal of another size"),
            (true, false) => format!("it was made where {name} was a terminal"),
            (false, _) => format!("it was made where {name} was not a terminal"),
        })
    }
}
