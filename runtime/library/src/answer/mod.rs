//! The answers that the import system gets from archives, and other work that a start is spared.

pub mod catalog;
pub mod extensions;
pub mod intern;
pub mod loaders;
pub mod miss;
pub mod patterns;
pub mod postpone;
pub mod roots;
pub mod unchanged;
