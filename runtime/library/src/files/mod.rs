//! How files get their names.

pub mod leftovers;
pub mod sealed;
