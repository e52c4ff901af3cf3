//! Fault points: places where tests make the runtime panic, to see that the program goes on without it.
//!
//! They exist in builds for tests only (`--profile debug`, `--profile sanitize`), where the variable `FAILPOINTS` says
//! which of them fail, and when, in the words of the crate `fail`: `get_code=3*off->panic`.

/// A place that tests make fail.
#[inline(always)]
pub fn point(_name: &str) {
    fail::fail_point!(_name);
}

/// Reads the variable.
pub fn read_environment() {
    if fail::has_failpoints() {
        // The points stay as they are until the process ends.
        std::mem::forget(fail::FailScenario::setup());
    }
}
