//! Attributes: what the kernel keeps for a process in addition to its memory. An image does not contain them. If
//! imports change one, no image is taken, because a restored process would not have the change.
//!
//! Many attributes are inherited from the parent process. So they are compared with their values before the imports.

use std::ffi::{c_int, c_long};
use std::fs;
use std::path::Path;
use std::sync::OnceLock;

use super::message::{self, AS_BEFORE};
use crate::kernel::inherited::{lines, link, proc_file};

/// Constants of `linux/prctl.h` and `asm/prctl.h`.
const PR_GET_IO_FLUSHER: c_int = 58;
const PR_GET_MDWE: c_int = 66;
const PR_GET_MEMORY_MERGE: c_int = 68;
const ARCH_GET_GS: c_int = 0x1004;
const ARCH_GET_XCOMP_PERM: c_int = 0x1022;
const ARCH_GET_UNTAG_MASK: c_int = 0x4001;
const ARCH_SHSTK_STATUS: c_int = 0x5005;

/// Where the value of an attribute comes from.
enum Source {
    /// The result of `prctl(2)` with these arguments.
    Returned(c_int, [i64; 2]),
    /// The number that `prctl(2)` writes.
    Written(c_int),
    /// The number that `arch_prctl(2)` writes.
    OfProcessor(c_int),
    /// Lines of `/proc/self/status`.
    Status(&'static [&'static str]),
    /// The content of a file below `/proc/self`.
    File(&'static str),
    /// The target of a symbolic link below `/proc/self`.
    Link(&'static str),
    /// The result of a function.
    Call(fn() -> Vec<u8>),
}

use Source::{Call, File, Link, OfProcessor, Returned, Status, Written};

/// All attributes, with their names in messages. An attribute that the kernel does not know has the same value before
/// and after.
const KEPT: &[(&str, Source)] = &[
    ("the working directory", Link("cwd")),
    ("the root directory (chroot)", Link("root")),
    ("the session", Call(session)),
    ("the priority", Call(priority)),
    ("the name of the process", File("comm")),
    ("the command line in /proc/PID/cmdline", File("cmdline")),
    ("resource limits", File("limits")),
    ("the umask", Status(&["Umask"])),
    ("blocked signals", Status(&["SigBlk"])),
    ("pending signals", Call(waiting_signals)),
    ("the processors that may be used", Status(&["Cpus_allowed"])),
    ("the user", Status(&["Uid"])),
    ("the group", Status(&["Gid"])),
    ("the groups", Status(&["Groups"])),
    (
        "capabilities",
        Status(&["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"]),
    ),
    (
        "whether it may gain privileges (PR_SET_NO_NEW_PRIVS)",
        Status(&["NoNewPrivs"]),
    ),
    (
        "the allowed system calls (seccomp)",
        Status(&["Seccomp", "Seccomp_filters"]),
    ),
    ("timers (timer_create)", File("timers")),
    ("the scheduling policy", Call(scheduling)),
    ("the I/O priority", Call(io_priority)),
    ("the personality", Call(personality)),
    ("the memory policy (set_mempolicy)", Call(memory_policy)),
    ("the control group", File("cgroup")),
    ("namespaces", Call(namespaces)),
    ("keyrings", Call(keyrings)),
    ("the security context", Call(security_context)),
    ("the audit user", File("loginuid")),
    ("oom_score_adj", File("oom_score_adj")),
    ("coredump_filter", File("coredump_filter")),
    (
        "whether other processes may read its memory (PR_SET_DUMPABLE)",
        Returned(libc::PR_GET_DUMPABLE, [0, 0]),
    ),
    (
        "the signal at the end of its parent (PR_SET_PDEATHSIG)",
        Written(libc::PR_GET_PDEATHSIG),
    ),
    (
        "whether orphans become its children (PR_SET_CHILD_SUBREAPER)",
        Written(libc::PR_GET_CHILD_SUBREAPER),
    ),
    (
        "the timer slack (PR_SET_TIMERSLACK)",
        Returned(libc::PR_GET_TIMERSLACK, [0, 0]),
    ),
    (
        "whether it may use huge pages (PR_SET_THP_DISABLE)",
        Returned(libc::PR_GET_THP_DISABLE, [0, 0]),
    ),
    (
        "secure bits (PR_SET_SECUREBITS)",
        Returned(libc::PR_GET_SECUREBITS, [0, 0]),
    ),
    (
        "speculation (PR_SET_SPECULATION_CTRL: store bypass)",
        Returned(libc::PR_GET_SPECULATION_CTRL, [0, 0]),
    ),
    (
        "speculation (PR_SET_SPECULATION_CTRL: indirect branches)",
        Returned(libc::PR_GET_SPECULATION_CTRL, [1, 0]),
    ),
    (
        "speculation (PR_SET_SPECULATION_CTRL: L1D cache)",
        Returned(libc::PR_GET_SPECULATION_CTRL, [2, 0]),
    ),
    (
        "whether memory may become executable (PR_SET_MDWE)",
        Returned(PR_GET_MDWE, [0, 0]),
    ),
    (
        "whether it is an I/O flusher (PR_SET_IO_FLUSHER)",
        Returned(PR_GET_IO_FLUSHER, [0, 0]),
    ),
    (
        "whether its pages are merged (PR_SET_MEMORY_MERGE)",
        Returned(PR_GET_MEMORY_MERGE, [0, 0]),
    ),
    (
        "the policy for memory errors (PR_MCE_KILL)",
        Returned(libc::PR_MCE_KILL_GET, [0, 0]),
    ),
    (
        "the timing mode (PR_SET_TIMING)",
        Returned(libc::PR_GET_TIMING, [0, 0]),
    ),
    (
        "whether it may read the time stamp counter (PR_SET_TSC)",
        Written(libc::PR_GET_TSC),
    ),
    (
        "the processes that may share its core (PR_SCHED_CORE)",
        Call(core_cookie),
    ),
    (
        "whether it may identify the processor (ARCH_SET_CPUID)",
        Call(cpuid),
    ),
    ("the GS base (ARCH_SET_GS)", OfProcessor(ARCH_GET_GS)),
    (
        "the processor's features (ARCH_REQ_XCOMP_PERM)",
        OfProcessor(ARCH_GET_XCOMP_PERM),
    ),
    (
        "tagged addresses (ARCH_ENABLE_TAGGED_ADDR)",
        OfProcessor(ARCH_GET_UNTAG_MASK),
    ),
    (
        "shadow stacks (ARCH_SHSTK_ENABLE)",
        OfProcessor(ARCH_SHSTK_STATUS),
    ),
];

/// System calls that change no attribute. Imports make few other calls.
const KEEPING: [c_long; 39] = [
    libc::SYS_access,
    libc::SYS_brk,
    libc::SYS_clock_gettime,
    libc::SYS_close,
    libc::SYS_dup,
    libc::SYS_epoll_create1,
    libc::SYS_faccessat,
    libc::SYS_faccessat2,
    libc::SYS_fstat,
    libc::SYS_futex,
    libc::SYS_getcwd,
    libc::SYS_getdents64,
    libc::SYS_getegid,
    libc::SYS_geteuid,
    libc::SYS_getgid,
    libc::SYS_getitimer,
    libc::SYS_getpid,
    libc::SYS_getrandom,
    libc::SYS_gettid,
    libc::SYS_getuid,
    libc::SYS_lseek,
    libc::SYS_lstat,
    libc::SYS_madvise,
    libc::SYS_mmap,
    libc::SYS_mprotect,
    libc::SYS_mremap,
    libc::SYS_munmap,
    libc::SYS_newfstatat,
    libc::SYS_open,
    libc::SYS_openat,
    libc::SYS_pread64,
    libc::SYS_read,
    libc::SYS_readlink,
    libc::SYS_readlinkat,
    libc::SYS_rt_sigaction,
    libc::SYS_stat,
    libc::SYS_statx,
    libc::SYS_sysinfo,
    libc::SYS_uname,
];

/// Whether a system call with these arguments changes no attribute.
pub fn are_kept_by(number: c_long, arguments: [u64; 6]) -> bool {
    const REQUESTS: [u64; 4] = [
        libc::TCGETS,
        libc::TIOCGWINSZ,
        libc::FIOCLEX,
        libc::FIONCLEX,
    ];
    const COMMANDS: [u64; 3] = [
        libc::F_GETFD as u64,
        libc::F_SETFD as u64,
        libc::F_GETFL as u64,
    ];
    match number {
        libc::SYS_ioctl => REQUESTS.contains(&arguments[1]),
        libc::SYS_arch_prctl => arguments[0] == ARCH_GET_GS as u64,
        libc::SYS_fcntl => COMMANDS.contains(&arguments[1]),
        _ => KEEPING.contains(&number),
    }
}

/// The attributes before `site` was imported.
static NOTED: OnceLock<ProcessAttributes> = OnceLock::new();

/// The values of all attributes at one time.
struct ProcessAttributes(Vec<Vec<u8>>);

/// Notes the attributes, in a process that is to become an image. Called before `site` is imported, and once more after
/// it, because `site` may not be imported at all.
pub fn note_attributes(request: &Path) {
    if NOTED.get().is_none() && NOTED.set(ProcessAttributes::of_this_process()).is_ok() {
        message::send(request, message::NOTED);
    }
}

/// Names the attributes that have changed since they were noted.
pub fn changed_attributes(request: &Path) -> Vec<&'static str> {
    let Some(noted) = NOTED.get() else {
        return Vec::new();
    };
    if message::send(request, message::ASKS) == Some(AS_BEFORE)
        && !ProcessAttributes::have_changed_without_calls(noted)
    {
        return Vec::new();
    }
    let changed = ProcessAttributes::of_this_process().changed_since(noted);
    if changed.is_empty() {
        message::send(request, message::NOTED);
    }
    changed
}

