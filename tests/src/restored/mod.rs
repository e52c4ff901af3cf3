//! A program that asks the kernel and the interpreter for everything it can (tests/restored), run plainly and
//! restored: what it finds differs in nothing but what a list in the repository gives a reason for.

mod differences;
mod inventory;
mod report;

pub use differences::{Allowed, Findings};
pub use inventory::{Image, Inventory, SETTINGS, Setting, copy_package, programs};
pub use report::Report;
