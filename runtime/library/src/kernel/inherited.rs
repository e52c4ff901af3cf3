//! Attributes that the kernel keeps for a process and passes on to its child processes.

use std::fs;
use std::os::unix::ffi::OsStrExt;

/// Those inherited attributes that may change what a child process finds or is allowed to do: lines of
/// `/proc/self/status`, limits, the root directory and the priority. The text is only compared with other such texts.
pub fn inherited() -> Vec<u8> {
    const LINES: [&str; 14] = [
        "Uid",
        "Gid",
        "Groups",
        "Umask",
        "SigBlk",
        "CapInh",
        "CapPrm",
        "CapEff",
        "CapBnd",
        "CapAmb",
        "NoNewPrivs",
        "Seccomp",
        "Seccomp_filters",
        "Cpus_allowed",
    ];
    // SAFETY: the call takes numbers and changes nothing.
    let priority = unsafe { libc::getpriority(libc::PRIO_PROCESS, 0) };
    [
        lines(&proc_file("status"), &LINES),
        proc_file("limits"),
        link("root"),
        priority.to_ne_bytes().to_vec(),
    ]
    .concat()
}

/// Whether a filter of system calls may be active (seccomp(2)). A filter can kill the process for a call that stock
/// CPython does not make.
pub fn may_be_filtered() -> bool {
    lines(&proc_file("status"), &["Seccomp"]) != b"Seccomp:\t0"
}

/// The lines of `/proc/self/status` that begin with one of the names.
pub fn lines(status: &[u8], names: &[&str]) -> Vec<u8> {
    let is_wanted = |line: &&[u8]| {
        let mut names = names.iter();
        names.any(|name| {
            line.strip_prefix(name.as_bytes())
                .is_some_and(|rest| rest.starts_with(b":"))
        })
    };
    let lines = status.split(|&byte| byte == b'\n').filter(is_wanted);
    lines.collect::<Vec<_>>().join(&b'\n')
}

/// The content of a file below `/proc/self`; empty if the file cannot be read.
pub fn proc_file(name: &str) -> Vec<u8> {
    fs::read(format!("/proc/self/{name}")).unwrap_or_default()
}

/// The target of a symbolic link below `/proc/self`; empty if the link cannot be read.
pub fn link(name: &str) -> Vec<u8> {
    let target = fs::read_link(format!("/proc/self/{name}")).unwrap_or_default();
    target.as_os_str().as_bytes().to_vec()
}