impl ProcessAttributes {
    fn of_this_process() -> Self {
        let status = proc_file("status");
        Self(
            KEPT.iter()
                .map(|(_, source)| source.value(&status))
                .collect(),
        )
    }

    /// Whether an attribute that a process can change without a system call has changed since `then`.
    fn have_changed_without_calls(then: &Self) -> bool {
        let mut pairs = KEPT.iter().zip(&then.0);
        pairs.any(|((_, source), then)| !source.needs_call() && source.value(b"") != *then)
    }

    /// Names the attributes that differ from an earlier time.
    fn changed_since(&self, then: &Self) -> Vec<&'static str> {
        let pairs = self.0.iter().zip(&then.0);
        let changed = KEPT
            .iter()
            .zip(pairs)
            .filter(|(_, (now, then))| now != then);
        changed.map(|((name, _), _)| *name).collect()
    }
}

impl Source {
    /// Whether only a system call can change it. The command line is in the memory of the process, and an instruction
    /// can write the GS base.
    fn needs_call(&self) -> bool {
        !matches!(self, File("cmdline") | OfProcessor(ARCH_GET_GS))
    }

    fn value(&self, status: &[u8]) -> Vec<u8> {
        match *self {
            Returned(option, [first, second]) => result(system_call(
                libc::SYS_prctl,
                [option.into(), first, second, 0],
            )),
            Written(option) => written(|place| {
                system_call(libc::SYS_prctl, [option.into(), place, 0, 0]);
            }),
            OfProcessor(option) => written(|place| {
                system_call(libc::SYS_arch_prctl, [option.into(), place, 0, 0]);
            }),
            Status(names) => lines(status, names),
            File(name) => proc_file(name),
            Link(name) => link(name),
            Call(function) => function(),
        }
    }
}

