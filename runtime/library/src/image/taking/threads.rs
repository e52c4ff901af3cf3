//! Threads that a fork loses. Python does not know the threads of native code, so the kernel is asked for them.
//!
//! Handlers of `pthread_atfork(3)` may stop threads before a fork. Only the threads count that are left when all of
//! these handlers have run. They run in the reverse order of their registration. So a handler that was registered
//! before any library was loaded runs last, and sees the threads that are left.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Error, Write};
use std::mem::MaybeUninit;
use std::os::unix::fs::FileExt;
use std::sync::Once;
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicUsize, Ordering};
use std::time::Duration;

use rustix::fd::OwnedFd;
use rustix::fs::{Mode, OFlags, RawDir};

use super::memory_map::{self, EXECUTE, Mapping};

/// Threads that a forked process does not need, or creates again.
struct Expendable {
    /// The name of the thread; none if it has no name of its own.
    name: Option<&'static str>,
    /// The start of the name of the file whose code it runs; empty for any file.
    file: &'static str,
}

/// Only threads belong here that tests have shown to be expendable in restored processes
/// (`libraries_that_survive_a_fork` in `tests/tests/image_process.rs`). OpenBLAS needs no entry: it stops its threads.
const EXPENDABLE: &[Expendable] = &[
    // jemalloc's own handler makes forked processes give memory back without this thread.
    Expendable {
        name: Some("jemalloc_bg_thd"),
        file: "",
    },
    // pyarrow creates the threads of its pools again in a forked process.
    Expendable {
        name: None,
        file: "libarrow.so",
    },
];

/// The largest number of threads that a message names.
const MOST_NAMED: usize = 3;
/// The largest number of threads that the handler stores.
const MOST: usize = 64;

/// The number of attempts to read the stack pointer of a thread. The kernel shows it only while the thread waits.
const TRIES: usize = 20;
const BETWEEN_TRIES: Duration = Duration::from_millis(10);

/// Whether the handler records threads.
static IS_WATCHING: AtomicBool = AtomicBool::new(false);
static COUNT: AtomicUsize = AtomicUsize::new(0);
static FOUND: [AtomicI32; MOST] = [const { AtomicI32::new(0) }; MOST];

/// Registers the handler, so that it runs last at each fork. Called before other libraries are loaded.
pub fn watch_forks() {
    static REGISTERED: Once = Once::new();
    // SAFETY: the handler is a function of this library, which is never unloaded.
    REGISTERED.call_once(|| unsafe {
        libc::pthread_atfork(Some(look), None, None);
    });
}

/// Forks with `fork`, which returns the result of `fork(2)`. Returns the same result. In the parent, also returns a
/// text that names the threads that the child has lost.
pub fn watched(fork: impl FnOnce() -> i32) -> (i32, Option<String>) {
    COUNT.store(0, Ordering::Relaxed);
    IS_WATCHING.store(true, Ordering::Relaxed);
    let child = fork();
    IS_WATCHING.store(false, Ordering::Relaxed);
    if child == 0 {
        // Threads in the child prevent an image. The message names their libraries, which are known only after the
        // threads have called a function. So the child waits for each thread.
        let _ = each_thread(|_| std::thread::sleep(BETWEEN_TRIES));
    }
    if child <= 0 {
        return (child, None);
    }
    let count = COUNT.load(Ordering::Relaxed);
    let found: Vec<i32> = FOUND[..count.min(MOST)]
        .iter()
        .map(|thread| thread.load(Ordering::Relaxed))
        .filter(|&thread| thread != 0)
        .collect();
    (child, named(&found, count))
}

/// Fails if a process that is to be frozen has more than one thread: handlers of `pthread_atfork(3)` may have started
/// threads in it.
pub fn must_have_one(process: i32) -> io::Result<()> {
    let entries = fs::read_dir(format!("/proc/{process}/task"))?;
    let threads: Vec<i32> = entries
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .filter(|&thread| thread != process)
        .collect();
    if threads.is_empty() {
        return Ok(());
    }
    Err(Error::other(format!(
        "the process was forked, and handlers of pthread_atfork() have started {}",
        texts(by_library(process, &threads)).join("; ")
    )))
}

/// The handler. It allocates no memory, because other threads may have locked the allocator.
unsafe extern "C" fn look() {
    if IS_WATCHING.load(Ordering::Relaxed) && each_thread(note).is_err() {
        // The threads cannot be listed, so the process counts as having unknown threads.
        COUNT.store(MOST + 1, Ordering::Relaxed);
    }
}

fn gettid() -> i32 {
    // SAFETY: the call has no arguments and changes nothing.
    unsafe { libc::gettid() }
}

fn note(thread: i32) {
    let index = COUNT.fetch_add(1, Ordering::Relaxed);
    if let Some(place) = FOUND.get(index) {
        place.store(thread, Ordering::Relaxed);
    }
}

