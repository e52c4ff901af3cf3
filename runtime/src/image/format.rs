//! The file: a page of header, the pages of the frozen process, and the description of both.

use std::fs::File;
use std::io::{self, Error, Seek, SeekFrom, Write};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use cds_format::content_hash;
use serde::{Deserialize, Serialize};

use super::PAGE;
use super::key::Key;

/// The first bytes; no text file has them.
const MAGIC: [u8; 8] = *b"\x89CPYIMG\n";
const VERSION: u64 = 1;
/// Magic, version, offset, length and hash of the description.
const HEADER_BYTES: usize = 40;
const MOST_DESCRIPTION: u64 = 64 << 20;

/// What is told of a frozen process besides its pages.
#[derive(Serialize, Deserialize)]
pub struct Image {
    pub key: Key,
    pub process: Process,
    /// In the order of their addresses.
    pub regions: Vec<Region>,
    pub files: Vec<BackingFile>,
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
}

/// Where the pages of a region come from.
#[derive(Serialize, Deserialize, PartialEq, Eq, Clone, Copy)]
pub enum Source {
    Zero,
    /// Offset in the image file.
    Image(u64),
    /// Index and offset of a file that the process had mapped there.
    File(u32, u64),
}

/// A file that the process had mapped.
#[derive(Serialize, Deserialize, PartialEq, Eq)]
pub struct BackingFile {
    pub path: Vec<u8>,
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

/// What the kernel knows of a process besides its memory.
#[derive(Serialize, Deserialize)]
pub struct Process {
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
    pub vdso: Vdso,
    /// Signals that are not handled as by default, with the kernel's `struct sigaction`.
    pub signals: Vec<(u64, [u64; 4])>,
}

/// The kernel's own code in the process.
#[derive(Serialize, Deserialize)]
pub struct Vdso {
    pub address: u64,
    pub bytes: Vec<u8>,
    /// It and its data: distance from `address`, and length.
    pub parts: Vec<(i64, u64)>,
}

/// Writes pages, and at last the description.
pub struct Writer<'a> {
    file: &'a mut File,
    offset: u64,
}

impl<'a> Writer<'a> {
    pub fn new(file: &'a mut File) -> io::Result<Self> {
        file.seek(SeekFrom::Start(PAGE))?;
        Ok(Self { file, offset: PAGE })
    }

    /// Adds whole pages and returns their offset.
    pub fn add(&mut self, pages: &[u8]) -> io::Result<u64> {
        let offset = self.offset;
        self.file.write_all(pages)?;
        self.offset += pages.len() as u64;
        Ok(offset)
    }

    /// Writes the description, and gives the file the modification time that seals it.
    pub fn finish(self, mut image: Image) -> io::Result<()> {
        image.pages_hash = content_hash(&pages(self.file, self.offset)?);
        let description = postcard::to_stdvec(&image).map_err(Error::other)?;
        self.file.write_all(&description)?;
        let words = [
            VERSION,
            self.offset,
            description.len() as u64,
            content_hash(&description),
        ];
        let mut header = MAGIC.to_vec();
        header.extend(words.into_iter().flat_map(u64::to_le_bytes));
        self.file.write_all_at(&header, 0)?;
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        let second = now.map_or(0, |now| now.as_secs().saturating_sub(1));
        let time = Duration::new(second, seal_ns(content_hash(&description)));
        self.file.set_modified(UNIX_EPOCH + time)?;
        self.file.sync_all()
    }
}

/// The pages of a file whose description begins at an offset.
fn pages(file: &File, offset: u64) -> io::Result<Vec<u8>> {
    let mut pages = vec![0; offset.saturating_sub(PAGE) as usize];
    file.read_exact_at(&mut pages, PAGE)?;
    Ok(pages)
}

/// The fraction of the modification time of a file that nobody has changed, as archives have it: pages are verified only
/// if the time has another.
fn seal_ns(hash: u64) -> u32 {
    (hash % 999_999_999 + 1) as u32
}

/// Reads the description. The error says why the file is no image.
pub fn read(file: &File) -> Result<Image, String> {
    let mut header = [0; HEADER_BYTES];
    file.read_exact_at(&mut header, 0)
        .map_err(|_| "it is too short".to_owned())?;
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
    let (version, offset, length, hash) = (word(), word(), word(), word());
    if version != VERSION {
        return Err(format!(
            "image format {version}, this interpreter reads {VERSION}"
        ));
    }
    if length > MOST_DESCRIPTION {
        return Err("it is damaged".to_owned());
    }
    let mut description = vec![0; length as usize];
    file.read_exact_at(&mut description, offset)
        .map_err(|_| "it is truncated".to_owned())?;
    if content_hash(&description) != hash {
        return Err("it is damaged".to_owned());
    }
    let image: Image =
        postcard::from_bytes(&description).map_err(|_| "it is damaged".to_owned())?;
    let modified = file
        .metadata()
        .map_err(|error| error.to_string())?
        .mtime_nsec();
    if modified != i64::from(seal_ns(hash)) {
        let pages = pages(file, offset).map_err(|_| "it is truncated".to_owned())?;
        if content_hash(&pages) != image.pages_hash {
            return Err("it is damaged".to_owned());
        }
    }
    let mut end = 0;
    for region in &image.regions {
        let whole_pages = [region.address, region.bytes]
            .iter()
            .all(|n| n.is_multiple_of(PAGE));
        if region.address < end || !whole_pages {
            return Err("it is damaged".to_owned());
        }
        end = region.address.saturating_add(region.bytes);
    }
    Ok(image)
}
