//! Extension modules of the standard library that are linked into the interpreter (`Modules/cds_extensions.o`).

use std::ffi::CStr;

use super::raw;

/// `PyInit_NAME`, as in PEP 489.
pub type Init = raw::PyModInitFunction;

/// An extension module that is linked into the interpreter.
pub struct Linked {
    /// Size in bytes of the extension module's file, which was built from the same object files.
    pub bytes: u64,
    /// XXH3 of that file.
    pub checksum: u64,
    pub init: Init,
}

/// Finds a linked module by the last component of its name.
pub fn find(name: &CStr) -> Option<Linked> {
    let list = (&raw const raw::_PyCDS_LinkedExtensions).cast::<raw::_PyCDS_LinkedExtension>();
    // SAFETY: the list is a constant array of C strings and functions; an entry with a NULL name ends it.
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

/// Whether the interpreter would load extension modules with its default flags for `dlopen()`. Other flags, such as
/// `RTLD_GLOBAL`, have effects that linked modules do not have.
pub fn has_default_load_flags() -> bool {
    // SAFETY: the caller has a thread state.
    unsafe { raw::cds_glue_has_default_dlopen_flags() != 0 }
}
