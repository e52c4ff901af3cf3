//! Forks a process that becomes an image or does a dry run.

use std::io::Error;
use std::time::Duration;

use super::failure::Failure;
use super::threads;
use crate::cpython::image;

/// The number of attempts to fork without a loss of threads.
const TRIES: usize = 5;
const BETWEEN_TRIES: Duration = Duration::from_millis(50);

/// Forks, as `os.fork()` does. Returns none in the child, which is killed when its parent ends. The caller has to call
/// `after_fork_in_child()` in the child.
pub fn fork() -> Result<Option<i32>, Failure> {
    let mut tries = 0;
    loop {
        // SAFETY: the GIL is held. The parent calls `after_fork_in_parent()` here, and the caller does its part in the
        // child.
        let (child, lost) = unsafe {
            image::before_fork();
            let (child, lost) = threads::watched(|| libc::fork());
            if child == 0 {
                libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
                return Ok(None);
            }
            image::after_fork_in_parent();
            (child, lost)
        };
        if child < 0 {
            let error = Error::last_os_error();
            return Err(Failure::Reason(format!("cannot fork: {error}")));
        }
        let Some(lost) = lost else {
            return Ok(Some(child));
        };
        // SAFETY: `child` is a child of this process that was not waited for yet, so its id is not reused.
        unsafe {
            libc::kill(child, libc::SIGKILL);
            libc::waitpid(child, std::ptr::null_mut(), 0);
        }
        tries += 1;
        if tries == TRIES {
            return Err(Failure::Reason(left_behind(&lost)));
        }
        // The thread may end soon.
        std::thread::sleep(BETWEEN_TRIES);
    }
}

/// The message about things that imports have left, which prevent an image.
pub fn left_behind(things: &str) -> String {
    format!("imports have left what cannot be restored: {things}")
}
