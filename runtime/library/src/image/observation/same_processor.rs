//! Traced processes run on the processor of their tracer. At any time, one of the two waits for the other. To wake up
//! an idle processor thousands of times takes as long as everything else that they do.
//!
//! A traced process cannot see this. It gets all of its processors back before it asks for them, and before it starts
//! another process or thread, which inherits them.

use std::collections::BTreeSet;
use std::ffi::c_long;

use rustix::process::Pid;
use rustix::thread::{CpuSet, sched_getaffinity, sched_getcpu, sched_setaffinity};

/// System calls before which a thread gets all of its processors back, because the new process or thread inherits them.
const INHERITING: [c_long; 4] = [
    libc::SYS_clone,
    libc::SYS_clone3,
    libc::SYS_fork,
    libc::SYS_vfork,
];
/// Files below this directory show which processors a process may use, or has used.
const TELLING: &[u8] = b"/proc";
/// Files and directories of `/proc/PID` that do not. The code that takes images uses many of them.
const NOT_TELLING: [&[u8]; 13] = [
    b"attr",
    b"cgroup",
    b"cmdline",
    b"comm",
    b"coredump_filter",
    b"fd",
    b"limits",
    b"loginuid",
    b"maps",
    b"mem",
    b"ns",
    b"oom_score_adj",
    b"timers",
];

/// The processor of this thread, and the tracees that are bound to it.
pub struct SameProcessor {
    /// The processors that the tracees may use when they are not bound.
    all: CpuSet,
    one: CpuSet,
    bound: BTreeSet<i32>,
    /// Whether no further thread may be bound.
    is_over: bool,
}

impl SameProcessor {
    /// Binds this thread to one of the processors of the process that it is going to trace. If this fails, no other
    /// thread is ever bound.
    pub fn with(process: i32) -> Self {
        let all = sched_getaffinity(Pid::from_raw(process)).unwrap_or_default();
        let here = sched_getcpu();
        let mut one = CpuSet::new();
        let is_one_of_several = here < CpuSet::MAX_CPU && all.is_set(here) && all.count() > 1;
        if is_one_of_several {
            one.set(here);
        }
        Self {
            all,
            is_over: !is_one_of_several || sched_setaffinity(None, &one).is_err(),
            one,
            bound: BTreeSet::new(),
        }
    }

    /// Releases threads, if the system call that a thread is about to make requires it.
    pub fn calls(&mut self, thread: i32, number: c_long) {
        match number {
            // The call may ask about another thread.
            libc::SYS_sched_getaffinity => self.release_all(),
            // The executed program may ask for its processors, and is not traced.
            libc::SYS_sched_setaffinity | libc::SYS_execve | libc::SYS_execveat => {
                self.release_all();
                self.is_over = true;
            }
            _ if INHERITING.contains(&number) => self.release(thread),
            _ => {}
        }
    }

    /// Binds or releases threads, depending on the path that a thread is about to use.
    pub fn uses(&mut self, thread: i32, path: &[u8]) {
        if is_telling(path) {
            self.release_all();
            return;
        }
        let is_bound = self.is_over || self.bound.contains(&thread);
        if path.starts_with(b"/") && !is_bound && set(thread, &self.one) {
            self.bound.insert(thread);
        }
    }

    /// Gives a thread all of its processors back.
    pub fn release(&mut self, thread: i32) {
        if self.bound.remove(&thread) {
            set(thread, &self.all);
        }
    }

    fn release_all(&mut self) {
        for thread in std::mem::take(&mut self.bound) {
            set(thread, &self.all);
        }
    }

    /// Forgets a thread that has ended or is no longer traced.
    pub fn forget(&mut self, thread: i32) {
        self.bound.remove(&thread);
    }
}

fn is_telling(path: &[u8]) -> bool {
    let Some(below) = path.strip_prefix(TELLING) else {
        return false;
    };
    // A slash comes first, then the process. `..` can lead anywhere below `/proc`.
    let mut parts = below.split(|&byte| byte == b'/');
    let is_known = (parts.nth(2)).is_some_and(|name| NOT_TELLING.contains(&name));
    !is_known || parts.any(|part| part == b"..")
}

/// Sets the processors of a thread. Returns false if the thread has ended, or has other privileges now.
fn set(thread: i32, processors: &CpuSet) -> bool {
    sched_setaffinity(Pid::from_raw(thread), processors).is_ok()
}
