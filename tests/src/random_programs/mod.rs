//! Random programs, made by `tests/random_programs/generate.py`, and the ways to run them.

pub mod program;
pub mod shrink;
pub mod ways;

pub use program::{Kinds, Program};
pub use shrink::shrink;
pub use ways::{Verdict, Way};
