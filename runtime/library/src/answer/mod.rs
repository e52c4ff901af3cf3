//! What the import system is answered from archives, and what else a start can be spared.

pub mod catalog;
pub mod extensions;
pub mod intern;
pub mod loaders;
pub mod patterns;
pub mod postpone;
pub mod roots;
