//! `run_observed()`: running an interpreter while what its imports look at is recorded.

use std::ffi::CString;
use std::path::Path;
use std::sync::atomic::{AtomicI32, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use crate::cpython::gil;
use crate::cpython::object::{Exception, Object, Raised, Result};
use crate::image;

/// How soon a signal for this process is noticed.
const PATIENCE: Duration = Duration::from_millis(100);

/// The status is None if the command took more seconds than it may; zero are as many as it likes.
pub fn run_observed([arguments, environment, record, seconds]: [Object; 4]) -> Result<Object> {
    let texts = |list: Object, bytes: fn(&Object) -> Result<&[u8]>| {
        let texts = list.to_items()?;
        let texts = texts.iter().map(|text| {
            CString::new(bytes(text)?)
                .map_err(|_| Raised::new(Exception::Value, "an argument with NUL"))
        });
        texts.collect::<Result<Vec<_>>>()
    };
    let arguments = texts(arguments, |text| Ok(text.to_str()?.as_bytes()))?;
    let environment = texts(environment, Object::to_bytes)?;
    let record = Path::new(record.to_str()?);
    let most = Duration::from_secs(seconds.to_i64()?.try_into().unwrap_or_default());
    let start = Instant::now();
    let child = AtomicI32::new(0);
    // Of threads that trace, and of what they may wait for, the kernel wants to know exactly which one it is.
    let status = thread::scope(|scope| {
        let (sender, result) = mpsc::channel();
        let child = &child;
        scope.spawn(move || {
            let status = image::run_observed(&arguments, &environment, record, child);
            sender.send(status)
        });
        loop {
            match gil::without(|| result.recv_timeout(PATIENCE)) {
                Ok(status) => return Ok(Some(status)),
                Err(RecvTimeoutError::Disconnected) => {
                    return Ok(Some(Err("the thread has failed".to_owned())));
                }
                Err(RecvTimeoutError::Timeout) => {
                    let is_late = !most.is_zero() && start.elapsed() > most;
                    let interrupted = gil::check_signals();
                    let pid = child.load(Ordering::Relaxed);
                    if (is_late || interrupted.is_err()) && pid > 0 {
                        // SAFETY: it was not waited for until now.
                        unsafe { libc::kill(pid, libc::SIGKILL) };
                    }
                    interrupted?;
                    if is_late {
                        return Ok(None);
                    }
                }
            }
        }
    })?;
    let Some(status) = status else {
        return Ok(Object::none());
    };
    let status = status.map_err(|reason| Raised::new(Exception::Os, &reason))?;
    Object::int(status.into())
}
