//! How files are written and named.

pub mod leftovers;
pub mod listing;
pub mod sealed;
