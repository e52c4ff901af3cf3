//! Why this process was not restored although there is an image. The launcher leaves the reason here.

use std::ffi::CStr;

const BYTES: usize = 1024;

/// The reason and a NUL; empty if there is no reason. The last byte has a bit for each image that another one should take
/// the place of. The launcher (runtime/launcher/src/lib.rs) writes it before anything else runs.
#[unsafe(no_mangle)]
#[allow(non_upper_case_globals)]
pub static mut _PyCDS_refusal: [u8; BYTES] = [0; BYTES];

pub fn refusal() -> Option<String> {
    let bytes = written();
    let text = CStr::from_bytes_until_nul(&bytes).ok()?.to_string_lossy();
    (!text.is_empty()).then(|| text.into_owned())
}

/// Sets the reason in a restored process, which has the memory of the frozen process.
///
/// # Safety
/// No other thread runs.
pub unsafe fn renew(reason: &[u8], lasting: u8) {
    let mut bytes = [0; BYTES];
    let length = reason.len().min(BYTES - 2);
    bytes[..length].copy_from_slice(&reason[..length]);
    bytes[BYTES - 1] = lasting;
    // SAFETY: the caller guarantees that nobody reads the variable now.
    unsafe { (&raw mut _PyCDS_refusal).write(bytes) };
}

/// Whether another image should take the place of the one with this number; none if no image was refused.
pub fn is_lasting(number: usize) -> Option<bool> {
    let bytes = written();
    (bytes[0] != 0).then(|| bytes[BYTES - 1] & 1 << number != 0)
}

fn written() -> [u8; BYTES] {
    // SAFETY: only the launcher writes to the variable, and has finished.
    unsafe { (&raw const _PyCDS_refusal).read() }
}
