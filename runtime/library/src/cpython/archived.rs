//! Objects in a mapped archive.

use std::mem::size_of;
use std::ptr::{self, NonNull};
use std::slice;

use super::object::{Kind, Object, Result};
use super::raw;

/// The object at `place`.
///
/// # Safety
/// `place` is the place of an object in an archive that stays mapped.
pub unsafe fn object(place: NonNull<u8>) -> Object {
    // SAFETY: the caller passes the place of an object, which is immortal.
    unsafe { Object::from_borrowed(place.cast().as_ptr()) }
}

/// The str at `candidate`, if it has the same characters as the live str `wanted`.
///
/// # Safety
/// `candidate` points to at least `room` readable bytes of an archive, 8-byte aligned; `wanted` is an exact str.
pub unsafe fn same_string(candidate: NonNull<u8>, room: usize, wanted: &Object) -> Option<Object> {
    let header = size_of::<raw::PyASCIIObject>();
    if room < header {
        return None;
    }
    let found = candidate.cast::<raw::PyASCIIObject>().as_ptr();
    let wanted_ascii = wanted.as_ptr().cast::<raw::PyASCIIObject>();
    // SAFETY: both structs are readable. The characters of the candidate are read only if they lie within `room`.
    unsafe {
        let (state, expected) = (&(*found).state, &(*wanted_ascii).state);
        if (*found).ob_base.ob_type as u64 != Kind::Str.type_address()
            || (*found).length != (*wanted_ascii).length
            || state.kind() != expected.kind()
            || state.ascii() != expected.ascii()
        {
            return None;
        }
        let start = if state.ascii() == 1 {
            header
        } else {
            size_of::<raw::PyCompactUnicodeObject>()
        };
        let wanted = characters(wanted);
        if room < start + wanted.len() {
            return None;
        }
        let found = slice::from_raw_parts(candidate.as_ptr().add(start), wanted.len());
        (found == wanted).then(|| object(candidate))
    }
}

/// The items of the tuple at `candidate`, if there is a tuple that fits into `room`.
///
/// # Safety
/// `candidate` points to at least `room` readable bytes of an archive, 8-byte aligned.
pub unsafe fn tuple_items(candidate: NonNull<u8>, room: usize) -> Option<Vec<Object>> {
    let head = std::mem::offset_of!(raw::PyTupleObject, ob_item);
    if room < head {
        return None;
    }
    let tuple = candidate.cast::<raw::PyTupleObject>().as_ptr();
    // SAFETY: the head is readable, and the items are readable if there is room for them.
    unsafe {
        let header = &(*tuple).ob_base;
        let items = usize::try_from(header.ob_size).ok()?;
        let is_tuple = header.ob_base.ob_type as u64 == Kind::Tuple.type_address();
        let fits = items <= (room - head) / size_of::<*mut raw::PyObject>();
        (is_tuple && fits).then(|| object(candidate).tuple_items())
    }
}

/// The characters of a live exact str, as they are in memory.
///
/// # Safety
/// `string` is an exact str.
pub unsafe fn characters(string: &Object) -> &[u8] {
    let ascii = string.as_ptr().cast::<raw::PyASCIIObject>();
    // SAFETY: an exact str is compact.
    unsafe {
        let bytes = (*ascii).length as usize * (*ascii).state.kind() as usize;
        slice::from_raw_parts(raw::cds_glue_characters(string.as_ptr()).cast(), bytes)
    }
}

