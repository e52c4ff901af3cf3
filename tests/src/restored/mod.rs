//! A program that asks the kernel and the interpreter for all that they report (tests/restored). It is run plainly and
//! restored. Its reports must not differ, except in the lines for which a list in the repository has a reason.

mod differences;
mod inventory;
mod report;

pub use differences::{Allowed, Findings};
pub use inventory::{Image, Inventory, SETTINGS, Setting, copy_package, programs};
pub use report::Report;
