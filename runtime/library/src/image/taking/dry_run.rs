//! The dry run: what a restored process does with an empty program is done in a forked one, to see that it ends,
//! and which pages it writes to. Those are fetched together when the image is restored: one by one each costs a fault.

use std::ffi::{CString, c_char, c_int};
use std::fs::OpenOptions;
use std::io::{self, PipeReader, PipeWriter, Read};
use std::os::fd::AsRawFd;

use startup_image::format::{PrefaultRange, Restored};

use super::dry_run_report;
use crate::cpython::bindings as raw;
use crate::cpython::object::Raised;
use crate::cpython::own;
use crate::image::restored::resume;
use crate::image::restored::start::RESTORED;

/// Seconds after which it is given up.
const LONGEST: u32 = 60;
/// A dry run, as the process sees it that has forked.
pub struct DryRun {
    child: c_int,
    report: PipeReader,
}

impl DryRun {
    pub fn new(child: c_int, report: PipeReader) -> Self {
        Self { child, report }
    }

    /// Waits for its end, and returns the pages that it needed.
    ///
    /// # Errors
    /// A text that says what went wrong.
    pub fn result(mut self) -> Result<Vec<PrefaultRange>, String> {
        let mut bytes = Vec::new();
        let read = self.report.read_to_end(&mut bytes);
        let mut status = 0;
        // SAFETY: it is our child.
        unsafe { libc::waitpid(self.child, &mut status, 0) };
        let end = match status {
            _ if libc::WIFSIGNALED(status) && libc::WTERMSIG(status) == libc::SIGALRM => {
                format!("does not end within {LONGEST} s")
            }
            _ if libc::WIFSIGNALED(status) => {
                format!("is killed by signal {}", libc::WTERMSIG(status))
            }
            0 => {
                read.map_err(|error| error.to_string())?;
                return postcard::from_bytes(&bytes).map_err(|error| error.to_string());
            }
            _ => format!("ends with exit status {}", libc::WEXITSTATUS(status)),
        };
        Err(format!("an empty program with these modules {end}"))
    }
}

/// The kernel's `struct sigaction`, which is four words. The C library's function would leave a trace in it, the address of its
/// restorer.
type Action = [u64; 4];
const BYTES_OF_SIGNALS: usize = 8;

/// While there is one, no handler of the program hears that a child has ended.
pub struct Unheard(Action);

impl Unheard {
    pub fn begin() -> Self {
        let default: Action = [0; 4];
        let mut former: Action = [0; 4];
        // SAFETY: zeros are the default action, without flags; the kernel fills in what was there before.
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

impl Drop for Unheard {
    fn drop(&mut self) {
        // SAFETY: what was there before.
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

/// Makes this process, which was just forked, one that looks as if it was restored to run an empty program.
///
/// # Safety
/// That of [`resume::resume`].
pub unsafe fn begin(report: PipeWriter) -> Result<(), Raised> {
    let silent = || -> io::Result<()> {
        let null = OpenOptions::new()
            .read(true)
            .write(true)
            .open("/dev/null")?;
        for stream in 0..=2 {
            // SAFETY: replaces a standard stream of a process that is to be silent.
            unsafe { libc::dup2(null.as_raw_fd(), stream) };
        }
        Ok(())
    };
    // Without it, it is heard.
    let _ = silent();
    // SAFETY: the process ends by this signal if it does not end by itself.
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
    // SAFETY: this is what whoever restores a process does; the texts stay for as long as the process.
    unsafe {
        RESTORED = Restored {
            argc: arguments.len() as u64 - 1,
            argv: arguments.leak().as_ptr() as u64,
            envp: libc::environ as u64,
            ignored_signals: 0,
        };
        resume::resume()
    }
}

/// Ends the interpreter with the program's frames on the stack, as an exception would that nobody catches; and the process.
///
/// # Safety
/// This is the main thread of a dry run, with the GIL.
pub unsafe fn end_here() -> ! {
    // SAFETY: this is the main thread, and it holds the GIL; the process ends before anybody could use the interpreter.
    unsafe {
        if let Err(raised) = own::module(c"cds.image.startup")
            .and_then(|startup| startup.attribute(c"warm_up")?.call(Vec::new()))
        {
            raised.report();
            libc::_exit(1);
        }
        raw::Py_FinalizeEx();
        dry_run_report::end();
        libc::_exit(1)
    }
}
