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

/// The modes of a terminal, as the kernel has them (`struct termios`, asm-generic/termbits.h): the four words of flags;
/// and the line discipline with the special characters.
#[derive(Serialize, Deserialize, PartialEq, Eq, Clone, Copy, Debug)]
pub struct Modes {
    flags: [u32; 4],
    characters: [u8; 20],
}

/// All of it, in bytes.
type RawModes = [u8; 36];

impl Modes {
    /// Those of the terminal that a stream leads to, if it does.
    fn of(number: u8) -> Option<Self> {
        const TCGETS: rustix::ioctl::Opcode = 0x5401;
        // SAFETY: the request only writes so many bytes.
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

    /// As the kernel takes them.
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

/// The terminal that a process was started at.
#[derive(Serialize, Deserialize, PartialEq, Eq, Clone, Debug)]
pub struct OwnTerminal {
    /// Which of the standard streams lead to it.
    pub streams: [bool; 3],
    pub modes: Modes,
    pub size: Size,
}

impl OwnTerminal {
    /// That of this process, if one of its streams leads to one.
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

/// What imports have learnt of the terminal that a stream may lead to: many decide once and for all whether they print
/// in colour.
#[derive(Serialize, Deserialize, PartialEq, Eq, Clone, Copy)]
pub struct Terminal {
    number: u8,
    is_there: bool,
    /// If they count.
    modes: Option<Modes>,
    /// If that counts.
    size: Option<Size>,
}

impl Terminal {
    /// That of one of the streams now.
    pub fn of(number: u8, with_modes: bool, with_size: bool) -> Self {
        let modes = Modes::of(number);
        Self {
            number,
            is_there: modes.is_some(),
            modes: modes.filter(|_| with_modes),
            size: size(number).filter(|_| with_size),
        }
    }

    /// What the stream is called.
    pub fn stream(&self) -> &'static str {
        NAMES.get(usize::from(self.number)).unwrap_or(&"a stream")
    }

    /// Why an image whose imports have learnt this does not fit a process; none if it does.
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
            (false, _) => format!("it was made where {name} was no terminal"),
        })
    }
}
