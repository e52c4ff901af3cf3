//! Image files: what an image contains, the note that replaces it if none could be taken, and when it is renewed.

pub mod describe;
pub mod note;
#[cfg(target_arch = "x86_64")]
pub mod renewal;
#[cfg(target_arch = "x86_64")]
pub mod variants;
