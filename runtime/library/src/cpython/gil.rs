//! Long work that holds up neither other threads nor signal handlers.

use super::object::{Raised, Result};
use super::raw;

/// Runs `body` without the GIL. `body` must not touch objects.
pub fn without<T>(body: impl FnOnce() -> T) -> T {
    /// Takes the GIL again when it is dropped.
    struct Released(*mut raw::PyThreadState);
    impl Drop for Released {
        fn drop(&mut self) {
            // SAFETY: the thread state belongs to this thread.
            unsafe { raw::PyEval_RestoreThread(self.0) }
        }
    }
    // SAFETY: the caller of the hook holds the GIL.
    let _released = Released(unsafe { raw::PyEval_SaveThread() });
    body()
}

/// Runs the Python handlers of pending signals. An error means that a handler has raised an exception.
pub fn check_signals() -> Result<()> {
    // SAFETY: the caller of the hook holds the GIL.
    if unsafe { raw::PyErr_CheckSignals() } < 0 {
        return Err(Raised);
    }
    Ok(())
}
