//! What C code refers to that this thread runs, as far as its stack tells.

use std::collections::HashSet;
use std::mem::MaybeUninit;
use std::{io, ptr};

use super::heap::Address;

/// The words of the part of this thread's stack that is in use. Any object may be among them that a function has in a local
/// variable: one that has called another keeps its variables there, or the other has saved the register that they are in.
pub struct NativeStack(HashSet<usize>);

impl NativeStack {
    /// # Errors
    /// Those of `pthread_getattr_np(3)`.
    pub fn of_this_thread() -> io::Result<Self> {
        let end = end_of_stack()?;
        // The stack grows towards lower addresses, so this lies below what the callers have there.
        let lowest = 0_usize;
        let start = (&raw const lowest).expose_provenance();
        let words = (start..end).step_by(size_of::<usize>()).map(|address| {
            let place: *const usize = ptr::with_exposed_provenance(address);
            // SAFETY: the place lies between a variable of this function and the end of its stack, which is mapped; nobody
            // else writes there meanwhile.
            unsafe { place.read_volatile() }
        });
        Ok(Self(words.collect()))
    }

    pub fn has(&self, object: Address) -> bool {
        self.0.contains(&object.addr())
    }
}

/// The address behind the calling thread's stack.
fn end_of_stack() -> io::Result<usize> {
    let mut attributes = MaybeUninit::<libc::pthread_attr_t>::uninit();
    let (mut start, mut size) = (ptr::null_mut(), 0);
    // SAFETY: the first call initialises the attributes, the second reads them, and the third frees what they have.
    unsafe {
        let error = libc::pthread_getattr_np(libc::pthread_self(), attributes.as_mut_ptr());
        if error != 0 {
            return Err(io::Error::from_raw_os_error(error));
        }
        libc::pthread_attr_getstack(attributes.as_ptr(), &raw mut start, &raw mut size);
        libc::pthread_attr_destroy(attributes.as_mut_ptr());
    }
    Ok(start.addr() + size)
}
