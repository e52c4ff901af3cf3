//! Extension modules of the standard library that are part of the interpreter (`Modules/cds_extensions.o`).

use std::ffi::CStr;

use super::raw;

/// `PyInit_NAME`, as PEP 489 has it.
pub type Init = raw::PyModInitFunction;

/// An extension module that is linked in.
pub struct Linked {
    /// Size in bytes of the file that was built from the same objects.
    pub bytes: u64,
    /// Its XXH3.
    pub checksum: u64,
    pub init: Init,
}

/// Finds one by the last component of its name.
pub fn find(name: &CStr) -> Option<Linked> {
    let list = (&raw const raw::_PyCDS_LinkedExtensions).cast::<raw::_PyCDS_LinkedExtension>();
    // SAFETY: a constant list of C strings and functions, which a NULL name ends.
    unsafe {
        (0..)
            .map(|index| &*list.add(index))
            .take_while(|entry| !entry.name.is_null())
            .find(|entry| CStr::from_ptr(entry.name) == name)
            .map(|entry| Linked {
                bytes: entry.bytes,
                checksum: entry.checksum,
                init: entry.init,
            })
    }
}

/// Whether the interpreter would load files with the flags of `dlopen()` that it has by itself: others, as
/// `RTLD_GLOBAL`, have effects that linked modules have not.
pub fn has_default_load_flags() -> bool {
    // SAFETY: called with a thread state.
    unsafe { raw::cds_glue_has_default_dlopen_flags() != 0 }
}