/// Gives an archived frozenset the hash table that the same insertions produce in this process, so that it iterates in
/// the same order as a live one. Returns false if the table does not fit: then the archive is damaged.
///
/// # Safety
/// `set` and `elements` are an archived frozenset and tuple, and `table` has room for `slots` entries. All are in
/// writable memory that no other thread uses yet: the caller holds the GIL and publishes the code that refers to the
/// set only afterwards.
pub unsafe fn fill_frozenset(
    set: NonNull<u8>,
    elements: NonNull<u8>,
    table: NonNull<u8>,
    slots: usize,
) -> Result<bool> {
    let set = set.cast::<raw::PySetObject>().as_ptr();
    // SAFETY: `set` is an archived frozenset, whose table is NULL until it is filled.
    if unsafe { !(*set).table.is_null() } {
        return Ok(true);
    }
    // SAFETY: `elements` is a tuple.
    let built = Object::frozenset(&unsafe { object(elements) })?;
    let source = built.as_ptr().cast::<raw::PySetObject>();
    // SAFETY: the live table has `mask + 1` entries, and the check above ensures that the target has room for them. The
    // entries refer to the elements of the archived tuple, which are immortal.
    unsafe {
        let entries = (*source).mask as usize + 1;
        let target = if entries <= raw::PySet_MINSIZE as usize {
            (&raw mut (*set).smalltable).cast::<raw::setentry>()
        } else {
            table.cast().as_ptr()
        };
        let fits = entries <= slots.max(raw::PySet_MINSIZE as usize);
        if !fits || (*source).mask != (*set).mask || (*source).used != (*set).used {
            return Ok(false);
        }
        ptr::copy_nonoverlapping((*source).table, target, entries);
        (*set).table = target;
    }
    Ok(true)
}

/// The code object at `candidate`, if what is there looks like one.
///
/// # Safety
/// `candidate` is a place in an archive, and readable for the size of an object header.
pub unsafe fn code(candidate: NonNull<u8>) -> Option<Object> {
    // SAFETY: the caller passes the place of a readable object header.
    unsafe {
        let kind = (*candidate.cast::<raw::PyObject>().as_ptr()).ob_type;
        (kind as u64 == Kind::Code.type_address()).then(|| object(candidate))
    }
}

/// Whether the hash of an exact str has been computed.
///
/// # Safety
/// `string` is an exact str.
pub unsafe fn is_hashed(string: &Object) -> bool {
    // SAFETY: the caller passes a str.
    unsafe { (*string.as_ptr().cast::<raw::PyASCIIObject>()).hash != -1 }
}

/// Whether the hash of a bytes object has been computed.
///
/// # Safety
/// `bytes` is a bytes object.
pub unsafe fn is_hashed_bytes(bytes: &Object) -> bool {
    // SAFETY: the caller passes a bytes object.
    unsafe { (*bytes.as_ptr().cast::<raw::PyBytesObject>()).ob_shash != -1 }
}

/// Size of an entry of a frozenset's hash table.
pub const FROZENSET_ENTRY_BYTES: usize = size_of::<raw::setentry>();

/// Removes the version from archived code and all code inside it. The interpreter then assigns one when it needs one
/// (`_PyFunction_GetVersionForCurrentState` in Objects/funcobject.c).
pub fn forget_version(code: &Object) -> Result<()> {
    // SAFETY: archived code lies in writable memory, and the caller holds the GIL.
    let constants = unsafe {
        let code = code.as_ptr().cast::<raw::PyCodeObject>();
        (*code).co_version = 0;
        Object::from_borrowed((*code).co_consts)
    };
    for constant in constants.to_items()? {
        if constant.kind() == Some(Kind::Code) {
            forget_version(&constant)?;
        }
    }
    Ok(())
}

/// Gives archived code and all code inside it another file name, unless it already has this name.
/// `_imp._fix_co_filename` does the same for a `.pyc` file that was moved (`update_code_filenames` in Python/import.c).
pub fn set_file_name(code: &Object, name: &Object) -> Result<()> {
    let code = code.as_ptr().cast::<raw::PyCodeObject>();
    // SAFETY: archived code lies in writable memory, and the caller holds the GIL. The old name is immortal. The new
    // name gets a reference for each code object, and code objects are immortal too.
    let constants = unsafe {
        if (*code).co_filename == name.as_ptr() {
            return Ok(());
        }
        (*code).co_filename = name.clone().into_ptr();
        Object::from_borrowed((*code).co_consts)
    };
    for constant in constants.to_items()? {
        if constant.kind() == Some(Kind::Code) {
            set_file_name(&constant, name)?;
        }
    }
    Ok(())
}