/// Calls a function with the id of each other thread that is not about to end.
fn each_thread(mut found: impl FnMut(i32)) -> rustix::io::Result<()> {
    let own = gettid();
    let directory = open("/proc/self/task", OFlags::DIRECTORY)?;
    let mut buffer = [MaybeUninit::uninit(); 2048];
    let mut entries = RawDir::new(directory, &mut buffer);
    while let Some(entry) = entries.next() {
        let name = entry?;
        let thread = name
            .file_name()
            .to_str()
            .ok()
            .and_then(|name| name.parse().ok());
        if let Some(thread) = thread
            && thread != own
            && !is_ending(thread)
        {
            found(thread);
        }
    }
    Ok(())
}

/// Whether a thread has ended or runs no more code of the program. The kernel may still list a thread that was joined.
fn is_ending(thread: i32) -> bool {
    const PF_EXITING: u64 = 4;
    let mut path = [0; 48];
    let mut text = [0; 512];
    // Such a path always fits.
    if write!(&mut path[..], "/proc/self/task/{thread}/stat").is_err() {
        return false;
    }
    let end = path.iter().position(|&byte| byte == 0).unwrap_or(0);
    let Ok(path) = std::str::from_utf8(&path[..end]) else {
        return false;
    };
    let read =
        open(path, OFlags::empty()).and_then(|file| rustix::io::read(file, text.as_mut_slice()));
    let text = match read {
        Ok(bytes) => &text[..bytes],
        Err(error) => return matches!(error, rustix::io::Errno::NOENT | rustix::io::Errno::SRCH),
    };
    // After the name come state, ppid, pgrp, session, tty_nr, tpgid, flags (proc(5)).
    let rest = text.rsplit(|&byte| byte == b')').next().unwrap_or_default();
    let flags = std::str::from_utf8(rest)
        .ok()
        .and_then(|rest| rest.split_ascii_whitespace().nth(6)?.parse::<u64>().ok());
    flags.is_some_and(|flags| flags & PF_EXITING != 0)
}

fn open(path: &str, flags: OFlags) -> rustix::io::Result<OwnedFd> {
    rustix::fs::open(
        path,
        flags | OFlags::RDONLY | OFlags::CLOEXEC,
        Mode::empty(),
    )
}

/// Names the threads that matter, by the library whose code they run; none if no thread matters.
fn named(threads: &[i32], count: usize) -> Option<String> {
    let mut libraries = by_library(std::process::id() as i32, threads);
    for (library, names) in &mut libraries {
        names.retain(|name| !is_expendable(name, library));
    }
    libraries.retain(|_, names| !names.is_empty());
    let mut texts = texts(libraries);
    if count > threads.len() {
        texts.push("other threads".to_owned());
    }
    (!texts.is_empty()).then(|| texts.join("; "))
}

/// The names of the threads of a process, grouped by the file whose code they run.
fn by_library(process: i32, threads: &[i32]) -> BTreeMap<String, Vec<String>> {
    let inspected = Process::open(process);
    let mut libraries: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for &thread in threads {
        let library = inspected.as_ref().ok().and_then(|it| it.library(thread));
        let library = library.unwrap_or_else(|| "an unknown library".to_owned());
        libraries.entry(library).or_default().push(comm(thread));
    }
    libraries
}

fn texts(libraries: BTreeMap<String, Vec<String>>) -> Vec<String> {
    libraries
        .into_iter()
        .map(|(library, names)| of_library(&library, names))
        .collect()
}

fn of_library(library: &str, mut names: Vec<String>) -> String {
    let count = names.len();
    names.sort();
    names.dedup();
    names.truncate(MOST_NAMED);
    match count {
        1 => format!("a thread of {library} ({})", names.join(", ")),
        _ => format!("{count} threads of {library} ({})", names.join(", ")),
    }
}

fn is_expendable(name: &str, library: &str) -> bool {
    let file = library.rsplit('/').next().unwrap_or_default();
    EXPENDABLE.iter().any(|known| {
        let is_named = known.name.map_or_else(
            || name == comm(std::process::id() as i32),
            |known| name == known,
        );
        is_named && file.starts_with(known.file)
    })
}

/// The name of a thread.
fn comm(thread: i32) -> String {
    let name = fs::read(format!("/proc/{thread}/comm")).unwrap_or_default();
    String::from_utf8_lossy(&name).trim_end().to_owned()
}

/// A process whose threads are inspected.
struct Process {
    id: i32,
    mappings: Vec<Mapping>,
    memory: File,
}

impl Process {
    fn open(id: i32) -> io::Result<Self> {
        Ok(Self {
            id,
            mappings: memory_map::of_process(&id.to_string())?,
            memory: File::open(format!("/proc/{id}/mem"))?,
        })
    }

