//! The startup image: a process frozen after its imports, and mapped back in place of a new one.
//!
//! Beside an archive `app.cds` lies `app.cds.image`. [`take`] writes it: an interpreter that has done its imports,
//! and was watched meanwhile ([`mod@observe`]), is forked, and the memory of the stopped child goes to the file. The launcher (runtime/launcher) is what a process
//! begins with: if the key fits, it replaces the memory of the process, which goes on where the child was stopped, as a
//! forked child does ([`resume`]); otherwise it tells why not ([`refusal`]). When a restored process ends, everything
//! is finalized whose end can be seen ([`finalize`]).
//!
//! The interpreter is not position-independent, so its code and constants lie at the same addresses in both processes.
//! That is why the code that replaces the memory can be a part of it.

#[cfg(target_arch = "x86_64")]
mod breakpoints;
#[cfg(target_arch = "x86_64")]
mod creations;
mod describe;
#[cfg(target_arch = "x86_64")]
mod dry_run;
#[cfg(target_arch = "x86_64")]
mod failure;
#[cfg(target_arch = "x86_64")]
mod finalize;
#[cfg(target_arch = "x86_64")]
mod fork;
#[cfg(target_arch = "x86_64")]
mod loaded;
#[cfg(target_arch = "x86_64")]
mod looks;
#[cfg(target_arch = "x86_64")]
mod memory_dump;
#[cfg(target_arch = "x86_64")]
mod memory_flags;
#[cfg(target_arch = "x86_64")]
mod memory_map;
mod note;
#[cfg(target_arch = "x86_64")]
mod observe;
#[cfg(target_arch = "x86_64")]
mod point;
pub mod postponed;
#[cfg(target_arch = "x86_64")]
mod process_attributes;
#[cfg(target_arch = "x86_64")]
mod program;
#[cfg(target_arch = "x86_64")]
mod program_name;
#[cfg(target_arch = "x86_64")]
mod pseudo_terminal;
mod refusal;
#[cfg(target_arch = "x86_64")]
mod renewal;
#[cfg(target_arch = "x86_64")]
mod resume;
#[cfg(target_arch = "x86_64")]
mod same_processor;
pub mod searches;
#[cfg(target_arch = "x86_64")]
mod take;
#[cfg(target_arch = "x86_64")]
mod threads;
#[cfg(not(target_arch = "x86_64"))]
mod unsupported;
#[cfg(target_arch = "x86_64")]
mod variables;
mod watch;
#[cfg(target_arch = "x86_64")]
mod writer;

#[cfg(target_arch = "x86_64")]
pub use breakpoints::clock_functions;
pub use describe::describe;
#[cfg(target_arch = "x86_64")]
pub use finalize::{end_restored, finalize_restored};
pub use note::{read as note, write as write_note};
#[cfg(target_arch = "x86_64")]
pub use observe::run_observed;
#[cfg(target_arch = "x86_64")]
pub use program::recursion_exceeded;
pub use refusal::refusal;
#[cfg(target_arch = "x86_64")]
pub use renewal::{do_arguments_vary, is_lacking, needs_renewal, options_of_process, subject};
#[cfg(target_arch = "x86_64")]
pub use resume::is_restored;
#[cfg(target_arch = "x86_64")]
pub use take::{is_immortal, module_imported, take};
#[cfg(not(target_arch = "x86_64"))]
pub use unsupported::{
    begin_variables, clock_functions, do_arguments_vary, end_restored, finalize_restored,
    is_immortal, is_lacking, is_restored, module_imported, needs_renewal, options_of_process,
    recursion_exceeded, run_observed, subject, take,
};
#[cfg(target_arch = "x86_64")]
pub use variables::begin as begin_variables;
pub use watch::{ABANDONED, Command, Excused, Watch};
