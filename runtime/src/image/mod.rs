//! The startup image: a process frozen after its imports, and mapped back in place of a new one.
//!
//! Beside an archive `app.img` lies `app.img.startup`. [`take`] writes it: an interpreter that has done its imports is
//! forked, and the memory of the stopped child goes to the file. [`restore`] runs first of all in `main()`: if the
//! [`key`] fits, the memory of the process is replaced ([`trampoline`]) and it goes on where the child was stopped, as a
//! forked child does ([`resume`]). When it ends, only what it made itself is taken apart ([`finalize`]).
//!
//! The interpreter is not position-independent, so its code and constants lie at the same addresses in both processes.
//! That is why the code that replaces the memory can be a part of it.

mod command_line;
mod describe;
mod finalize;
mod format;
mod key;
mod memory_map;
mod renewal;
mod restore;
mod resume;
mod take;
mod trampoline;

pub use describe::describe;
pub use finalize::{end_restored, finalize_restored};
pub use renewal::{is_read_by_libraries, needs_renewal, options_of_process};
pub use restore::{refusal, restore};
pub use take::{is_immortal, take};

/// What is frozen and restored on this architecture.
pub const PAGE: u64 = 4096;
