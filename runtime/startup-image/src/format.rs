//! The file: a page of header, the pages of the frozen process, and the description of both.

use alloc::borrow::ToOwned;
use alloc::boxed::Box;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec;
use alloc::vec::Vec;
use core::ptr;

use rustix::fd::OwnedFd;
use rustix::fs::Stat;
use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::{Xxh3, xxh3_64};

use crate::key::Key;
use crate::own_file::{self, OwnFile};
use crate::{PAGE, bounds};

/// The first bytes; no text file has them.
const MAGIC: [u8; 8] = *b"\x89CPYIMG\n";
const VERSION: u64 = 8;
/// Magic, version, offset, length and hash of the description.
const HEADER_BYTES: usize = 40;
const WORD: usize = size_of::<u64>();
const MOST_DESCRIPTION: u64 = 16 << 20;

const DAMAGED: &str = "it is damaged";

/// What is told of a frozen process besides its pages.
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
    /// What is read into regions of zeros, in the order of their addresses.
    pub fills: Vec<Fill>,
    /// Advice that the process had given about its memory, in the order of the addresses.
    pub advice: Vec<Advice>,
    /// Pages that each process writes to.
    pub prefault: Vec<PrefaultRange>,
    /// What processes may find that differs from what a plain start finds: modules, and what they looked at.
    #[serde(borrow)]
    pub reported: Vec<&'a str>,
    /// How many images before it, one after the other, were out of date soon.
    pub short_lived: u32,
    /// Of all pages in the image file.
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
    /// `MAP_NORESERVE`, `MAP_GROWSDOWN` and `MAP_SHARED` (mmap(2)); without the last one, the mapping is private.
    pub flags: u32,
}

impl Region {
    pub fn end(&self) -> u64 {
        self.address + self.bytes
    }
}

/// Where the pages of a region come from.
#[derive(Serialize, Deserialize, PartialEq, Eq, Clone, Copy)]
pub enum Source {
    /// Anonymous memory: zeros, and what [`Image::fills`] puts there.
    Zero,
    /// Offset in the image file.
    Image(u64),
    /// Index and offset of a file that the process had mapped there.
    File(u32, u64),
}

/// Bytes of the image file that are read into anonymous memory.
///
/// A private mapping of the file in their place would behave in another way: mremap(2) would let it grow into the pages
/// of the file that follow, and madvise(2) with `MADV_DONTNEED` would bring the old bytes back instead of zeros.
#[derive(Serialize, Deserialize, PartialEq, Eq, Clone, Copy)]
pub struct Fill {
    pub address: u64,
    pub bytes: u64,
    /// In the image file.
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

/// Pages that are written to.
#[derive(Serialize, Deserialize, PartialEq, Eq, Clone, Copy)]
pub struct PrefaultRange {
    /// Address of the first, and behind the last.
    pub start: u64,
    pub end: u64,
}

/// A file that the process had mapped.
#[derive(Serialize, Deserialize, PartialEq, Eq)]
pub struct BackingFile<'a> {
    pub path: &'a [u8],
    pub identity: FileIdentity,
}

/// What tells that a file is the same.
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

/// When a file was modified, in nanoseconds since 1970.
pub fn modified_ns(status: &Stat) -> i64 {
    status.st_mtime.saturating_mul(1_000_000_000) + status.st_mtime_nsec as i64
}

/// When its status was changed, in nanoseconds since 1970.
pub fn changed_ns(status: &Stat) -> i64 {
    status.st_ctime.saturating_mul(1_000_000_000) + status.st_ctime_nsec as i64
}

/// What the kernel knows of a process besides its memory, and what the process keeps for those that replace it.
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
    /// Kinds and places of values that the C library keeps of the auxiliary vector (getauxval(3)).
    pub auxiliary: Vec<(u64, u64)>,
    #[serde(borrow)]
    pub vdso: Vdso<'a>,
    /// What handlers run on that want a stack of their own (the kernel's `stack_t`, sigaltstack(2)), if there is one.
    /// On the heap, where the kernel finds it when the stack of the old process is no more.
    pub alternate_stack: Option<Box<[u64; 3]>>,
    /// Signals that are not handled as by default, with the kernel's `struct sigaction`.
    pub signals: Vec<(u64, [u64; 4])>,
    /// Addresses of its registers (`trampoline::Context`), and of a [`Restored`].
    pub context: u64,
    pub restored: u64,
}

/// What a restored process is told of its start.
#[repr(C)]
pub struct Restored {
    pub argc: u64,
    /// Addresses of arrays of texts, which end with a NULL.
    pub argv: u64,
    pub envp: u64,
    /// A bit for each, from 1 on.
    pub ignored_signals: u64,
}

/// The kernel's own code in the process.
#[derive(Serialize, Deserialize)]
pub struct Vdso<'a> {
    pub address: u64,
    pub bytes: &'a [u8],
    /// It and its data: distance from `address`, and length.
    pub parts: Vec<(i64, u64)>,
}

