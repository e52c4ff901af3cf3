//! The records that runs leave for the next archive.

pub mod auto;
pub mod profile;
pub mod runs;
pub mod trace;