/// Makes a system call that only reads.
fn system_call(number: i64, [first, second, third, fourth]: [i64; 4]) -> i64 {
    // SAFETY: all callers pass calls that only read, with the addresses of variables that are large enough for the
    // result.
    unsafe { libc::syscall(number, first, second, third, fourth, 0_i64) }
}

fn result(value: i64) -> Vec<u8> {
    value.to_ne_bytes().to_vec()
}

/// The number that a call writes to the address in its argument.
fn written(call: impl FnOnce(i64)) -> Vec<u8> {
    let mut number = 0_i64;
    call(&raw mut number as i64);
    result(number)
}

/// The process group, session and terminal.
fn session() -> Vec<u8> {
    let stat = String::from_utf8_lossy(&proc_file("stat")).into_owned();
    let fields = stat.rsplit(')').next().unwrap_or_default();
    let fields: Vec<&str> = fields.split_ascii_whitespace().skip(2).take(3).collect();
    fields.join(" ").into_bytes()
}

/// The pending signals that are blocked. Other pending signals are about to be delivered.
fn waiting_signals() -> Vec<u8> {
    let status = proc_file("status");
    let mask = |name| {
        let line = String::from_utf8_lossy(&lines(&status, &[name])).into_owned();
        let digits = line.split_ascii_whitespace().nth(1).unwrap_or_default();
        u64::from_str_radix(digits, 16).unwrap_or_default()
    };
    let waiting = (mask("SigPnd") | mask("ShdPnd")) & mask("SigBlk");
    waiting.to_ne_bytes().to_vec()
}

