//! Runs console scripts and servers of packages in several contexts and ways.

pub mod contexts;
pub mod data;
pub mod normal;
pub mod point;
pub mod scratch;
pub mod startup;
pub mod way;
pub mod ways;

pub use contexts::Context;
pub use data::Program;
pub use point::Point;
pub use scratch::Scratch;
pub use way::Way;
pub use ways::Findings;
