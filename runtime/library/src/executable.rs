//! The file that the interpreter is in: where it is loaded, and which build of it that is.

use std::ffi::c_void;
use std::{ptr, slice};

use startup_image::elf;

use crate::cpython::anchor;

/// The executable or shared library that the interpreter's static objects lie in.
pub struct Executable {
    /// Addresses of its loaded segments.
    segments: Vec<(u64, u64)>,
    /// The linker's hash of its contents, in hexadecimal.
    build_id: Option<String>,
}

impl Executable {
    /// Looks the executable up among all loaded ones (`dl_iterate_phdr(3)`).
    pub fn current() -> Option<Self> {
        let mut found = None;
        // SAFETY: the callback gets `found` and does not outlive this call.
        unsafe { libc::dl_iterate_phdr(Some(visit), (&raw mut found).cast()) };
        found
    }

    pub fn build_id(&self) -> Option<&str> {
        self.build_id.as_deref()
    }

    /// Up to `bytes` bytes of it from an address on; none if they are not part of it.
    pub fn copy(&self, address: u64, bytes: usize) -> Option<Vec<u8>> {
        let mut segments = self.segments.iter();
        let &(_, end) = segments.find(|&&(start, end)| (start..end).contains(&address))?;
        let addresses = address..end.min(address.saturating_add(bytes as u64));
        // Byte by byte, since memcpy() of more than one static object is an error to AddressSanitizer.
        // SAFETY: they lie in a loaded segment. The GIL, which the caller holds, guards what changes.
        let byte = |address| unsafe { ptr::read_volatile(address as *const u8) };
        Some(addresses.map(byte).collect())
    }

    /// Whether an object lies in it, which makes its address known at link time.
    pub fn contains(&self, address: u64) -> bool {
        self.segments
            .iter()
            .any(|&(start, end)| (start..end).contains(&address))
    }
}

unsafe extern "C" fn visit(
    info: *mut libc::dl_phdr_info,
    _size: usize,
    found: *mut c_void,
) -> libc::c_int {
    // SAFETY: `dl_iterate_phdr` passes a valid description of a loaded object, and `found` as it was given.
    let (info, found) = unsafe { (&*info, &mut *found.cast::<Option<Executable>>()) };
    // SAFETY: an object has `dlpi_phnum` program headers.
    let headers = unsafe { slice::from_raw_parts(info.dlpi_phdr, usize::from(info.dlpi_phnum)) };
    let segments: Vec<(u64, u64)> = headers
        .iter()
        .filter(|header| header.p_type == libc::PT_LOAD)
        .map(|header| {
            (
                info.dlpi_addr + header.p_vaddr,
                info.dlpi_addr + header.p_vaddr + header.p_memsz,
            )
        })
        .collect();
    let executable = Executable {
        segments,
        build_id: None,
    };
    if !executable.contains(anchor()) {
        return 0;
    }
    let notes = headers
        .iter()
        .filter(|header| header.p_type == libc::PT_NOTE)
        .map(|header| {
            // SAFETY: notes are part of a loaded, readable segment.
            unsafe {
                slice::from_raw_parts(
                    (info.dlpi_addr + header.p_vaddr) as *const u8,
                    header.p_memsz as usize,
                )
            }
        });
    *found = Some(Executable {
        build_id: notes.filter_map(elf::build_id).next(),
        ..executable
    });
    1
}
