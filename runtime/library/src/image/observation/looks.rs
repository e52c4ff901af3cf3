//! Looks: system calls by which a process asks for what differs from run to run, or does what others can see.
//!
//! A restored process finds what was found when the image was taken. A call is harmless if the key of the image
//! compares the result, if the result is renewed when a process is restored, or if the call concerns only the process
//! itself. All other calls count, also calls that are unknown here.

use std::ffi::{OsStr, c_int, c_long};
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::sync::LazyLock;

use startup_image::facts::{self, Fact};

use super::breakpoints;
use super::tracee::{absolute, registers, text, word};
use crate::cpython::image;
use crate::cpython::object::{Object, Result};
use crate::image::taking::memory_dump;
use crate::image::taking::memory_map;

/// Makes lists report who reads them. `watch` is a `cds.image.looks.Watch`.
///
/// # Errors
/// `watch` is another object.
pub fn watch(watch: &Object) -> Result<()> {
    for (list, watched) in lists(watch)? {
        // SAFETY: `list` is a list, and `watched` is a subclass of `list` with the same layout.
        unsafe { image::set_type(&list, &watched) };
    }
    Ok(())
}

/// Makes the lists plain lists again.
///
/// # Errors
/// `watch` is another object.
pub fn end_watch(watch: &Object) -> Result<()> {
    let plain = Object::import(c"builtins")?.attribute(c"list")?;
    for (list, _) in lists(watch)? {
        // SAFETY: the object was a plain list before `watch()` changed its class, and has the same layout.
        unsafe { image::set_type(&list, &plain) };
    }
    Ok(())
}

fn lists(watch: &Object) -> Result<Vec<(Object, Object)>> {
    let lists = watch.attribute(c"lists")?.to_items()?;
    let pairs = lists.iter().map(|pair| {
        let mut items = pair.to_items()?.into_iter();
        Ok(items.next().zip(items.next()))
    });
    let pairs: Vec<_> = pairs.collect::<Result<_>>()?;
    Ok(pairs.into_iter().flatten().collect())
}

/// Harmless system calls. They concern only the process, its memory and threads, or they read files or what the key
/// compares: the user, the number of processors, the working directory.
const HARMLESS: [c_long; 84] = [
    libc::SYS_access,
    libc::SYS_arch_prctl,
    libc::SYS_brk,
    libc::SYS_capget,
    libc::SYS_chdir,
    libc::SYS_clock_getres,
    libc::SYS_close,
    libc::SYS_dup,
    libc::SYS_dup2,
    libc::SYS_dup3,
    libc::SYS_epoll_create,
    libc::SYS_epoll_create1,
    libc::SYS_epoll_ctl,
    libc::SYS_epoll_pwait,
    libc::SYS_epoll_wait,
    libc::SYS_eventfd,
    libc::SYS_eventfd2,
    libc::SYS_execve,
    libc::SYS_execveat,
    libc::SYS_exit,
    libc::SYS_exit_group,
    libc::SYS_faccessat,
    libc::SYS_faccessat2,
    libc::SYS_fadvise64,
    libc::SYS_fchdir,
    libc::SYS_futex,
    libc::SYS_get_mempolicy,
    libc::SYS_get_robust_list,
    libc::SYS_getcpu,
    libc::SYS_getcwd,
    libc::SYS_getdents64,
    libc::SYS_getegid,
    libc::SYS_geteuid,
    libc::SYS_getgid,
    libc::SYS_getitimer,
    libc::SYS_getresgid,
    libc::SYS_getresuid,
    libc::SYS_getuid,
    libc::SYS_getxattr,
    libc::SYS_inotify_init1,
    libc::SYS_lstat,
    libc::SYS_madvise,
    libc::SYS_mbind,
    libc::SYS_membarrier,
    libc::SYS_memfd_create,
    libc::SYS_mincore,
    libc::SYS_mlock,
    libc::SYS_mprotect,
    libc::SYS_mremap,
    libc::SYS_munlock,
    libc::SYS_munmap,
    libc::SYS_pipe,
    libc::SYS_pipe2,
    libc::SYS_pkey_alloc,
    libc::SYS_pkey_free,
    libc::SYS_pkey_mprotect,
    libc::SYS_poll,
    libc::SYS_ppoll,
    libc::SYS_pread64,
    libc::SYS_preadv,
    libc::SYS_process_madvise,
    libc::SYS_pselect6,
    libc::SYS_readahead,
    libc::SYS_readlink,
    libc::SYS_readlinkat,
    libc::SYS_restart_syscall,
    libc::SYS_rseq,
    libc::SYS_rt_sigaction,
    libc::SYS_rt_sigpending,
    libc::SYS_rt_sigprocmask,
    libc::SYS_rt_sigreturn,
    libc::SYS_sched_yield,
    libc::SYS_select,
    libc::SYS_set_robust_list,
    libc::SYS_set_tid_address,
    libc::SYS_setitimer,
    libc::SYS_sigaltstack,
    libc::SYS_signalfd4,
    libc::SYS_socketpair,
    libc::SYS_stat,
    libc::SYS_statx,
    libc::SYS_timerfd_create,
    libc::SYS_wait4,
    libc::SYS_waitid,
];

