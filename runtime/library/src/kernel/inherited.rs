//! What the kernel keeps for a process, and hands on to those that it starts.

use std::fs;
use std::os::unix::ffi::OsStrExt;

/// What of it may decide what a process that is started finds or may do, as text that is only compared: lines of
/// `/proc/self/status`, limits, the root directory and the priority.
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
    // SAFETY: only asks.
    let priority = unsafe { libc::getpriority(libc::PRIO_PROCESS, 0) };
    [
        lines(&proc_file("status"), &LINES),
        proc_file("limits"),
        link("root"),
        priority.to_ne_bytes().to_vec(),
    ]
    .concat()
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

/// What a file below `/proc/self` says; nothing if it cannot be read.
pub fn proc_file(name: &str) -> Vec<u8> {
    fs::read(format!("/proc/self/{name}")).unwrap_or_default()
}

/// Where a symbolic link below `/proc/self` leads.
pub fn link(name: &str) -> Vec<u8> {
    let target = fs::read_link(format!("/proc/self/{name}")).unwrap_or_default();
    target.as_os_str().as_bytes().to_vec()
}
