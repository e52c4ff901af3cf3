//! How files are read, written and named.

pub mod contents;
pub mod leftovers;
pub mod listing;
pub mod sealed;
pub mod status;