/// System calls that count whatever their arguments are. Facts among them are compared instead, unless the module is
/// known not to keep them.
const COUNTING: [(c_long, &str); 28] = [
    (libc::SYS_bind, NETWORK),
    (libc::SYS_clock_gettime, CLOCK),
    (libc::SYS_clock_nanosleep, SLEEP),
    (libc::SYS_close_range, DESCRIPTOR),
    (libc::SYS_connect, NETWORK),
    (libc::SYS_fstatfs, "the free space of a file system"),
    (libc::SYS_getgroups, Fact::Groups.name()),
    (libc::SYS_getpgid, "its process group"),
    (libc::SYS_getpgrp, "its process group"),
    (libc::SYS_getpid, "the process id"),
    (libc::SYS_getppid, "the process id of the parent"),
    (libc::SYS_getpriority, "its priority"),
    (libc::SYS_getrusage, "its resource usage"),
    (libc::SYS_getsid, "its session"),
    (libc::SYS_gettimeofday, CLOCK),
    (libc::SYS_kill, "a signal to another process"),
    (libc::SYS_listen, NETWORK),
    (libc::SYS_nanosleep, SLEEP),
    (libc::SYS_pause, SLEEP),
    (libc::SYS_sched_getparam, "its priority"),
    (libc::SYS_sched_getscheduler, "its priority"),
    (libc::SYS_sendto, NETWORK),
    (libc::SYS_socket, NETWORK),
    (libc::SYS_statfs, "the free space of a file system"),
    (libc::SYS_time, CLOCK),
    (libc::SYS_times, "its resource usage"),
    (libc::SYS_umask, Fact::Umask.name()),
    (libc::SYS_uname, Fact::System.name()),
];

/// System calls that change the file system, with the index of the argument that is the path.
const CHANGING: [(c_long, usize); 18] = [
    (libc::SYS_chmod, 0),
    (libc::SYS_chown, 0),
    (libc::SYS_creat, 0),
    (libc::SYS_fchmodat, 1),
    (libc::SYS_fchownat, 1),
    (libc::SYS_link, 1),
    (libc::SYS_linkat, 3),
    (libc::SYS_mkdir, 0),
    (libc::SYS_mkdirat, 1),
    (libc::SYS_rename, 1),
    (libc::SYS_renameat, 3),
    (libc::SYS_renameat2, 3),
    (libc::SYS_rmdir, 0),
    (libc::SYS_symlink, 1),
    (libc::SYS_symlinkat, 2),
    (libc::SYS_unlink, 0),
    (libc::SYS_unlinkat, 1),
    (libc::SYS_utimensat, 1),
];

/// System calls that look at a file without opening it, with the indices of the arguments that are the directory and
/// the path.
const LOOKING: [(c_long, Option<usize>, usize); 11] = [
    (libc::SYS_access, None, 0),
    (libc::SYS_chdir, None, 0),
    (libc::SYS_faccessat, Some(0), 1),
    (libc::SYS_faccessat2, Some(0), 1),
    (libc::SYS_getxattr, None, 0),
    (libc::SYS_lstat, None, 0),
    (libc::SYS_newfstatat, Some(0), 1),
    (libc::SYS_readlink, None, 0),
    (libc::SYS_readlinkat, Some(0), 1),
    (libc::SYS_stat, None, 0),
    (libc::SYS_statx, Some(0), 1),
];

