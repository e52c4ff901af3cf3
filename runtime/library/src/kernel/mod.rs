//! What the kernel reports about a process: inherited attributes, page flags, memory.

pub mod inherited;
pub mod page_map;
pub mod process_memory;
