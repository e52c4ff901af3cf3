//! Whether the disk has enough space for a build.

use std::path::Path;

const GB: u64 = 1_000_000_000;
/// The space for one interpreter: build tree, installation and Rust library.
pub const FOR_A_BUILD: u64 = 2 * GB;
/// The space for a first run of all tests: two interpreters, the tests, and the packages that they run.
pub const FOR_ALL_TESTS: u64 = 6 * GB;

/// Warns if a directory probably has too little space for a build, which otherwise fails after minutes.
pub fn warn_if_full(directory: &Path, needed: u64) {
    // If the system does not report the free space, there is no warning.
    if let Ok(status) = rustix::fs::statvfs(directory)
        && let Some(warning) = warning(directory, status.f_bavail * status.f_frsize, needed)
    {
        eprintln!("{warning}");
    }
}

fn warning(directory: &Path, free: u64, needed: u64) -> Option<String> {
    (free < needed).then(|| {
        let (directory, [free, needed]) = (directory.display(), [free, needed].map(in_gb));
        format!("warning: {free} GB are free in {directory}; building takes about {needed} GB")
    })
}

fn in_gb(bytes: u64) -> f64 {
    (bytes as f64 / GB as f64 * 10.0).round() / 10.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn too_little_room_is_told_before_anything_is_built() {
        let directory = Path::new("/checkout");
        let warning = |free| warning(directory, free, FOR_A_BUILD);
        assert_eq!(
            warning(345_678_901).as_deref(),
            Some("warning: 0.3 GB are free in /checkout; building takes about 2 GB")
        );
        assert_eq!(warning(FOR_A_BUILD), None);
    }
}
