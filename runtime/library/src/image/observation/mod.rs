//! Traces a process that imports modules or runs a program (ptrace(2)). Records what the process looks at, and what it
//! does that other processes or the user can see.

#[cfg(target_arch = "x86_64")]
pub mod breakpoints;
#[cfg(target_arch = "x86_64")]
pub mod creations;
pub mod entries;
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
