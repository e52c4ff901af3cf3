//! A process that was restored from an image: what it does first, and at its end; and why one was not restored.

#[cfg(target_arch = "x86_64")]
pub mod finalize;
#[cfg(target_arch = "x86_64")]
pub mod program_name;
pub mod refusal;
#[cfg(target_arch = "x86_64")]
pub mod resume;
#[cfg(target_arch = "x86_64")]
pub mod start;
#[cfg(target_arch = "x86_64")]
pub mod variables;
