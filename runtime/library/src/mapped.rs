//! An archive in memory.

use std::path::PathBuf;
use std::ptr::NonNull;

use archive_format::{Header, Tables};

/// It is never unmapped: objects that refer to it live until the process ends.
pub struct Mapped {
    pub path: PathBuf,
    pub header: Header,
    pub tables: Tables<'static>,
    /// Whether it lies elsewhere than it asked for, so that pointers had to be changed.
    pub relocated: bool,
    pub base: NonNull<u8>,
}

// SAFETY: the mapping is never unmapped or moved; what is mutable in it are CPython objects, which the GIL
// guards as it guards all others.
unsafe impl Send for Mapped {}
// SAFETY: as above.
unsafe impl Sync for Mapped {}

impl Mapped {
    /// Address that the archive lies at.
    pub fn base(&self) -> u64 {
        self.base.as_ptr() as u64
    }

    /// The address that an object of the archive has where the archive lies at its requested base; `None` if
    /// it is not an object of the archive.
    pub fn requested_address(&self, address: u64) -> Option<u64> {
        let offset = address.checked_sub(self.base())?;
        (offset < self.header.mapped_bytes).then(|| self.header.requested_base + offset)
    }

    /// The object at a memory offset, and the number of bytes from there to the end of its section. `None`
    /// if the offset is not in a section of objects, as in a damaged archive.
    pub fn object(&self, offset: u64) -> Option<(NonNull<u8>, usize)> {
        let object_sections = self
            .header
            .sections()
            .iter()
            .filter(|section| section.kind.has_objects());
        for section in object_sections {
            let start = section.memory_offset;
            if (start..start + section.bytes).contains(&offset) && offset.is_multiple_of(8) {
                // SAFETY: the header's sections lie inside the mapping.
                let pointer = unsafe { self.base.add(offset as usize) };
                return Some((pointer, (start + section.bytes - offset) as usize));
            }
        }
        None
    }
}
