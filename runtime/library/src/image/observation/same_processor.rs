//! Processes that are traced run on the processor of their tracer. Of the two, one always waits for the other: to wake
//! up a processor that idles, thousands of times, costs as much as all else that is done.
//!
//! A process does not see that. It gets all of its processors back before it asks which they are, and before it starts
//! others, which have as many as it has.

use std::collections::BTreeSet;
use std::ffi::c_long;

use rustix::process::Pid;
use rustix::thread::{CpuSet, sched_getaffinity, sched_getcpu, sched_setaffinity};

/// Calls before which a thread gets all of its processors back, as what it starts has as many.
const INHERITING: [c_long; 4] = [
    libc::SYS_clone,
    libc::SYS_clone3,
    libc::SYS_fork,
    libc::SYS_vfork,
];
/// Files below this directory say which processors they are.
const TELLING: &[u8] = b"/proc";

/// The processor of this thread, and threads of other processes that it traces.
pub struct SameProcessor {
    /// What these have by themselves.
    all: CpuSet,
    one: CpuSet,
    bound: BTreeSet<i32>,
    /// Whether no thread is to be bound any more.
    is_over: bool,
}

impl SameProcessor {
    /// Binds this thread to one of the processors of a process that it is going to trace. If that cannot be done, no other
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

    /// Takes notice of a system call that a thread is about to make.
    pub fn calls(&mut self, thread: i32, number: c_long) {
        match number {
            // They may be about another thread.
            libc::SYS_sched_getaffinity => self.release_all(),
            // Another program may ask, which is not traced.
            libc::SYS_sched_setaffinity | libc::SYS_execve | libc::SYS_execveat => {
                self.release_all();
                self.is_over = true;
            }
            _ if INHERITING.contains(&number) => self.release(thread),
            _ => {}
        }
    }

    /// Takes notice of the path that a thread is about to use.
    pub fn uses(&mut self, thread: i32, path: &[u8]) {
        if path.starts_with(TELLING) {
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

    /// Takes notice that a thread has ended, or is not traced any more.
    pub fn forget(&mut self, thread: i32) {
        self.bound.remove(&thread);
    }
}

/// It fails if the thread has ended, or has got other rights.
fn set(thread: i32, processors: &CpuSet) -> bool {
    sched_setaffinity(Pid::from_raw(thread), processors).is_ok()
}
