//! Times of files, in nanoseconds.

use rustix::fs::Stat;

/// The modification time of a file, in nanoseconds since 1970.
pub fn modified_ns(status: &Stat) -> i64 {
    status.st_mtime.saturating_mul(1_000_000_000) + status.st_mtime_nsec as i64
}

/// The time of the last change of a file's status, in nanoseconds since 1970.
pub fn changed_ns(status: &Stat) -> i64 {
    status.st_ctime.saturating_mul(1_000_000_000) + status.st_ctime_nsec as i64
}