fn priority() -> Vec<u8> {
    const PRIO_PROCESS: i64 = 0;
    result(system_call(libc::SYS_getpriority, [PRIO_PROCESS, 0, 0, 0]))
}

/// The policy, flags, priority, deadline and utilization limits.
fn scheduling() -> Vec<u8> {
    const BYTES: usize = 56;
    const POLICY: usize = 4;
    const NICE: std::ops::Range<usize> = 16..20;
    const RUNTIME: std::ops::Range<usize> = 24..32;
    let mut attributes = [0_u8; BYTES];
    let place = attributes.as_mut_ptr() as i64;
    system_call(libc::SYS_sched_getattr, [0, place, BYTES as i64, 0]);
    // The nice value is an attribute of its own. The runtime is set by the scheduler, unless the policy has a deadline.
    attributes[NICE].fill(0);
    if i32::from(attributes[POLICY]) != libc::SCHED_DEADLINE {
        attributes[RUNTIME].fill(0);
    }
    attributes.to_vec()
}

fn io_priority() -> Vec<u8> {
    const IOPRIO_WHO_PROCESS: i64 = 1;
    let arguments = [IOPRIO_WHO_PROCESS, 0, 0, 0];
    result(system_call(libc::SYS_ioprio_get, arguments))
}

fn personality() -> Vec<u8> {
    const ONLY_ASK: i64 = 0xffff_ffff;
    result(system_call(libc::SYS_personality, [ONLY_ASK, 0, 0, 0]))
}

fn memory_policy() -> Vec<u8> {
    const NODES: i64 = 1024;
    let mut mask = [0_u64; NODES as usize / 64];
    let mut mode = written(|place| {
        let arguments = [place, mask.as_mut_ptr() as i64, NODES, 0];
        system_call(libc::SYS_get_mempolicy, arguments);
    });
    mode.extend(mask.iter().flat_map(|word| word.to_ne_bytes()));
    mode
}

fn namespaces() -> Vec<u8> {
    let entries = fs::read_dir("/proc/self/ns").into_iter().flatten();
    let mut links: Vec<Vec<u8>> = entries
        .flatten()
        .map(|entry| link(&format!("ns/{}", entry.file_name().to_string_lossy())))
        .collect();
    links.sort();
    links.join(&b'\n')
}

/// The keyrings of the thread, the process and the session.
fn keyrings() -> Vec<u8> {
    const KEYCTL_GET_KEYRING_ID: i64 = 0;
    [-1, -2, -3]
        .into_iter()
        .flat_map(|ring| {
            result(system_call(
                libc::SYS_keyctl,
                [KEYCTL_GET_KEYRING_ID, ring, 0, 0],
            ))
        })
        .collect()
}

/// The current context of a security module, and the contexts for new programs, files, keys and sockets.
fn security_context() -> Vec<u8> {
    ["current", "exec", "fscreate", "keycreate", "sockcreate"]
        .iter()
        .flat_map(|name| [proc_file(&format!("attr/{name}")), b"\n".to_vec()].concat())
        .collect()
}

fn core_cookie() -> Vec<u8> {
    const PR_SCHED_CORE: i64 = 62;
    const GET: i64 = 0;
    let mut cookie = 0_i64;
    // SAFETY: the call writes only to `cookie`.
    unsafe {
        let place = &raw mut cookie;
        libc::syscall(libc::SYS_prctl, PR_SCHED_CORE, GET, 0_i64, 0_i64, place);
    }
    result(cookie)
}

fn cpuid() -> Vec<u8> {
    const ARCH_GET_CPUID: i64 = 0x1011;
    result(system_call(libc::SYS_arch_prctl, [ARCH_GET_CPUID, 0, 0, 0]))
}