    /// The file whose code a thread runs. The first function of the thread has its return address highest on the stack.
    fn library(&self, thread: i32) -> Option<String> {
        let (start, end) = self.stack(thread)?;
        let words = words(&self.memory, start, end);
        let mut calls = words
            .iter()
            .rev()
            .filter(|&&word| self.is_behind_call(word));
        let first = calls.find_map(|&word| self.code_of_library(word))?;
        Some(first.to_owned())
    }

    /// The file that contains an address of code, unless it is a library that starts threads for other libraries.
    fn code_of_library(&self, address: u64) -> Option<&str> {
        const CARRIERS: &[&str] = &[
            "libc.so",
            "libc-",
            "libpthread",
            "ld-linux",
            "libstdc++",
            "libc++",
            "libgcc_s",
        ];
        let mapping = self.containing(address)?;
        let file = mapping.name.rsplit('/').next()?;
        let is_code = mapping.protection & EXECUTE != 0 && mapping.name.starts_with('/');
        let is_carrier = CARRIERS.iter().any(|start| file.starts_with(start));
        (is_code && !is_carrier).then_some(&mapping.name)
    }

    fn containing(&self, address: u64) -> Option<&Mapping> {
        let index = self
            .mappings
            .partition_point(|mapping| mapping.end <= address);
        let mapping = self.mappings.get(index);
        mapping.filter(|mapping| mapping.start <= address)
    }

    /// Whether an address follows a call instruction (`call rel32`, or a call through a register or memory).
    fn is_behind_call(&self, address: u64) -> bool {
        const LONGEST: usize = 7;
        let mut code = [0; LONGEST];
        let start = address.saturating_sub(LONGEST as u64);
        if self.code_of_library(address).is_none()
            || self.memory.read_exact_at(&mut code, start).is_err()
        {
            return false;
        }
        let is_indirect = |length: usize| {
            code[LONGEST - length] == 0xff && code[LONGEST - length + 1] & 0x38 == 0x10
        };
        code[LONGEST - 5] == 0xe8 || (2..=LONGEST).any(is_indirect)
    }

    /// The used part of the stack of a thread: from the stack pointer to glibc's `struct pthread`. This struct has its
    /// own address at two known places, and the id of the thread at the same place as the struct of this thread.
    fn stack(&self, thread: i32) -> Option<(u64, u64)> {
        const OWN_ADDRESSES: [usize; 2] = [0, 2];
        // The largest size of glibc's `struct pthread`.
        const BYTES: u64 = 0xa00;
        let own = File::open("/proc/self/mem").ok()?;
        let pointer = thread_pointer();
        let own = words(&own, pointer, pointer + BYTES);
        let id_at = own.iter().position(|&word| word as i32 == gettid())?;
        let start = self.stack_pointer(thread)? & !7;
        let above = words(&self.memory, start, self.containing(start)?.end);
        let is_end = |index: usize| {
            let address = start + 8 * index as u64;
            OWN_ADDRESSES
                .iter()
                .all(|distance| above.get(index + distance) == Some(&address))
                && above.get(index + id_at).map(|&word| word as i32) == Some(thread)
        };
        let index = (0..above.len()).find(|&index| is_end(index))?;
        Some((start, start + 8 * index as u64))
    }

    /// The stack pointer of a thread that waits in a system call or is stopped.
    fn stack_pointer(&self, thread: i32) -> Option<u64> {
        for _ in 0..TRIES {
            let path = format!("/proc/{}/task/{thread}/syscall", self.id);
            let text = fs::read_to_string(path).ok()?;
            // The stack pointer is the last word but one. For a running thread there are no such words.
            if let Some(word) = text.split_ascii_whitespace().rev().nth(1) {
                return u64::from_str_radix(word.trim_start_matches("0x"), 16).ok();
            }
            std::thread::sleep(BETWEEN_TRIES);
        }
        None
    }
}

/// The words in a range of memory; empty if the range is no longer mapped.
fn words(memory: &File, start: u64, end: u64) -> Vec<u64> {
    let mut contents = vec![0; end.saturating_sub(start) as usize];
    if memory.read_exact_at(&mut contents, start).is_err() {
        return Vec::new();
    }
    let words = contents.as_chunks().0.iter();
    words.map(|word| u64::from_ne_bytes(*word)).collect()
}

/// The thread pointer, which the C library keeps at its own address.
pub fn thread_pointer() -> u64 {
    let pointer;
    // SAFETY: the first word of the thread's control block (glibc's `tcbhead_t.tcb`) is readable. Nothing is written.
    unsafe { std::arch::asm!("mov {}, fs:[0]", out(reg) pointer, options(nostack, readonly)) };
    pointer
}
