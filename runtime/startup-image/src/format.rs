//! The description in an image: the key, the frozen process, and the sources of its memory.

use alloc::boxed::Box;
use alloc::vec::Vec;
use core::ptr;

use rustix::fs::Stat;
use serde::{Deserialize, Serialize};

use crate::key::Key;
use crate::times::modified_ns;

const WORD: usize = size_of::<u64>();

/// Everything about a frozen process except the contents of its pages.
#[derive(Serialize, Deserialize)]
pub struct Image<'a> {
    #[serde(borrow)]
    pub key: Key<'a>,
    #[serde(borrow)]
    pub process: Process<'a>,
    /// In the order of their addresses.
    pub regions: Vec<Region>,
    #[serde(borrow)]
    pub files: Vec<BackingFile<'a>>,
    /// Bytes that are read into anonymous regions, in the order of their addresses.
    pub fills: Vec<Fill>,
    /// Advice that the process gave about its memory, in the order of the addresses.
    pub advice: Vec<Advice>,
    /// Pages that the dry run has written to.
    pub prefault: Vec<PrefaultRange>,
    /// Possible differences from a plain start: modules, and what they looked at.
    #[serde(borrow)]
    pub reported: Vec<&'a str>,
    /// How many images in a row before this one were out of date soon ([`crate::patience`]).
    pub short_lived: u32,
    /// The hash of all pages in the image file.
    pub pages_hash: u64,
}

/// A part of the address space.
#[derive(Serialize, Deserialize, PartialEq, Eq, Clone, Copy)]
pub struct Region {
    pub address: u64,
    pub bytes: u64,
    pub source: Source,
    /// `PROT_READ` and so on (mmap(2)).
    pub protection: u32,
    /// `MAP_NORESERVE`, `MAP_GROWSDOWN`, `MAP_SHARED` and [`MAP_DROPPABLE`] (mmap(2)); without one of the last two, the
    /// mapping is private.
    pub flags: u32,
}

/// Anonymous memory that the kernel may set to zero at any time, and does so at a fork (Linux 6.11,
/// include/uapi/linux/mman.h). The C library keeps the state of getrandom(3) there (glibc 2.41).
pub const MAP_DROPPABLE: u32 = 0x08;

impl Region {
    pub fn end(&self) -> u64 {
        self.address + self.bytes
    }
}

/// Where the pages of a region come from.
#[derive(Serialize, Deserialize, PartialEq, Eq, Clone, Copy)]
pub enum Source {
    /// Anonymous memory: zeros, and the bytes that [`Image::fills`] puts there.
    Zero,
    /// Offset in the image file.
    Image(u64),
    /// Index of a file in [`Image::files`] that the process had mapped there, and offset in this file.
    File(u32, u64),
}

/// Bytes of the image file that are read into anonymous memory.
///
/// A private mapping of the image file would behave differently: mremap(2) would let it grow into the next pages of the
/// file, and madvise(2) with `MADV_DONTNEED` would restore the old bytes instead of zeros.
#[derive(Serialize, Deserialize, PartialEq, Eq, Clone, Copy)]
pub struct Fill {
    pub address: u64,
    pub bytes: u64,
    /// Offset in the image file.
    pub offset: u64,
}

impl Fill {
    pub fn end(&self) -> u64 {
        self.address + self.bytes
    }
}

/// Advice about memory (madvise(2)).
#[derive(Serialize, Deserialize, PartialEq, Eq, Clone, Copy)]
pub struct Advice {
    pub address: u64,
    pub bytes: u64,
    /// `MADV_HUGEPAGE` and so on.
    pub advice: u32,
}

/// Pages that are populated for writing before the frozen process continues.
#[derive(Serialize, Deserialize, PartialEq, Eq, Clone, Copy)]
pub struct PrefaultRange {
    /// Address of the first page, and end of the last one.
    pub start: u64,
    pub end: u64,
}

