//! The file of an image: a header, pages, and a description.

use alloc::borrow::ToOwned;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec;
use alloc::vec::Vec;

use xxhash_rust::xxh3::{Xxh3, xxh3_64};

use crate::format::Image;
use crate::own_file::{self, OwnFile};
use crate::{PAGE, bounds};

/// The first bytes of the file. No text file begins with them.
pub const MAGIC: [u8; 8] = *b"\x89CPYIMG\n";
const VERSION: u64 = 10;
/// Magic, version, offset, length and hash of the description.
const HEADER_BYTES: usize = 40;
const MOST_DESCRIPTION: u64 = 16 << 20;

const DAMAGED: &str = "it is damaged";

/// The hash function for images.
pub fn hash(bytes: &[u8]) -> u64 {
    xxh3_64(bytes)
}

/// The parts of an image file except the pages.
pub struct Encoded {
    /// The bytes behind the pages.
    pub description: Vec<u8>,
    /// The first bytes of the file.
    pub header: Vec<u8>,
    /// The nanosecond part of the modification time that the writer gives the file. If a file still has it, its pages
    /// are not verified when it is used.
    pub seal_ns: u32,
}

/// Encodes an image whose pages end at the offset `end_of_pages`.
///
/// # Errors
/// A text that says why the image cannot be encoded.
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

/// An open image file.
pub struct ImageFile {
    pub own: OwnFile,
    description: Vec<u8>,
    end_of_pages: u64,
    /// Whether the modification time shows no change since the file was written ([`Encoded::seal_ns`]). A time without
    /// a fraction of a second tells nothing and is accepted, as it is for archives.
    is_sealed: bool,
}

impl ImageFile {
    /// Opens a file and reads its description; none if there is no such file.
    ///
    /// # Errors
    /// A text that says why the file is no image, or not a file of this user.
    pub fn open(path: &[u8]) -> Result<Option<Self>, String> {
        OwnFile::open(path)?.map(Self::of).transpose()
    }

    /// Reads the description of a file.
    ///
    /// # Errors
    /// A text that says why the file is no image.
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
            own,
            description,
            end_of_pages,
        })
    }

    /// Checks and decodes the description.
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
            own_file::read(&self.own.file, offset, chunk)?;
            hash.update(chunk);
            offset += bytes;
        }
        Ok(hash.digest())
    }
}