pub const CLOCK: &str = "the clock";
const NETWORK: &str = "the network";
const SLEEP: &str = "sleeping or waiting";
const DESCRIPTOR: &str = "a file descriptor that the process has not opened";

/// System calls whose first argument is a file descriptor. A process may inherit descriptors, but the process that
/// becomes an image inherits none.
const OF_DESCRIPTORS: [c_long; 25] = [
    libc::SYS_close,
    libc::SYS_dup,
    libc::SYS_dup2,
    libc::SYS_dup3,
    libc::SYS_faccessat,
    libc::SYS_faccessat2,
    libc::SYS_fadvise64,
    libc::SYS_fchdir,
    libc::SYS_fcntl,
    libc::SYS_fstat,
    libc::SYS_getdents64,
    libc::SYS_ioctl,
    libc::SYS_lseek,
    libc::SYS_newfstatat,
    libc::SYS_openat,
    libc::SYS_pread64,
    libc::SYS_preadv,
    libc::SYS_pwrite64,
    libc::SYS_pwritev,
    libc::SYS_read,
    libc::SYS_readlinkat,
    libc::SYS_readv,
    libc::SYS_statx,
    libc::SYS_write,
    libc::SYS_writev,
];
pub const RANDOM: &str = "random bytes";
pub const OUTPUT: &str = "the standard output";
pub const ERRORS: &str = "the standard error stream";

/// Names what a system call, which is about to be made, asks for or does; none if the call is harmless.
///
/// # Errors
/// The process has ended.
pub fn of_system_call(pid: i32, number: c_long, arguments: [u64; 6]) -> io::Result<Option<String>> {
    if OF_DESCRIPTORS.contains(&number) && !is_open(pid, arguments[0]) {
        return Ok(Some(DESCRIPTOR.to_owned()));
    }
    if uses_stream(pid, number, arguments) {
        return Ok(Some(STREAM.to_owned()));
    }
    if waits(pid, number, arguments) {
        return Ok(Some(SLEEP.to_owned()));
    }
    if let Some((_, directory, path)) = LOOKING.iter().find(|(looking, ..)| *looking == number) {
        let directory = directory.map_or(libc::AT_FDCWD, |place| arguments[place] as c_int);
        let path = text(pid, arguments[*path]).and_then(|path| absolute(pid, directory, path));
        if let Some(what) = path.and_then(|path| of_kernel(pid, &path, false)) {
            return Ok(Some(what));
        }
    }
    if HARMLESS.contains(&number) {
        return Ok(None);
    }
    if let Some((_, what)) = COUNTING.iter().find(|(counting, _)| *counting == number) {
        return Ok(Some((*what).to_owned()));
    }
    if let Some((_, path)) = CHANGING.iter().find(|(changing, _)| *changing == number) {
        return Ok(text(pid, arguments[*path]).and_then(|path| of_change(&path)));
    }
    let [first, second, third, ..] = arguments;
    let is = |is_counting: bool, what: &str| is_counting.then(|| what.to_owned());
    Ok(match number {
        libc::SYS_read | libc::SYS_readv => is(first == 0, "the standard input"),
        libc::SYS_open => of_opening(pid, libc::AT_FDCWD, text(pid, first), second),
        libc::SYS_openat => of_opening(pid, first as c_int, text(pid, second), third),
        libc::SYS_openat2 => {
            let flags = word(pid, third);
            of_opening(pid, first as c_int, text(pid, second), flags)
        }
        libc::SYS_mmap => {
            let is_shared = arguments[3] as c_int & libc::MAP_SHARED != 0;
            is(is_shared && third as c_int & libc::PROT_WRITE != 0, SHARED)
        }
        libc::SYS_write | libc::SYS_writev | libc::SYS_pwrite64 | libc::SYS_pwritev => {
            of_writing(pid, first)
        }
        libc::SYS_prlimit64 | libc::SYS_sched_getaffinity
            if ![0, pid].contains(&(first as i32)) =>
        {
            is(true, PROCESS)
        }
        libc::SYS_prlimit64 => is(second as c_int != libc::RLIMIT_STACK as c_int, LIMITS),
        libc::SYS_getrlimit => is(first as c_int != libc::RLIMIT_STACK as c_int, LIMITS),
        libc::SYS_clone => is(first as c_int & libc::CLONE_THREAD == 0, PROCESS),
        libc::SYS_clone3 => is(word(pid, first) as c_int & libc::CLONE_THREAD == 0, PROCESS),
        libc::SYS_fork | libc::SYS_vfork => is(true, PROCESS),
        // With GRND_INSECURE, the kernel may return bytes before it has collected enough entropy. Libraries use such
        // bytes only for secrets of hash tables, as Rust's standard library does.
        libc::SYS_getrandom => {
            let is_insecure = third as u32 & libc::GRND_INSECURE != 0;
            let caller = word(pid, registers(pid)?.rsp);
            is(!is_insecure || memory_dump::is_in_program(caller), RANDOM)
        }
        libc::SYS_ioctl => is(!HARMLESS_REQUESTS.contains(&second), "a device"),
        libc::SYS_fcntl => is(LOCKS.contains(&(second as c_int)), "a file lock"),
        libc::SYS_fstat | libc::SYS_lseek => None,
        libc::SYS_newfstatat => None,
        // `get_phys_pages` serves sysconf(_SC_PHYS_PAGES), which qsort(3) calls.
        libc::SYS_sysinfo => {
            let caller = word(pid, registers(pid)?.rsp);
            let is_total = breakpoints::is_within(pid, caller, c"get_phys_pages", 0x80)?;
            let load = "the load and memory of the machine";
            is(true, if is_total { Fact::Memory.name() } else { load })
        }
        // Libraries only count the processors, and the key compares their number. Python code gets the set.
        libc::SYS_sched_getaffinity => {
            let caller = word(pid, registers(pid)?.rsp);
            is(memory_dump::is_in_program(caller), Fact::Processors.name())
        }
        libc::SYS_prctl => is(!HARMLESS_OPTIONS.contains(&(first as c_int)), ATTRIBUTE),
        libc::SYS_ioprio_set
        | libc::SYS_personality
        | libc::SYS_sched_setaffinity
        | libc::SYS_sched_setparam
        | libc::SYS_sched_setscheduler
        | libc::SYS_set_mempolicy
        | libc::SYS_setpriority => is(true, ATTRIBUTE),
        // Libraries use the thread id only to distinguish their threads.
        libc::SYS_gettid => is(
            memory_dump::is_in_program(word(pid, registers(pid)?.rsp)),
            "the process id",
        ),
        libc::SYS_tgkill => is(first as i32 != pid, "a signal to another process"),
        _ => Some(format!("the system call {number}")),
    })
}