/// A file that the process had mapped.
#[derive(Serialize, Deserialize, PartialEq, Eq)]
pub struct BackingFile<'a> {
    pub path: &'a [u8],
    pub identity: FileIdentity,
}

/// Tells whether a file is the same.
#[derive(Serialize, Deserialize, PartialEq, Eq, Clone, Copy, Debug)]
pub struct FileIdentity {
    pub device: u64,
    pub inode: u64,
    pub size: u64,
    pub mtime_ns: i64,
}

impl FileIdentity {
    pub fn of(status: &Stat) -> Self {
        Self {
            device: status.st_dev,
            inode: status.st_ino,
            size: status.st_size as u64,
            mtime_ns: modified_ns(status),
        }
    }
}

/// The state that the kernel keeps for the frozen process, except its memory, and the addresses of variables that
/// restoring reads or writes.
#[derive(Serialize, Deserialize)]
pub struct Process<'a> {
    /// Thread pointer (arch_prctl(2)).
    pub fs_base: u64,
    /// Where the kernel and the C library keep the thread's id (set_tid_address(2)).
    pub tid_address: u64,
    /// get_robust_list(2)
    pub robust_list: (u64, u64),
    /// Address of the area of restartable sequences, if the C library registered one.
    pub rseq: Option<u64>,
    /// Start and end of code, data and heap, and the bottom of the stack (proc(5), /proc/pid/stat).
    pub code: (u64, u64),
    pub data: (u64, u64),
    pub heap: (u64, u64),
    pub start_stack: u64,
    /// Values of the auxiliary vector that the C library keeps (getauxval(3)): their kinds and addresses.
    pub auxiliary: Vec<(u64, u64)>,
    #[serde(borrow)]
    pub vdso: Vdso<'a>,
    /// The alternate signal stack (the kernel's `stack_t`, sigaltstack(2)), if there is one. It is in a box because the
    /// kernel reads it when the stack of the new process no longer exists.
    pub alternate_stack: Option<Box<[u64; 3]>>,
    /// Signals without the default action, with the kernel's `struct sigaction`.
    pub signals: Vec<(u64, [u64; 4])>,
    /// Addresses of the saved registers (`trampoline::Context`) and of a [`Restored`].
    pub context: u64,
    pub restored: u64,
}

/// What the launcher tells a restored process about its start.
#[repr(C)]
pub struct Restored {
    pub argc: u64,
    /// Addresses of arrays of texts. Each array ends with a NULL.
    pub argv: u64,
    pub envp: u64,
    /// One bit for each signal. Bit 0 is signal 1.
    pub ignored_signals: u64,
    /// Address and length of the path of the image.
    pub image: u64,
    pub image_bytes: u64,
    /// Address and length of the path of the program's entry in the cache.
    pub entry: u64,
    pub entry_bytes: u64,
    /// Address and length of the reason why no image of the program was restored.
    pub refusal: u64,
    pub refusal_bytes: u64,
    /// [`Refusals::lasting`](crate::restore::Refusals::lasting)
    pub lasting: u64,
}

/// The code that the kernel maps into each process (vdso(7)).
#[derive(Serialize, Deserialize)]
pub struct Vdso<'a> {
    pub address: u64,
    pub bytes: &'a [u8],
    /// The mappings of the code and its data: distance from `address`, and length.
    pub parts: Vec<(i64, u64)>,
}

impl Vdso<'_> {
    /// Whether the vdso at an address has the same code.
    ///
    /// # Safety
    /// The address is that of the vdso of this process (AT_SYSINFO_EHDR, getauxval(3)), or zero if there is none.
    pub unsafe fn is_at(&self, address: u64) -> bool {
        let here: *const [u8; WORD] = ptr::with_exposed_provenance(address as usize);
        let mut words = self.bytes.chunks_exact(WORD).enumerate();
        // SAFETY: the caller passes the address of a vdso. Reading stops at the first word that differs, and a vdso
        // that has been equal so far has the next word, too.
        address != 0 && words.all(|(index, word)| unsafe { here.add(index).read() } == word)
    }
}
