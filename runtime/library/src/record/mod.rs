//! The records that runs leave for the next archive.

pub mod auto;
pub mod background;
pub mod learning;
pub mod profile;
pub mod runs;
mod shared;
pub mod trace;
