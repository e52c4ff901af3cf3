//! An archive in memory.

use std::path::PathBuf;
use std::ptr::NonNull;

use archive_format::{Header, Tables};

/// A mapped archive. It is never unmapped: objects that refer to it live until the process ends.
pub struct Mapped {
    pub path: PathBuf,
    pub header: Header,
    pub tables: Tables<'static>,
    /// Whether its pointers had to be relocated.
    pub relocated: bool,
    pub base: NonNull<u8>,
}

// SAFETY: the mapping is never unmapped or moved. Its mutable parts are CPython objects, which the GIL protects like
// all other objects.
unsafe impl Send for Mapped {}
// SAFETY: the mapping is never unmapped or moved, and the GIL protects its mutable parts.
unsafe impl Sync for Mapped {}

impl Mapped {
    /// The address at which the archive is mapped.
    pub fn base(&self) -> u64 {
        self.base.as_ptr() as u64
    }

    /// The address that an object of the archive would have if the archive were at its requested base. `None` if the
    /// object is not in the archive.
    pub fn requested_address(&self, address: u64) -> Option<u64> {
        let offset = address.checked_sub(self.base())?;
        (offset < self.header.mapped_bytes).then(|| self.header.requested_base + offset)
    }

    /// The object at a memory offset, and the number of bytes from there to the end of its section. `None` if the
    /// offset is not in a section of objects, which happens in a damaged archive.
    pub fn object(&self, offset: u64) -> Option<(NonNull<u8>, usize)> {
        let object_sections = self
            .header
            .sections()
            .iter()
            .filter(|section| section.kind.has_objects());
        for section in object_sections {
            let start = section.memory_offset;
            if (start..start + section.bytes).contains(&offset) && offset.is_multiple_of(8) {
                // SAFETY: the sections of the header lie inside the mapping.
                let pointer = unsafe { self.base.add(offset as usize) };
                return Some((pointer, (start + section.bytes - offset) as usize));
            }
        }
        None
    }
}
