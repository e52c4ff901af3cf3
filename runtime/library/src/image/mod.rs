//! The startup image: a process is frozen after its imports. Later, its memory replaces the memory of new processes.
//!
//! The image of an archive `app.cds` is the file `app.cds.image`. [`take`] writes it. An interpreter does its imports
//! and is watched meanwhile ([`observation`]). Then it forks, the child stops, and the child's memory is written to the
//! file ([`taking`]). A new process begins with the launcher (runtime/launcher). If the key fits, the launcher replaces
//! the memory of the process. The process then continues where the child was stopped, as a forked child does.
//! When a restored process ends, it finalizes each object whose end can be observed ([`restored`]).
//!
//! The interpreter is not position-independent, so its code and constants have the same addresses in both processes.
//! Therefore the code that replaces the memory can be a part of the interpreter.

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
    base_subject, do_arguments_vary, is_lacking, needs_renewal, options_of_process, subject,
};
#[cfg(target_arch = "x86_64")]
pub use file::variants::{is_idle, variant_to_renew};
#[cfg(target_arch = "x86_64")]
pub use observation::breakpoints::clock_functions;
pub use observation::entries::parse as parse_record;
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
pub use taking::process_attributes::note_attributes;
#[cfg(target_arch = "x86_64")]
pub use taking::program::recursion_exceeded;
#[cfg(target_arch = "x86_64")]
pub use taking::take::{module_imported, take};
pub use taking::{postponed, searches};
#[cfg(not(target_arch = "x86_64"))]
pub use unsupported::{
    base_subject, begin_variables, clock_functions, do_arguments_vary, end_restored,
    finalize_restored, is_idle, is_lacking, is_restored, module_imported, needs_renewal,
    note_attributes, options_of_process, recursion_exceeded, run_observed, subject, take,
    variant_to_renew,
};
