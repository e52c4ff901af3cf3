//! The parts of an archive file, read into memory.

use std::path::Path;

use archive_format::{Header, Rejection, SectionKind, Tables};
use zerocopy::IntoBytes;

use crate::reader::{self, OpenError};

pub struct StoredArchive {
    pub header: Header,
    pub file_bytes: u64,
    sections: Vec<Contents>,
}

/// The bytes of a section, aligned as its tables require.
struct Contents {
    words: Vec<u64>,
    bytes: usize,
}

impl StoredArchive {
    /// Reads a file. Its header must be valid.
    pub fn open(path: &Path) -> Result<Self, OpenError> {
        let (file, header) = reader::open_untrusted(path)?;
        let mut sections = Vec::new();
        for section in header.sections() {
            let bytes = reader::section_bytes(&file, section)?;
            let mut words = vec![0u64; bytes.len().div_ceil(8)];
            words.as_mut_bytes()[..bytes.len()].copy_from_slice(&bytes);
            sections.push(Contents {
                words,
                bytes: bytes.len(),
            });
        }
        let file_bytes = file
            .metadata()
            .map_err(|error| OpenError::System("stat it", error))?
            .len();
        Ok(Self {
            header,
            file_bytes,
            sections,
        })
    }

    pub fn bytes(&self, kind: SectionKind) -> &[u8] {
        let contents = &self.sections[kind as usize];
        &contents.words.as_bytes()[..contents.bytes]
    }

    pub fn tables(&self) -> Result<Tables<'_>, Rejection> {
        Tables::parse(self.bytes(SectionKind::Tables))
    }

    /// The address that stored pointers use for a memory offset. The offset may come from a damaged table.
    pub fn address(&self, offset: u64) -> u64 {
        self.header.requested_base.wrapping_add(offset)
    }

    /// The memory offset of the target of a stored pointer. None if the target is not in this archive.
    pub fn offset(&self, address: u64) -> Option<u64> {
        let offset = address.checked_sub(self.header.requested_base)?;
        (offset < self.header.mapped_bytes).then_some(offset)
    }
}
