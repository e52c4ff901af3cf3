//! The file that contains the interpreter: its addresses in memory, and its build id.

use std::ffi::c_void;
use std::{ptr, slice};

use startup_image::elf;

use crate::cpython::anchor;

/// The executable or shared library that contains the interpreter's static objects.
pub struct Executable {
    /// Address ranges of its loaded segments.
    segments: Vec<(u64, u64)>,
    /// The linker's hash of the file's contents, in hexadecimal.
    build_id: Option<String>,
}

impl Executable {
    /// Searches the loaded executables and libraries (`dl_iterate_phdr(3)`).
    pub fn current() -> Option<Self> {
        let mut found = None;
        // SAFETY: the callback gets `found` and is not called after this call.
        unsafe { libc::dl_iterate_phdr(Some(visit), (&raw mut found).cast()) };
        found
    }

    pub fn build_id(&self) -> Option<&str> {
        self.build_id.as_deref()
    }

    /// Copies up to `bytes` bytes from an address on. None if the address is not in a loaded segment.
    pub fn copy(&self, address: u64, bytes: usize) -> Option<Vec<u8>> {
        let mut segments = self.segments.iter();
        let &(_, end) = segments.find(|&&(start, end)| (start..end).contains(&address))?;
        let addresses = address..end.min(address.saturating_add(bytes as u64));
        // The copy is made byte by byte, because AddressSanitizer reports a memcpy() that spans several static objects.
        // SAFETY: the bytes lie in a loaded segment. The GIL, which the caller holds, protects those that change.
        let byte = |address| unsafe { ptr::read_volatile(address as *const u8) };
        Some(addresses.map(byte).collect())
    }

    /// Whether the address lies in the executable. The address of such an object is known at link time.
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
    // SAFETY: `dl_iterate_phdr` passes a valid description of a loaded object, and the `found` that it was called with.
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
            // SAFETY: notes lie in a loaded, readable segment.
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
