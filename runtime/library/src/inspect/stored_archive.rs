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

/// A section, aligned as its tables must be.
struct Contents {
    words: Vec<u64>,
    bytes: usize,
}

impl StoredArchive {
    /// Reads a file whose header is good.
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

    /// The address that stored pointers have for a memory offset, which may be one that a damaged table names.
    pub fn address(&self, offset: u64) -> u64 {
        self.header.requested_base.wrapping_add(offset)
    }

    /// Memory offset of what a stored pointer points to; none if that is not in this archive.
    pub fn offset(&self, address: u64) -> Option<u64> {
        let offset = address.checked_sub(self.header.requested_base)?;
        (offset < self.header.mapped_bytes).then_some(offset)
    }
}
