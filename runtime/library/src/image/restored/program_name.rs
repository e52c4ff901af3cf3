//! The names that the C library gives the program in messages and in the system log (error(3), syslog(3)): the first
//! argument of the process, and the last part of this argument.

use std::ffi::{CStr, c_char};
use std::ptr;
use std::sync::atomic::{AtomicPtr, Ordering};

/// A variable of the C library that points into the first argument (program_invocation_name(3)), and its value before
/// the program began.
struct Name {
    variable: &'static CStr,
    known: AtomicPtr<c_char>,
}

static LONG: Name = Name::new(c"program_invocation_name");
static SHORT: Name = Name::new(c"program_invocation_short_name");

/// Notes the values before the program can change them.
pub fn begin() {
    for name in [&LONG, &SHORT] {
        // SAFETY: `place` is the address of a pointer variable of the C library.
        let known = name
            .place()
            .map_or(ptr::null_mut(), |place| unsafe { *place });
        name.known.store(known, Ordering::Relaxed);
    }
}

/// Takes the names from the first argument of a restored process, unless the program has changed its names.
///
/// # Safety
/// The argument is a text that ends with NUL and stays until the process ends. There are no other threads.
pub unsafe fn renew(argument: *mut c_char) {
    // SAFETY: the caller passes a text that ends with NUL.
    let text = unsafe { CStr::from_ptr(argument) }.to_bytes();
    let directory = text.iter().rposition(|&byte| byte == b'/');
    let short = argument.wrapping_add(directory.map_or(0, |slash| slash + 1));
    for (name, renewed) in [(&LONG, argument), (&SHORT, short)] {
        let known = name.known.load(Ordering::Relaxed);
        if let Some(place) = name.place() {
            // SAFETY: `place` is the address of a pointer variable of the C library. No other thread exists.
            unsafe {
                if *place == known {
                    *place = renewed;
                }
            }
        }
    }
}

impl Name {
    const fn new(variable: &'static CStr) -> Self {
        Self {
            variable,
            known: AtomicPtr::new(ptr::null_mut()),
        }
    }

    fn place(&self) -> Option<*mut *mut c_char> {
        // SAFETY: the name ends with NUL. The call only looks the name up.
        let place = unsafe { libc::dlsym(libc::RTLD_DEFAULT, self.variable.as_ptr()) };
        (!place.is_null()).then_some(place.cast())
    }
}
