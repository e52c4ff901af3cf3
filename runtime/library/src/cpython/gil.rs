//! Waiting without holding up other threads, nor the handlers of signals.

use super::object::{Raised, Result};
use super::raw;

/// Runs something that does not touch objects, without the GIL.
pub fn without<T>(body: impl FnOnce() -> T) -> T {
    /// Takes the GIL again.
    struct Released(*mut raw::PyThreadState);
    impl Drop for Released {
        fn drop(&mut self) {
            // SAFETY: the state is this thread's.
            unsafe { raw::PyEval_RestoreThread(self.0) }
        }
    }
    // SAFETY: the caller of the hook holds the GIL.
    let _released = Released(unsafe { raw::PyEval_SaveThread() });
    body()
}

/// Runs the handlers of signals that have come; the error is what they raise.
pub fn check_signals() -> Result<()> {
    // SAFETY: the caller of the hook holds the GIL.
    if unsafe { raw::PyErr_CheckSignals() } < 0 {
        return Err(Raised);
    }
    Ok(())
}
