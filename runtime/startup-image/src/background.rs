//! The process that renews an archive waits here, before it loads a library: until the run whose record it reads has
//! ended, and until it is its turn.

use alloc::vec::Vec;
use core::time::Duration;

use rustix::fd::{AsFd, BorrowedFd, IntoRawFd, OwnedFd, RawFd};
use rustix::fs::{CWD, FlockOperation, Mode, OFlags, flock, openat};
use rustix::io::{FdFlags, fcntl_dupfd_cloexec, fcntl_setfd};
use rustix::process::setpriority_process;
use rustix::thread::nanosleep;
use rustix::time::Timespec;

use crate::command_line::CommandLine;
use crate::start::Start;
#[cfg(target_arch = "x86_64")]
use crate::system_call;

/// The name of the option (`-X`) that makes a process wait.
pub const OPTION: &str = "cds_after_run";

/// The file descriptor of the record (runtime/library/src/record/shared.rs).
pub const RECORD: RawFd = 3;
/// The file descriptor of a file. Only the process that has locked it renews archives.
pub const BUILDING: RawFd = 4;
/// The file descriptor of a lock that the run has taken, if there is one.
pub const TURN: RawFd = 5;

const NICENESS: i32 = 19;
/// The record of a program that runs for longer is used while it runs: a server may run until the machine is switched off.
const MOST_FOR_THE_RUN: Duration = Duration::from_secs(60);
const MOST_FOR_OTHERS: Duration = Duration::from_mins(10);
const FIRST_PAUSE: Duration = Duration::from_millis(1);
const LONGEST_PAUSE: Duration = Duration::from_millis(250);

/// Whether this process was started to renew an archive after a run. A program can have an argument like the option.
pub fn is_asked_for(start: &Start) -> bool {
    let option = |text: &&[u8]| text.strip_prefix(b"-X") == Some(OPTION.as_bytes());
    let arguments: Vec<&[u8]> = start.arguments.iter().map(|text| text.to_bytes()).collect();
    arguments.iter().any(option)
        && CommandLine::parse(&arguments).is_some_and(|line| line.cds(OPTION).is_some())
}

/// Waits. Returns whether the process may go on. The record stays open as [`RECORD`]. Without a record, there is nothing
/// to wait for.
pub fn wait() -> bool {
    // Both calls may be refused.
    let _ = setpriority_process(None, NICENESS);
    #[cfg(target_arch = "x86_64")]
    {
        make_idle();
        crate::signals::reset_internal_signals();
    }
    let Some(record) = reopened() else {
        return true;
    };
    // If the run does not end, what it has recorded up to now is used.
    wait_for_lock(&record, MOST_FOR_THE_RUN);
    // SAFETY: this process was started with this descriptor, and closes it nowhere.
    let (building, turn) = unsafe {
        (
            BorrowedFd::borrow_raw(BUILDING),
            BorrowedFd::borrow_raw(TURN),
        )
    };
    let _ = fcntl_setfd(turn, FdFlags::CLOEXEC);
    let is_ready =
        fcntl_setfd(building, FdFlags::CLOEXEC).is_ok() && wait_for_lock(building, MOST_FOR_OTHERS);
    // The lowest free number is that of the record. It stays open.
    is_ready
        && fcntl_dupfd_cloexec(&record, RECORD)
            .map(IntoRawFd::into_raw_fd)
            .is_ok()
}

/// The record, opened again: the lock of the run belongs to what the run has opened.
fn reopened() -> Option<OwnedFd> {
    let flags = OFlags::RDWR | OFlags::CLOEXEC;
    let record = openat(CWD, c"/proc/self/fd/3", flags, Mode::empty()).ok()?;
    // SAFETY: this process was started with this descriptor, and nothing else refers to it.
    unsafe { rustix::io::close(RECORD) };
    Some(record)
}

/// Locks a file when no other process has locked it. Returns false if that takes too long.
fn wait_for_lock(file: impl AsFd, most: Duration) -> bool {
    let mut pause = FIRST_PAUSE;
    let mut waited = Duration::ZERO;
    while flock(&file, FlockOperation::NonBlockingLockExclusive).is_err() {
        if waited >= most {
            return false;
        }
        sleep(pause);
        waited += pause;
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
    true
}

fn sleep(pause: Duration) {
    let Ok(pause) = Timespec::try_from(pause) else {
        return;
    };
    // If it is interrupted, the wait is shorter.
    let _ = nanosleep(&pause);
}

/// Gives this process the lowest priority for the disk: only if no other process needs it (ioprio_set(2)).
#[cfg(target_arch = "x86_64")]
fn make_idle() {
    const SYS_IOPRIO_SET: u64 = libc::SYS_ioprio_set as u64;
    const IOPRIO_WHO_PROCESS: u64 = 1;
    const IOPRIO_CLASS_IDLE: u64 = 3 << 13;
    // SAFETY: the call takes numbers. Zero is this process. If it is refused, the process keeps its priority.
    unsafe {
        system_call::call(
            SYS_IOPRIO_SET,
            &[IOPRIO_WHO_PROCESS, 0, IOPRIO_CLASS_IDLE, 0, 0, 0],
        )
    };
}
