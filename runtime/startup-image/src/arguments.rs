//! The arguments, the environment and the auxiliary vector of the new process, copied to where the frozen process keeps
//! them.

use alloc::vec::Vec;
use core::ffi::CStr;
use core::ptr;

use rustix::mm::{MapFlags, ProtFlags};

use crate::format::Process;
use crate::start::Start;
use crate::{PAGE, address, places};

/// Addresses of the copies: start and end of the texts, and the arrays of the addresses of the texts.
pub struct Arguments {
    bytes: u64,
    arguments: (u64, u64),
    environment: (u64, u64),
    pub argc: u64,
    pub argv: u64,
    pub envp: u64,
    auxiliary: (u64, u64),
    moved: Vec<[u64; 2]>,
    /// Addresses and lengths in bytes.
    pub image: (u64, u64),
    pub entry: (u64, u64),
    pub refusal: (u64, u64),
    pub lasting: u64,
}

/// What the restored process learns about the restore.
pub struct HandedOver<'a> {
    /// The path of the image.
    pub image: &'a [u8],
    /// The path of the program's entry in the cache; empty if it has none.
    pub entry: &'a [u8],
    /// Why images that were tried before were not restored, and a bit for each that another one should replace.
    pub refusal: &'a str,
    pub lasting: u8,
}

/// A `struct prctl_mm_map` (linux/prctl.h).
pub const LAYOUT_WORDS: usize = 13;

impl Arguments {
    /// Copies the arguments, environment and auxiliary vector, and what is handed over, to [`places::STRINGS`]; none if
    /// that address is in use.
    pub fn place(start: &Start, handed_over: &HandedOver, process: &Process) -> Option<Self> {
        const WORD: usize = size_of::<u64>();
        let texts = start.arguments.iter().chain(&start.environment);
        let texts: usize = texts.map(|text| text.count_bytes() + 1 + WORD).sum();
        let pointed_to: usize = start
            .auxiliary_contents()
            .map(|(_, bytes)| bytes.len())
            .sum();
        // There are three arrays. Each is aligned and ends with an element of zeros.
        let arrays = size_of_val(start.auxiliary) + 3 * 4 * WORD;
        let told = handed_over.image.len() + handed_over.entry.len();
        let told = told + handed_over.refusal.len();
        let bytes = texts + pointed_to + arrays + told;
        let bytes = (bytes as u64).next_multiple_of(PAGE);
        // SAFETY: `reserve()` has mapped as many bytes as the copy takes.
        reserve(places::STRINGS, bytes)
            .then(|| unsafe { Self::copy(bytes, start, handed_over, process) })
    }

    /// Removes the copy.
    pub fn give_back(&self) {
        // SAFETY: `place()` has mapped the copy, and nothing refers to it yet.
        let _ = unsafe { rustix::mm::munmap(address(places::STRINGS), self.bytes as usize) };
    }

    /// # Safety
    /// `bytes` bytes are mapped at [`places::STRINGS`], and the copy takes no more.
    unsafe fn copy(bytes: u64, start: &Start, handed_over: &HandedOver, process: &Process) -> Self {
        let mut arena = Arena {
            place: places::STRINGS,
        };
        // SAFETY: the caller has mapped as many bytes as the copy takes.
        unsafe {
            let (mut argv, arguments) = arena.put_texts(&start.arguments);
            let (mut envp, environment) = arena.put_texts(&start.environment);
            argv.push(0);
            envp.push(0);
            let contents = start.auxiliary_contents();
            let moved: Vec<[u64; 2]> = contents
                .map(|(kind, bytes)| [kind, arena.put(bytes)])
                .chain([[libc::AT_SYSINFO_EHDR, process.vdso.address]])
                .collect();
            let argv = arena.put_words(&argv);
            let envp = arena.put_words(&envp);
            let mut pairs = start.auxiliary.as_flattened().to_vec();
            for pair in pairs.chunks_exact_mut(2) {
                if let Some(moved) = moved.iter().find(|moved| moved[0] == pair[0]) {
                    pair[1] = moved[1];
                }
            }
            pairs.extend([0, 0]);
            let auxiliary = arena.put_words(&pairs);
            let mut put = |bytes: &[u8]| (arena.put(bytes), bytes.len() as u64);
            let (image, entry) = (put(handed_over.image), put(handed_over.entry));
            let refusal = put(handed_over.refusal.as_bytes());
            Self {
                bytes,
                arguments,
                environment,
                argc: start.arguments.len() as u64,
                argv,
                envp,
                auxiliary: (auxiliary, size_of_val(&pairs[..]) as u64),
                moved,
                image,
                entry,
                refusal,
                lasting: handed_over.lasting.into(),
            }
        }
    }

