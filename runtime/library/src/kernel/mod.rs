//! What the kernel knows of a process.

pub mod inherited;
pub mod page_map;
pub mod process_memory;
