//! Why this process was not restored although there is an image. The launcher leaves the reason here.

use std::ffi::CStr;

const BYTES: usize = 1024;

/// The reason and a NUL; empty if there is no reason. The last byte is not zero if no process could use the image. The
/// launcher (runtime/launcher/src/lib.rs) writes it before anything else runs.
#[unsafe(no_mangle)]
#[allow(non_upper_case_globals)]
pub static mut _PyCDS_refusal: [u8; BYTES] = [0; BYTES];

pub fn refusal() -> Option<String> {
    let bytes = written();
    let text = CStr::from_bytes_until_nul(&bytes).ok()?.to_string_lossy();
    (!text.is_empty()).then(|| text.into_owned())
}

/// Whether no process could use the image; none if no image was refused.
pub fn of_everybody() -> Option<bool> {
    let bytes = written();
    (bytes[0] != 0).then(|| bytes[BYTES - 1] != 0)
}

fn written() -> [u8; BYTES] {
    // SAFETY: only the launcher writes to the variable, and has finished.
    unsafe { (&raw const _PyCDS_refusal).read() }
}
