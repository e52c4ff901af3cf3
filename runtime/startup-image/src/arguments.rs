//! The arguments, the environment and the auxiliary vector of the new process, at a place where they stay.

use alloc::vec::Vec;
use core::ffi::CStr;
use core::ptr;

use rustix::mm::{MapFlags, ProtFlags};

use crate::format::Process;
use crate::start::Start;
use crate::{PAGE, address, places};

/// Where they were copied to: start and end of the texts, and the arrays of their addresses.
pub struct Arguments {
    bytes: u64,
    arguments: (u64, u64),
    environment: (u64, u64),
    pub argc: u64,
    pub argv: u64,
    pub envp: u64,
    auxiliary: (u64, u64),
    moved: Vec<[u64; 2]>,
}

/// A `struct prctl_mm_map` (linux/prctl.h).
pub const LAYOUT_WORDS: usize = 13;

impl Arguments {
    /// Copies those of a new process to [`places::STRINGS`]; none if that address is taken.
    pub fn place(start: &Start, process: &Process) -> Option<Self> {
        const WORD: usize = size_of::<u64>();
        let texts = start.arguments.iter().chain(&start.environment);
        let texts: usize = texts.map(|text| text.count_bytes() + 1 + WORD).sum();
        let pointed_to: usize = start
            .auxiliary_contents()
            .map(|(_, bytes)| bytes.len())
            .sum();
        // Three arrays, which are aligned, and end with an element of zeros.
        let arrays = size_of_val(start.auxiliary) + 3 * 4 * WORD;
        let bytes = ((texts + pointed_to + arrays) as u64).next_multiple_of(PAGE);
        // SAFETY: so many bytes were reserved.
        reserve(places::STRINGS, bytes).then(|| unsafe { Self::copy(bytes, start, process) })
    }

    /// Removes the copy.
    pub fn give_back(&self) {
        // SAFETY: `place()` has mapped it, and nobody uses it.
        let _ = unsafe { rustix::mm::munmap(address(places::STRINGS), self.bytes as usize) };
    }

    /// # Safety
    /// So many bytes are reserved at [`places::STRINGS`], and they are as many as the copy takes.
    unsafe fn copy(bytes: u64, start: &Start, process: &Process) -> Self {
        let mut arena = Arena {
            place: places::STRINGS,
        };
        // SAFETY: there is room for all of it.
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
            Self {
                bytes,
                arguments,
                environment,
                argc: start.arguments.len() as u64,
                argv,
                envp,
                auxiliary: (auxiliary, size_of_val(&pairs[..]) as u64),
                moved,
            }
        }
    }

    /// Values of the auxiliary vector that are not those of the old process, and where the frozen process keeps them.
    pub fn moved(&self, process: &Process) -> impl Iterator<Item = (u64, u64)> {
        let kept = process.auxiliary.iter();
        kept.filter_map(|&(kind, place)| {
            let moved = self.moved.iter().find(|moved| moved[0] == kind)?;
            Some((place, moved[1]))
        })
    }

    /// Where the frozen process has its code, heap and arguments, for prctl(2), `PR_SET_MM_MAP`; the last word is a length
    /// and the file descriptor -1.
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

/// Memory of the new process that is filled from the start.
struct Arena {
    place: u64,
}

impl Arena {
    /// Copies bytes there and returns where they are.
    ///
    /// # Safety
    /// So many bytes may be written.
    unsafe fn put(&mut self, bytes: &[u8]) -> u64 {
        let at = self.place;
        // SAFETY: the caller has seen to it that so many bytes may be written.
        unsafe { ptr::copy_nonoverlapping(bytes.as_ptr(), address(at).cast(), bytes.len()) };
        self.place += bytes.len() as u64;
        at
    }

    /// The same for words, which are aligned.
    ///
    /// # Safety
    /// As above, and for 15 bytes more.
    unsafe fn put_words(&mut self, words: &[u64]) -> u64 {
        self.place = self.place.next_multiple_of(16);
        let at = self.place;
        for word in words {
            // SAFETY: the caller has seen to it that they may be written.
            unsafe { self.put(&word.to_ne_bytes()) };
        }
        at
    }

    /// Copies texts one behind the other; returns where each is, and where they begin and end.
    ///
    /// # Safety
    /// As above.
    unsafe fn put_texts(&mut self, texts: &[&CStr]) -> (Vec<u64>, (u64, u64)) {
        let start = self.place;
        // SAFETY: the caller has seen to it that they may be written.
        let places = texts
            .iter()
            .map(|text| unsafe { self.put(text.to_bytes_with_nul()) });
        (places.collect(), (start, self.place))
    }
}

fn reserve(place: u64, bytes: u64) -> bool {
    let flags = MapFlags::PRIVATE | MapFlags::FIXED_NOREPLACE;
    let protection = ProtFlags::READ | ProtFlags::WRITE;
    // SAFETY: takes no address that is in use.
    let mapped =
        unsafe { rustix::mm::mmap_anonymous(address(place), bytes as usize, protection, flags) };
    // A kernel before 4.17 takes the address for a wish.
    mapped.is_ok_and(|mapped| mapped.addr() as u64 == place)
}
