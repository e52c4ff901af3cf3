//! Why this process was not restored although there is an image: the launcher has left it.

use std::ffi::CStr;

const BYTES: usize = 1024;

/// Text, and a NUL; empty if there is nothing to tell. Written by the launcher (runtime/launcher/src/lib.rs), before
/// anything else runs.
#[unsafe(no_mangle)]
#[allow(non_upper_case_globals)]
pub static mut _PyCDS_refusal: [u8; BYTES] = [0; BYTES];

pub fn refusal() -> Option<String> {
    // SAFETY: nobody writes it any more.
    let text = unsafe { (&raw const _PyCDS_refusal).read() };
    let text = CStr::from_bytes_until_nul(&text).ok()?.to_string_lossy();
    (!text.is_empty()).then(|| text.into_owned())
}
