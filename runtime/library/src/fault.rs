//! Fault points: places where tests make the runtime panic, to check that the program continues without the archive.
//!
//! They exist only in builds for tests (`--profile debug`, `--profile sanitize`). There, the variable `FAILPOINTS`
//! selects which of them fail, and when, in the syntax of the crate `fail`: `get_code=3*off->panic`.

/// A place that tests can make fail.
#[inline(always)]
pub fn point(_name: &str) {
    fail::fail_point!(_name);
}

/// Reads the variable `FAILPOINTS`.
pub fn read_environment() {
    if fail::has_failpoints() {
        // The fault points stay configured until the process ends.
        std::mem::forget(fail::FailScenario::setup());
    }
}
