//! The restored process: what it does at its start and at its end. Also: why a process was not restored.

#[cfg(target_arch = "x86_64")]
pub mod crash;
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