/// The file of the library that is about to get random bytes from `getrandom(3)`; none if the interpreter asks, or if
/// the library asks in another way.
///
/// # Errors
/// The process has ended.
pub fn library_that_draws(pid: i32) -> io::Result<Option<String>> {
    let registers = registers(pid)?;
    // At a call of `getrandom()`, the return address is on top of the stack. In other functions of the C library it is
    // not.
    if registers.orig_rax as c_long != libc::SYS_getrandom {
        return Ok(None);
    }
    let caller = word(pid, registers.rsp);
    if memory_dump::is_in_program(caller) {
        return Ok(None);
    }
    let mappings = memory_map::of_process(&pid.to_string())?;
    let mapping = mappings
        .into_iter()
        .find(|mapping| (mapping.start..mapping.end).contains(&caller));
    let name = mapping.map(|mapping| mapping.name);
    Ok(name.filter(|name| name.starts_with('/')))
}

/// Whether a system call uses the file descriptor of a standard stream, whose target differs between processes. Reading
/// and writing are looks of their own. Whether the stream is a terminal, and the size of the terminal, is compared.
fn uses_stream(pid: i32, number: c_long, arguments: [u64; 6]) -> bool {
    let is_stream = |descriptor: u64| (0..=2).contains(&(descriptor as c_int));
    let [first, second, third, fourth, fifth, _] = arguments;
    match number {
        libc::SYS_read
        | libc::SYS_readv
        | libc::SYS_write
        | libc::SYS_writev
        | libc::SYS_pwrite64
        | libc::SYS_pwritev => false,
        libc::SYS_ioctl => is_stream(first) && ![libc::TCGETS, libc::TIOCGWINSZ].contains(&second),
        // With a path, the call is about the path.
        libc::SYS_newfstatat | libc::SYS_statx => {
            is_stream(first) && text(pid, second).is_none_or(|path| path.is_empty())
        }
        libc::SYS_dup2 | libc::SYS_dup3 => is_stream(first) || is_stream(second),
        libc::SYS_mmap => fourth as c_int & libc::MAP_ANONYMOUS == 0 && is_stream(fifth),
        libc::SYS_epoll_ctl => is_stream(third),
        // `struct pollfd` begins with the descriptor, and has eight bytes.
        libc::SYS_poll | libc::SYS_ppoll => {
            let mut places = (0..second).map(|index| first + index * 8);
            places.any(|place| is_stream(word(pid, place)))
        }
        libc::SYS_select | libc::SYS_pselect6 => {
            let has_stream = |set: &u64| *set != 0 && word(pid, *set) & 0b111 != 0;
            first > 0 && [second, third, fourth].iter().any(has_stream)
        }
        number => OF_DESCRIPTORS.contains(&number) && is_stream(first),
    }
}

