//! The objects that C code of this thread may refer to, as far as the thread's stack shows it.

use std::collections::HashSet;
use std::mem::MaybeUninit;
use std::{io, ptr};

use super::heap::Address;

/// The words in the used part of this thread's stack. They contain each object that a local variable of a calling C
/// function refers to: the caller has stored the variable on the stack, or the called function has saved the register
/// that holds it.
pub struct NativeStack(HashSet<usize>);

impl NativeStack {
    /// # Errors
    /// Those of `pthread_getattr_np(3)`.
    pub fn of_this_thread() -> io::Result<Self> {
        let end = end_of_stack()?;
        // The stack grows towards lower addresses, so this variable lies below the callers' variables.
        let lowest = 0_usize;
        let start = (&raw const lowest).expose_provenance();
        let words = (start..end).step_by(size_of::<usize>()).map(|address| {
            let place: *const usize = ptr::with_exposed_provenance(address);
            // SAFETY: the place lies between a variable of this function and the end of its stack, which is mapped. No
            // other code writes there meanwhile.
            unsafe { place.read_volatile() }
        });
        Ok(Self(words.collect()))
    }

    pub fn has(&self, object: Address) -> bool {
        self.0.contains(&object.addr())
    }
}

/// The address after the end of the calling thread's stack.
fn end_of_stack() -> io::Result<usize> {
    let mut attributes = MaybeUninit::<libc::pthread_attr_t>::uninit();
    let (mut start, mut size) = (ptr::null_mut(), 0);
    // SAFETY: the first call initialises the attributes, the second reads them, and the third frees their memory.
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
