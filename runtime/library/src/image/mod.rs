//! The startup image: a process frozen after its imports, and mapped back in place of a new one.
//!
//! Beside an archive `app.cds` lies `app.cds.image`. [`take`] writes it: an interpreter that has done its imports, and was
//! watched meanwhile ([`observation`]), is forked, and the memory of the stopped child goes to the file ([`taking`]). The
//! launcher (runtime/launcher) is what a process begins with: if the key fits, it replaces the memory of the process, which
//! goes on where the child was stopped, as a forked child does. When a restored process ends, everything is finalized whose
//! end can be seen ([`restored`]).
//!
//! The interpreter is not position-independent, so its code and constants lie at the same addresses in both processes.
//! That is why the code that replaces the memory can be a part of it.

mod file;
mod observation;
mod restored;
mod taking;
#[cfg(not(target_arch = "x86_64"))]
mod unsupported;

pub use file::describe::describe;
pub use file::note::{read as note, write as write_note};
#[cfg(target_arch = "x86_64")]
pub use file::renewal::{
    do_arguments_vary, is_lacking, needs_renewal, options_of_process, subject,
};
#[cfg(target_arch = "x86_64")]
pub use observation::breakpoints::clock_functions;
#[cfg(target_arch = "x86_64")]
pub use observation::observe::run_observed;
pub use observation::watch::{ABANDONED, Command, Excused, Watch};
#[cfg(target_arch = "x86_64")]
pub use restored::finalize::{end_restored, finalize_restored};
pub use restored::refusal::refusal;
#[cfg(target_arch = "x86_64")]
pub use restored::start::is_restored;
#[cfg(target_arch = "x86_64")]
pub use restored::variables::begin as begin_variables;
#[cfg(target_arch = "x86_64")]
pub use taking::program::recursion_exceeded;
#[cfg(target_arch = "x86_64")]
pub use taking::take::{module_imported, take};
pub use taking::{postponed, searches};
#[cfg(not(target_arch = "x86_64"))]
pub use unsupported::{
    begin_variables, clock_functions, do_arguments_vary, end_restored, finalize_restored,
    is_lacking, is_restored, module_imported, needs_renewal, options_of_process,
    recursion_exceeded, run_observed, subject, take,
};