/// Whether a system call may wait for an event from outside of the process.
fn waits(pid: i32, number: c_long, arguments: [u64; 6]) -> bool {
    match number {
        libc::SYS_poll => arguments[2] as c_int != 0,
        libc::SYS_epoll_wait | libc::SYS_epoll_pwait => arguments[3] as c_int != 0,
        libc::SYS_ppoll => !is_no_time(pid, arguments[2]),
        libc::SYS_select | libc::SYS_pselect6 => !is_no_time(pid, arguments[4]),
        _ => false,
    }
}

/// Whether the `struct timespec` or `struct timeval` at an address is zero. A null pointer means no time limit.
fn is_no_time(pid: i32, place: u64) -> bool {
    place != 0 && word(pid, place) == 0 && word(pid, place + 8) == 0
}

const SHARED: &str = "memory that other processes may share";
const STREAM: &str = "the kind of a standard stream";
const LIMITS: &str = Fact::Limits.name();
const PROCESS: &str = "another process";

const ATTRIBUTE: &str = "an attribute that child processes inherit (prctl(2), sched(7))";

/// Harmless options of prctl(2): they name a thread or memory, or only ask.
const HARMLESS_OPTIONS: [c_int; 5] = [
    libc::PR_GET_DUMPABLE,
    libc::PR_GET_NAME,
    libc::PR_GET_SECCOMP,
    libc::PR_SET_NAME,
    libc::PR_SET_VMA,
];

/// Harmless requests of ioctl(2). The results of the first two are compared. The others concern only descriptors.
const HARMLESS_REQUESTS: [u64; 6] = [
    libc::TCGETS,
    libc::TIOCGWINSZ,
    libc::FIOCLEX,
    libc::FIONCLEX,
    libc::FIONBIO,
    libc::FIONREAD,
];

const LOCKS: [c_int; 4] = [
    libc::F_SETLK,
    libc::F_SETLKW,
    libc::F_OFD_SETLK,
    libc::F_OFD_SETLKW,
];

/// Whether a file descriptor is open, or is that of a standard stream or of the working directory.
fn is_open(pid: i32, descriptor: u64) -> bool {
    let descriptor = descriptor as c_int;
    (0..=2).contains(&descriptor)
        || descriptor == libc::AT_FDCWD
        || fs::symlink_metadata(format!("/proc/{pid}/fd/{descriptor}")).is_ok()
}

fn of_opening(pid: i32, directory: c_int, path: Option<Vec<u8>>, flags: u64) -> Option<String> {
    let path = path?;
    match &path[..] {
        b"/dev/null" => return None,
        b"/dev/tty" => return Some("the terminal".to_owned()),
        b"/dev/random" | b"/dev/urandom" => return Some(RANDOM.to_owned()),
        _ => {}
    }
    let is_read = flags as c_int & libc::O_ACCMODE == libc::O_RDONLY;
    if is_read {
        of_reading(pid, &absolute(pid, directory, path)?)
    } else {
        of_change(&path)
    }
}

