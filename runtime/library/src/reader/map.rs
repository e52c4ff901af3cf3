//! Maps an archive: one reservation at the address that the archive requests, and in it one private mapping for each
//! piece of a section.
//!
//! A page costs memory in a process only when the process writes to it. The pages between sections stay reserved and
//! inaccessible.

use std::ffi::c_void;
use std::fs::File;
use std::ptr::NonNull;

use archive_format::{Header, SectionKind};
use rustix::mm::{MapFlags, MprotectFlags, ProtFlags};
use rustix::process::{Resource, getrlimit};

use super::OpenError;

/// An address range that is unmapped unless it is kept.
pub struct Mapping {
    base: NonNull<u8>,
    bytes: usize,
}

impl Mapping {
    /// The pointer to a memory offset.
    pub fn at(&self, offset: u64) -> *mut u8 {
        debug_assert!(offset as usize <= self.bytes);
        // SAFETY: callers pass offsets from the header, which lie inside the mapping.
        unsafe { self.base.as_ptr().add(offset as usize) }
    }

    pub fn base(&self) -> u64 {
        self.base.as_ptr() as u64
    }

    /// Keeps the mapping until the process ends.
    pub fn keep(self) -> NonNull<u8> {
        let base = self.base;
        std::mem::forget(self);
        base
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: nothing refers to a mapping that was not kept.
        unsafe { unmap(self.base.as_ptr(), self.bytes) };
    }
}

/// Unmaps a mapping.
///
/// # Safety
/// `base` and `bytes` are a mapping of this module, and nothing refers to it.
pub unsafe fn unmap(base: *mut u8, bytes: usize) {
    // The call can fail only if this is not a mapping. SAFETY: the caller passes a mapping to which nothing refers.
    let _ = unsafe { rustix::mm::munmap(base.cast(), bytes) };
}

/// If the address space is limited, an archive may take at most the limit divided by this number: a program must not
/// fail because an archive leaves too little.
const SHARE_OF_LIMIT: u64 = 8;

/// Rejects an archive that would take too much of a limited address space. Writable private mappings also count as data
/// (setrlimit(2)).
fn check_limits(header: &Header) -> Result<(), OpenError> {
    let limits = [Resource::As, Resource::Data].map(|resource| getrlimit(resource).current);
    match limits.into_iter().flatten().min() {
        Some(limit) if header.mapped_bytes > limit / SHARE_OF_LIMIT => {
            Err(OpenError::Limited { limit })
        }
        _ => Ok(()),
    }
}

/// Maps all sections of a checked header.
pub fn map(file: &File, header: &Header) -> Result<Mapping, OpenError> {
    check_limits(header)?;
    let mapping = reserve(header.requested_base, header.mapped_bytes as usize)?;
    for section in header.sections() {
        if !section.kind.is_mapped() {
            continue;
        }
        let protection = if section.kind.has_objects() {
            ProtFlags::READ | ProtFlags::WRITE
        } else {
            ProtFlags::READ
        };
        for extent in section.extents() {
            // SAFETY: the call replaces a part of our own reservation, since the header's sections lie inside it.
            unsafe {
                rustix::mm::mmap(
                    mapping.at(extent.memory_offset).cast(),
                    extent.bytes as usize,
                    protection,
                    MapFlags::PRIVATE | MapFlags::FIXED,
                    file,
                    extent.file_offset,
                )
            }
            .map_err(|e| OpenError::System("map it", e.into()))?;
        }
    }
    Ok(mapping)
}

/// Makes the section that CPython never writes to read-only, so that any write to it is noticed at once.
///
/// Only strict mode does this: an extension module for the stable ABI that was compiled with the headers of Python 3.11
/// or older writes the reference count of every object that it uses, immortal or not, and would crash.
pub fn seal(mapping: &Mapping, header: &Header) -> Result<(), OpenError> {
    let section = header.section(SectionKind::Constants);
    let start = mapping.at(section.memory_offset).cast();
    // SAFETY: this is a part of our own mapping, to which no Rust reference exists.
    unsafe { rustix::mm::mprotect(start, section.bytes as usize, MprotectFlags::READ) }
        .map_err(|e| OpenError::System("protect it", e.into()))
}

fn reserve(base: u64, bytes: usize) -> Result<Mapping, OpenError> {
    let flags = MapFlags::PRIVATE | MapFlags::NORESERVE;
    let wanted = base as usize as *mut c_void;
    // SAFETY: with FIXED_NOREPLACE, the kernel takes no address that is in use. Kernels before 4.17 treat the address
    // as a hint.
    let taken = unsafe {
        rustix::mm::mmap_anonymous(
            wanted,
            bytes,
            ProtFlags::empty(),
            flags | MapFlags::FIXED_NOREPLACE,
        )
    };
    let address = match taken {
        Ok(address) => Ok(address),
        // SAFETY: the kernel chooses a free address range.
        Err(_) => unsafe {
            rustix::mm::mmap_anonymous(std::ptr::null_mut(), bytes, ProtFlags::empty(), flags)
        },
    };
    let address =
        address.map_err(|e| OpenError::System("reserve address space for it", e.into()))?;
    let base = NonNull::new(address.cast()).ok_or_else(|| {
        OpenError::System(
            "reserve address space for it",
            std::io::ErrorKind::AddrNotAvailable.into(),
        )
    })?;
    Ok(Mapping { base, bytes })
}
