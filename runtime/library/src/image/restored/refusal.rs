//! Why this process was not restored although there is an image: the launcher has left it.

use std::ffi::CStr;

const BYTES: usize = 1024;

/// Text, and a NUL; empty if there is nothing to tell. The last byte is not zero if the image would be refused to any
/// process. Written by the launcher (runtime/launcher/src/lib.rs), before anything else runs.
#[unsafe(no_mangle)]
#[allow(non_upper_case_globals)]
pub static mut _PyCDS_refusal: [u8; BYTES] = [0; BYTES];

pub fn refusal() -> Option<String> {
    let bytes = written();
    let text = CStr::from_bytes_until_nul(&bytes).ok()?.to_string_lossy();
    (!text.is_empty()).then(|| text.into_owned())
}

/// Whether the image would be refused to any process; none if there was nothing to refuse.
pub fn of_everybody() -> Option<bool> {
    let bytes = written();
    (bytes[0] != 0).then(|| bytes[BYTES - 1] != 0)
}

fn written() -> [u8; BYTES] {
    // SAFETY: nobody writes it any more.
    unsafe { (&raw const _PyCDS_refusal).read() }
}
