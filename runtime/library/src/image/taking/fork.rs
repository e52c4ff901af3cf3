//! Forking a process that an image is to be taken of, or that tries what a restored one does.

use std::io::Error;
use std::time::Duration;

use super::failure::Failure;
use super::threads;
use crate::cpython::image;

/// How often it is tried to fork without a loss of threads.
const TRIES: usize = 5;
const BETWEEN_TRIES: Duration = Duration::from_millis(50);

/// Forks, as os.fork() does; returns none in the child, which does not outlive its parent, and has to do what a child does after
/// a fork.
pub fn fork() -> Result<Option<i32>, Failure> {
    let mut tries = 0;
    loop {
        // SAFETY: the GIL is held, and each process does what it has to do after a fork.
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
        // SAFETY: it is our child, and not waited for yet.
        unsafe {
            libc::kill(child, libc::SIGKILL);
            libc::waitpid(child, std::ptr::null_mut(), 0);
        }
        tries += 1;
        if tries == TRIES {
            return Err(Failure::Reason(left_behind(&lost)));
        }
        // It may be about to end by itself.
        std::thread::sleep(BETWEEN_TRIES);
    }
}

/// What keeps an image from being taken since imports have left it.
pub fn left_behind(things: &str) -> String {
    format!("imports have left what cannot be restored: {things}")
}
