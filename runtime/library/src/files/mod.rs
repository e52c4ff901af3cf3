//! How files are written and named.

pub mod leftovers;
pub mod sealed;