    /// Values of the auxiliary vector that the copy changes, each with the address where the frozen process keeps it.
    pub fn moved(&self, process: &Process) -> impl Iterator<Item = (u64, u64)> {
        let kept = process.auxiliary.iter();
        kept.filter_map(|&(kind, place)| {
            let moved = self.moved.iter().find(|moved| moved[0] == kind)?;
            Some((place, moved[1]))
        })
    }

    /// Addresses of the code, heap and arguments of the frozen process, for prctl(2), `PR_SET_MM_MAP`. The last word is
    /// a length and the file descriptor -1.
    pub fn layout(&self, process: &Process) -> [u64; LAYOUT_WORDS] {
        [
            process.code.0,
            process.code.1,
            process.data.0,
            process.data.1,
            process.heap.0,
            process.heap.1,
            process.start_stack,
            self.arguments.0,
            self.arguments.1,
            self.environment.0,
            self.environment.1,
            self.auxiliary.0,
            self.auxiliary.1 | u64::from(u32::MAX) << 32,
        ]
    }
}

/// Memory that is filled from its start.
struct Arena {
    place: u64,
}

impl Arena {
    /// Appends bytes and returns their address.
    ///
    /// # Safety
    /// The memory at `place` has room for the bytes.
    unsafe fn put(&mut self, bytes: &[u8]) -> u64 {
        let at = self.place;
        // SAFETY: the caller guarantees room for the bytes.
        unsafe { ptr::copy_nonoverlapping(bytes.as_ptr(), address(at).cast(), bytes.len()) };
        self.place += bytes.len() as u64;
        at
    }

    /// The same for words, which are aligned.
    ///
    /// # Safety
    /// The memory at `place` has room for the words and 15 bytes more.
    unsafe fn put_words(&mut self, words: &[u64]) -> u64 {
        self.place = self.place.next_multiple_of(16);
        let at = self.place;
        for word in words {
            // SAFETY: the caller guarantees room for all words.
            unsafe { self.put(&word.to_ne_bytes()) };
        }
        at
    }

    /// Appends texts. Returns the address of each, and the start and end of all.
    ///
    /// # Safety
    /// The memory at `place` has room for the texts.
    unsafe fn put_texts(&mut self, texts: &[&CStr]) -> (Vec<u64>, (u64, u64)) {
        let start = self.place;
        // SAFETY: the caller guarantees room for all texts.
        let places = texts
            .iter()
            .map(|text| unsafe { self.put(text.to_bytes_with_nul()) });
        (places.collect(), (start, self.place))
    }
}

fn reserve(place: u64, bytes: u64) -> bool {
    let flags = MapFlags::PRIVATE | MapFlags::FIXED_NOREPLACE;
    let protection = ProtFlags::READ | ProtFlags::WRITE;
    // SAFETY: `MAP_FIXED_NOREPLACE` replaces no memory that is in use.
    let mapped =
        unsafe { rustix::mm::mmap_anonymous(address(place), bytes as usize, protection, flags) };
    // A kernel before 4.17 treats the address as a hint.
    mapped.is_ok_and(|mapped| mapped.addr() as u64 == place)
}
