//! The cache of this user: whether this process uses it, and which programs were started before.

mod entry;
mod seen;

pub use entry::{current, is_known};