/// The directories in which the kernel reports about the system, its processes and devices.
const OF_KERNEL: [&[u8]; 3] = [b"/proc/", b"/sys/", b"/dev/"];
/// Files in these directories that are compared or do not change: the number and kinds of processors, and what
/// allocators ask for.
const COMPARED: [&[u8]; 6] = [
    b"/proc/cpuinfo",
    b"/proc/filesystems",
    b"/proc/self/exe",
    b"/proc/sys/vm/overcommit_memory",
    b"/sys/devices/system/",
    b"/sys/kernel/mm/",
];
/// The directory of control groups.
const CONTROL_GROUPS: &[u8] = b"/sys/fs/cgroup";

fn of_reading(pid: i32, path: &[u8]) -> Option<String> {
    if let Some(what) = of_kernel(pid, path, true) {
        return Some(what);
    }
    // Bytes that are read from a pipe are lost for other readers.
    let status = fs::metadata(OsStr::from_bytes(path)).ok()?;
    let shown = String::from_utf8_lossy(path);
    (!status.is_file() && !status.is_dir()).then(|| format!("{shown}, which is not a regular file"))
}

/// Whether a path leads to data about control groups that the key compares, when the path is opened or its status is
/// asked for. The key does not compare what groups have used, nor which groups exist.
fn is_about_control_group(pid: i32, path: &[u8], is_opened: bool) -> bool {
    if path == b"/proc/self/cgroup" {
        return true;
    }
    if !path.starts_with(CONTROL_GROUPS) {
        return false;
    }
    let groups = fs::read(format!("/proc/{pid}/cgroup")).unwrap_or_default();
    if facts::is_limit(path, &groups) {
        return true;
    }
    let status = fs::metadata(OsStr::from_bytes(path));
    status.map_or(true, |status| status.is_dir() && !is_opened)
}

/// Names a file of the kernel that reports about the system, if a process opens it or asks for its status.
fn of_kernel(pid: i32, path: &[u8], is_opened: bool) -> Option<String> {
    let own = path.strip_prefix(format!("/proc/{pid}/").as_bytes());
    let path = &own.map_or(path.to_vec(), |rest| [b"/proc/self/", rest].concat())[..];
    let begins = |starts: &[&[u8]]| starts.iter().any(|start| path.starts_with(start));
    let name = || {
        let path = String::from_utf8_lossy(path);
        format!("{path}, which describes the system")
    };
    if path == b"/dev/null" {
        return None;
    }
    if is_about_control_group(pid, path, is_opened) {
        return Some(Fact::ControlGroup.name().to_owned());
    }
    if begins(&OF_KERNEL) {
        return (!begins(&COMPARED)).then(name);
    }
    // A symbolic link (/etc/mtab) may lead to a file of the kernel.
    static DEVICES: LazyLock<Vec<u64>> = LazyLock::new(|| {
        let device = |path: &str| fs::metadata(path).ok().map(|status| status.dev());
        let root = device("/");
        let devices = ["/proc", "/sys", "/dev"].into_iter().filter_map(device);
        devices.filter(|device| Some(*device) != root).collect()
    });
    let status = fs::metadata(OsStr::from_bytes(path)).ok()?;
    // The existence of these directories is the same in each run.
    let is_top = matches!(path, b"/proc" | b"/sys" | b"/dev");
    (DEVICES.contains(&status.dev()) && !is_top).then(name)
}

fn of_change(path: &[u8]) -> Option<String> {
    let path = String::from_utf8_lossy(path);
    (!is_bytecode(&path)).then(|| format!("a change of {path}"))
}

/// Whether a path is in a bytecode cache, which the interpreter writes by itself.
fn is_bytecode(path: &str) -> bool {
    path.contains("/__pycache__/") || path.ends_with("/__pycache__")
}

fn of_writing(pid: i32, descriptor: u64) -> Option<String> {
    let target = fs::read_link(format!("/proc/{pid}/fd/{descriptor}"));
    let target = target.unwrap_or_else(|_| PathBuf::new());
    match (descriptor, target.to_string_lossy()) {
        (1, _) => Some(OUTPUT.to_owned()),
        (2, _) => Some(ERRORS.to_owned()),
        (_, target) if target == "/dev/null" || target.starts_with("anon_inode:") => None,
        // Only the process itself reads what it writes to its own pipe.
        (_, target) if target.starts_with("pipe:") || is_bytecode(&target) => None,
        (_, target) => Some(format!("output to {target}")),
    }
}
