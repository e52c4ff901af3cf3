//! Files of images that are there: what is in one, what stands in its place, and when it is written anew.

pub mod describe;
pub mod note;
#[cfg(target_arch = "x86_64")]
pub mod renewal;