impl Vdso<'_> {
    /// Whether the kernel's code at an address is the same.
    ///
    /// # Safety
    /// The address is that of the vdso of this process (AT_SYSINFO_EHDR, getauxval(3)), or zero if there is none.
    pub unsafe fn is_at(&self, address: u64) -> bool {
        let here: *const [u8; WORD] = ptr::with_exposed_provenance(address as usize);
        let mut words = self.bytes.chunks_exact(WORD).enumerate();
        // SAFETY: nothing is read behind a word that differs, and what is equal to the end has as many words.
        address != 0 && words.all(|(index, word)| unsafe { here.add(index).read() } == word)
    }
}

/// The hash that images are verified by.
pub fn hash(bytes: &[u8]) -> u64 {
    xxh3_64(bytes)
}

/// A description, ready to be written.
pub struct Encoded {
    /// What follows the pages.
    pub description: Vec<u8>,
    /// What the file begins with.
    pub header: Vec<u8>,
    /// The nanoseconds of the modification time of a file that nobody has changed: only then its pages are believed
    /// without being verified.
    pub seal_ns: u32,
}

/// Describes an image whose pages end at an offset of the file.
///
/// # Errors
/// A text that says why that is not possible.
pub fn encode(image: &Image, end_of_pages: u64) -> Result<Encoded, String> {
    let description = postcard::to_allocvec(image).map_err(|error| error.to_string())?;
    let hash = hash(&description);
    let words = [VERSION, end_of_pages, description.len() as u64, hash];
    let mut header = MAGIC.to_vec();
    header.extend(words.into_iter().flat_map(u64::to_le_bytes));
    Ok(Encoded {
        description,
        header,
        seal_ns: seal_ns(hash),
    })
}

fn seal_ns(hash: u64) -> u32 {
    (hash % 999_999_999 + 1) as u32
}

/// An image file that is open, and what was read of it.
pub struct ImageFile {
    pub file: OwnedFd,
    description: Vec<u8>,
    end_of_pages: u64,
    /// Whether it is as it was written, as far as its modification time tells. One without a fraction tells nothing, and
    /// is believed, as that of an archive is.
    is_sealed: bool,
}

impl ImageFile {
    /// Opens a file and reads what it says of itself; none if there is no such file.
    ///
    /// # Errors
    /// A text that says why it is no image, or not one of this user.
    pub fn open(path: &[u8]) -> Result<Option<Self>, String> {
        OwnFile::open(path)?.map(Self::of).transpose()
    }

    /// Reads what a file says of itself.
    ///
    /// # Errors
    /// A text that says why it is no image.
    pub fn of(own: OwnFile) -> Result<Self, String> {
        if own.status.st_size < HEADER_BYTES as i64 {
            return Err("it is too short".to_owned());
        }
        let header = own.read(0, HEADER_BYTES as u64)?;
        let (magic, words) = header.split_at(MAGIC.len());
        if magic != MAGIC {
            return Err("it is not a startup image".to_owned());
        }
        let mut words = words.chunks_exact(8).map(|word| {
            let mut bytes = [0; 8];
            bytes.copy_from_slice(word);
            u64::from_le_bytes(bytes)
        });
        let mut word = || words.next().unwrap_or_default();
        let (version, end_of_pages, length, expected) = (word(), word(), word(), word());
        if version != VERSION {
            return Err(format!(
                "image format {version}, this interpreter reads {VERSION}"
            ));
        }
        let is_aligned = end_of_pages.is_multiple_of(PAGE) && end_of_pages >= PAGE;
        if length > MOST_DESCRIPTION || !is_aligned {
            return Err(DAMAGED.to_owned());
        }
        let description = own.read(end_of_pages, length)?;
        if hash(&description) != expected {
            return Err(DAMAGED.to_owned());
        }
        Ok(Self {
            is_sealed: [0, seal_ns(expected)].contains(&(own.status.st_mtime_nsec as u32)),
            file: own.file,
            description,
            end_of_pages,
        })
    }

    /// The description, checked.
    ///
    /// # Errors
    /// A text that says why the file is no image.
    pub fn image(&self) -> Result<Image<'_>, String> {
        let damaged = || DAMAGED.to_owned();
        let image: Image = postcard::from_bytes(&self.description).map_err(|_| damaged())?;
        if !self.is_sealed && self.hash_of_pages()? != image.pages_hash {
            return Err(damaged());
        }
        if !bounds::are_kept(&image, self.end_of_pages) {
            return Err(damaged());
        }
        Ok(image)
    }

    fn hash_of_pages(&self) -> Result<u64, String> {
        const CHUNK: u64 = 64 * PAGE;
        let mut buffer = vec![0; CHUNK as usize];
        let mut hash = Xxh3::new();
        let mut offset = PAGE;
        while offset < self.end_of_pages {
            let bytes = CHUNK.min(self.end_of_pages - offset);
            let chunk = &mut buffer[..bytes as usize];
            own_file::read(&self.file, offset, chunk)?;
            hash.update(chunk);
            offset += bytes;
        }
        Ok(hash.digest())
    }
}
