//! If a restored process dies of a signal that shows a broken process, its program gets no image any more.
//!
//! The process notes this in the entry of its program when the signal arrives, and dies of the signal then: nothing else
//! can tell later what it died of. Processes can see that there is a handler (`SigCgt` in `/proc/self/status`); Python
//! code sees the default action.

use std::ffi::{CString, c_char, c_int, c_void};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::ptr;
use std::sync::atomic::{AtomicPtr, Ordering};

use startup_image::cache::CRASHED;

/// The signals by which a process dies that runs wrong code or has wrong data.
const SIGNALS: [c_int; 4] = [libc::SIGSEGV, libc::SIGBUS, libc::SIGILL, libc::SIGABRT];

/// The file that notes a crash.
static NOTE: AtomicPtr<c_char> = AtomicPtr::new(ptr::null_mut());

/// Watches for crashes of this process. Signals with a handler of the program are left alone.
pub fn watch(entry: &Path) {
    let path = [entry.as_os_str().as_bytes(), CRASHED].concat();
    let Ok(path) = CString::new(path) else {
        return;
    };
    NOTE.store(path.into_raw(), Ordering::Release);
    for signal in SIGNALS {
        let handler = crashed as extern "C" fn(_, _, _);
        // SAFETY: the structures are initialized. The handler only makes system calls.
        unsafe {
            let mut action: libc::sigaction = std::mem::zeroed();
            if libc::sigaction(signal, ptr::null(), &raw mut action) == 0
                && action.sa_sigaction == libc::SIG_DFL
            {
                action.sa_sigaction = handler as usize;
                action.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK;
                libc::sigaction(signal, &raw const action, ptr::null_mut());
            }
        }
    }
}

extern "C" fn crashed(signal: c_int, information: *mut libc::siginfo_t, _context: *mut c_void) {
    /// A page of memory was lost (sigaction(2)). The process need not have used it.
    const BUS_MCEERR_AO: c_int = 5;
    // SAFETY: these are system calls that a handler may make (signal-safety(7)). The path is never freed, and the kernel
    // passes the information.
    unsafe {
        let flags = libc::O_WRONLY | libc::O_CREAT | libc::O_CLOEXEC | libc::O_NOFOLLOW;
        let file = libc::open(NOTE.load(Ordering::Acquire), flags, 0o600);
        if file >= 0 {
            let digits = [
                b'0' + (signal / 10) as u8,
                b'0' + (signal % 10) as u8,
                b'\n',
            ];
            libc::write(file, digits.as_ptr().cast(), digits.len());
            libc::close(file);
        }
        let mut default: libc::sigaction = std::mem::zeroed();
        default.sa_sigaction = libc::SIG_DFL;
        libc::sigaction(signal, &raw const default, ptr::null_mut());
        let code = (*information).si_code;
        if code <= 0 || signal == libc::SIGBUS && code == BUS_MCEERR_AO {
            // Somebody has sent the signal. Otherwise the instruction that has caused it runs again.
            let (process, thread) = (libc::getpid(), libc::gettid());
            libc::syscall(libc::SYS_tgkill, process, thread, signal);
        }
    }
}
