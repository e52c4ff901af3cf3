//! A process that imports, or runs a program, is traced (ptrace(2)): what does it look at, and what does it do that
//! others can see?

#[cfg(target_arch = "x86_64")]
pub mod breakpoints;
#[cfg(target_arch = "x86_64")]
pub mod creations;
#[cfg(target_arch = "x86_64")]
pub mod looks;
#[cfg(target_arch = "x86_64")]
pub mod observe;
#[cfg(target_arch = "x86_64")]
pub mod point;
#[cfg(target_arch = "x86_64")]
pub mod pseudo_terminal;
#[cfg(target_arch = "x86_64")]
pub mod same_processor;
#[cfg(target_arch = "x86_64")]
pub mod tracee;
pub mod watch;
