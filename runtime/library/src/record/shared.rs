//! Memory that a run writes its record to, and that the process which renews the archive reads.
//!
//! A run writes without system calls: a program may have installed a filter that kills the process for a call that stock
//! CPython does not make at this point (seccomp(2)), and may have limits for files.

use std::fs::File;
use std::io::{Error, ErrorKind, Result};
use std::mem::ManuallyDrop;

use memmap2::{Advice, MmapMut};
use rustix::fs::{FlockOperation, MemfdFlags, flock};
use rustix::mm::madvise;
use rustix::process::{Resource, getrlimit};
use startup_image::PAGE;

/// The greatest number of bytes in a record. The kernel only provides those that are written to.
const MOST_BYTES: usize = 4 << 20;

/// The memory of this process's record.
///
/// A lock (flock(2)) shows whether the run has ended: the mapping keeps the file open, and with it the lock, until the
/// process ends or executes another program. Forked processes do not get the mapping.
pub struct Shared {
    // A forked process must not unmap what it has not got.
    memory: ManuallyDrop<MmapMut>,
    used: usize,
    own: OwnMark,
}

impl Shared {
    /// Creates the memory. The file is for the process that reads it.
    pub fn create() -> Result<(Self, File)> {
        // With a lower limit, the kernel could send SIGXFSZ (setrlimit(2)).
        let limit = getrlimit(Resource::Fsize).current;
        if limit.is_some_and(|limit| limit < MOST_BYTES as u64) {
            return Err(Error::from(ErrorKind::FileTooLarge));
        }
        let file = File::from(rustix::fs::memfd_create("cds_run", MemfdFlags::CLOEXEC)?);
        file.set_len(MOST_BYTES as u64)?;
        flock(&file, FlockOperation::NonBlockingLockExclusive)?;
        // SAFETY: nobody else has the file. The process that will get it does not make it shorter.
        let memory = unsafe { MmapMut::map_mut(&file) }?;
        memory.advise(Advice::DontFork)?;
        let shared = Self {
            memory: ManuallyDrop::new(memory),
            used: 0,
            own: OwnMark::create()?,
        };
        Ok((shared, file))
    }

    /// Whether this process has created the memory, and is not a fork of the process that has.
    pub fn is_of_this_process(&self) -> bool {
        self.own.is_set()
    }

    /// Adds bytes if there is room, and if this process has created the memory.
    pub fn append(&mut self, bytes: &[u8]) {
        if !self.is_of_this_process() {
            return;
        }
        let room = self.memory.get_mut(self.used..);
        if let Some(room) = room.and_then(|room| room.get_mut(..bytes.len())) {
            room.copy_from_slice(bytes);
            self.used += bytes.len();
        }
    }
}

/// A mark that forked processes do not get. Unlike the process id, it can be read without a system call.
struct OwnMark(MmapMut);

impl OwnMark {
    fn create() -> Result<Self> {
        const WIPE: rustix::mm::Advice = rustix::mm::Advice::LinuxWipeOnFork;
        let mut mark = MmapMut::map_anon(1)?;
        // SAFETY: the advice only changes what a forked process gets, and the page is this value's own.
        unsafe { madvise(mark.as_mut_ptr().cast(), PAGE as usize, WIPE) }?;
        mark[0] = 1;
        Ok(Self(mark))
    }

    fn is_set(&self) -> bool {
        self.0[0] != 0
    }
}
