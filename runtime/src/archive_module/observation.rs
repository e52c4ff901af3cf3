//! `run_observed()`: running an interpreter while what its imports look at is recorded.

use std::ffi::CString;
use std::path::Path;
use std::sync::atomic::{AtomicI32, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::Duration;

use crate::cpython::gil;
use crate::cpython::object::{Exception, Object, Raised, Result};
use crate::image;

/// How soon a signal for this process is noticed.
const PATIENCE: Duration = Duration::from_millis(100);

pub fn run_observed([arguments, record]: [Object; 2]) -> Result<Object> {
    let texts = arguments.to_items()?;
    let texts = texts.iter().map(|text| {
        CString::new(text.to_str()?)
            .map_err(|_| Raised::new(Exception::Value, "an argument with NUL"))
    });
    let texts = texts.collect::<Result<Vec<_>>>()?;
    let record = Path::new(record.to_str()?);
    let child = AtomicI32::new(0);
    // Of threads that trace, and of what they may wait for, the kernel wants to know exactly which one it is.
    let status = thread::scope(|scope| {
        let (sender, result) = mpsc::channel();
        let child = &child;
        scope.spawn(move || sender.send(image::run_observed(&texts, record, child)));
        loop {
            match gil::without(|| result.recv_timeout(PATIENCE)) {
                Ok(status) => return Ok(status),
                Err(RecvTimeoutError::Disconnected) => {
                    return Ok(Err("the thread has failed".to_owned()));
                }
                Err(RecvTimeoutError::Timeout) => {
                    if let Err(raised) = gil::check_signals() {
                        let pid = child.load(Ordering::Relaxed);
                        if pid > 0 {
                            // SAFETY: it was not waited for until now.
                            unsafe { libc::kill(pid, libc::SIGKILL) };
                        }
                        return Err(raised);
                    }
                }
            }
        }
    })?;
    let status = status.map_err(|reason| Raised::new(Exception::Os, &reason))?;
    Object::int(status.into())
}
