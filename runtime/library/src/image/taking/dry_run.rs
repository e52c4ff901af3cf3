//! The dry run: a forked process does what a restored process does with an empty program. It shows that the process
//! ends, and which pages it writes to. A restored process prefaults these pages together: otherwise each costs a page
//! fault.

use std::ffi::{CString, c_char, c_int};
use std::fs::OpenOptions;
use std::io::{self, PipeReader, PipeWriter, Read};
use std::os::fd::AsRawFd;

use startup_image::format::{PrefaultRange, Restored};

use super::dry_run_report;
use crate::cpython::image;
use crate::cpython::object::Raised;
use crate::cpython::own;
use crate::image::restored::resume;
use crate::image::restored::start::{NOTHING, RESTORED};

/// Seconds after which a dry run is killed.
const LONGEST: u32 = 60;
/// A dry run, as its parent process sees it.
pub struct DryRun {
    child: c_int,
    report: PipeReader,
}

impl DryRun {
    pub fn new(child: c_int, report: PipeReader) -> Self {
        Self { child, report }
    }

    /// Waits for the end of the dry run. Returns the pages that it has written to.
    ///
    /// # Errors
    /// A text that says why the dry run failed.
    pub fn result(mut self) -> Result<Vec<PrefaultRange>, String> {
        let mut bytes = Vec::new();
        let read = self.report.read_to_end(&mut bytes);
        let mut status = 0;
        // SAFETY: the call writes only to `status`.
        unsafe { libc::waitpid(self.child, &mut status, 0) };
        let end = match status {
            _ if libc::WIFSIGNALED(status) && libc::WTERMSIG(status) == libc::SIGALRM => {
                format!("did not end within {LONGEST} s")
            }
            _ if libc::WIFSIGNALED(status) => {
                format!("was killed by signal {}", libc::WTERMSIG(status))
            }
            0 => {
                read.map_err(|error| error.to_string())?;
                return postcard::from_bytes(&bytes).map_err(|error| error.to_string());
            }
            _ => format!("ended with exit status {}", libc::WEXITSTATUS(status)),
        };
        Err(format!(
            "a dry run of an empty program with these modules {end}"
        ))
    }
}

/// The kernel's `struct sigaction`, which has four words. The C library's `sigaction()` would add the address of its
/// restorer.
type Action = [u64; 4];
const BYTES_OF_SIGNALS: usize = 8;

/// While this value exists, SIGCHLD has its default action: no handler of the program is called when a child ends.
pub struct DefaultAtChild(Action);

impl DefaultAtChild {
    pub fn begin() -> Self {
        let default: Action = [0; 4];
        let mut former: Action = [0; 4];
        // SAFETY: both arrays have the size of the kernel's struct. Zeros mean the default action without flags.
        unsafe {
            libc::syscall(
                libc::SYS_rt_sigaction,
                libc::SIGCHLD,
                default.as_ptr(),
                former.as_mut_ptr(),
                BYTES_OF_SIGNALS,
            );
        }
        Self(former)
    }
}

impl Drop for DefaultAtChild {
    fn drop(&mut self) {
        // SAFETY: the array contains the former action, which the kernel has written.
        unsafe {
            libc::syscall(
                libc::SYS_rt_sigaction,
                libc::SIGCHLD,
                self.0.as_ptr(),
                std::ptr::null_mut::<u64>(),
                BYTES_OF_SIGNALS,
            );
        }
    }
}

/// Makes this process, which was just forked, behave as if it was restored to run an empty program.
///
/// # Safety
/// As for [`resume::resume`].
pub unsafe fn begin(report: PipeWriter) -> Result<(), Raised> {
    let silent = || -> io::Result<()> {
        let null = OpenOptions::new()
            .read(true)
            .write(true)
            .open("/dev/null")?;
        for stream in 0..=2 {
            // SAFETY: the call replaces the descriptor of a standard stream, which no Rust object owns.
            unsafe { libc::dup2(null.as_raw_fd(), stream) };
        }
        Ok(())
    };
    // If this fails, the output of the dry run is visible, which does no harm.
    let _ = silent();
    // SAFETY: both calls take numbers. SIGALRM then ends this process if it does not end in time.
    unsafe {
        libc::signal(libc::SIGALRM, libc::SIG_DFL);
        libc::alarm(LONGEST);
    }
    own::module(c"cds.image.startup")?
        .attribute(c"dry_run")?
        .call(Vec::new())?;
    let arguments = ["python", "-c", "pass"].map(|text| CString::new(text).unwrap_or_default());
    let arguments: Vec<*const c_char> = arguments
        .into_iter()
        .map(|text| text.into_raw().cast_const())
        .chain([std::ptr::null()])
        .collect();
    dry_run_report::begin(report);
    // SAFETY: the restore fills in the same variable. The texts stay until the process ends. The caller keeps the
    // contract of `resume()`.
    unsafe {
        RESTORED = Restored {
            argc: arguments.len() as u64 - 1,
            argv: arguments.leak().as_ptr() as u64,
            envp: libc::environ as u64,
            ignored_signals: 0,
            ..NOTHING
        };
        resume::resume()
    }
}

/// Ends the interpreter and the process. The frames of the program are still on the stack.
///
/// # Safety
/// This is the main thread of a dry run, with the GIL.
pub unsafe fn end_here() -> ! {
    // SAFETY: this is the main thread, and it holds the GIL. The process ends before any code uses the interpreter
    // again.
    unsafe {
        if let Err(raised) = own::module(c"cds.image.startup")
            .and_then(|startup| startup.attribute(c"warm_up")?.call(Vec::new()))
        {
            raised.report();
            libc::_exit(1);
        }
        image::finalize();
        dry_run_report::end();
        libc::_exit(1)
    }
}
