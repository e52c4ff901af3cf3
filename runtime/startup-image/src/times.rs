//! Times of files, in nanoseconds.

use rustix::fs::Stat;

/// When a file was modified, in nanoseconds since 1970.
pub fn modified_ns(status: &Stat) -> i64 {
    status.st_mtime.saturating_mul(1_000_000_000) + status.st_mtime_nsec as i64
}

/// When its status was changed, in nanoseconds since 1970.
pub fn changed_ns(status: &Stat) -> i64 {
    status.st_ctime.saturating_mul(1_000_000_000) + status.st_ctime_nsec as i64
}
