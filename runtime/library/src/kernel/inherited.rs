//! Attributes that the kernel keeps for a process and passes on to its child processes.

use std::fs;
use std::os::unix::ffi::OsStrExt;

use crate::files::contents;

const NO_FILTER: &[u8] = b"Seccomp:\t0";

/// The filters of system calls of this process (seccomp(2)): lines of `/proc/self/status`.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Filters(Vec<u8>);

impl Filters {
    pub fn none() -> Self {
        Self(NO_FILTER.to_vec())
    }

    pub fn of_process() -> Self {
        Self(lines(&proc_file("status"), &["Seccomp", "Seccomp_filters"]))
    }

    /// Whether there may be one. A filter can kill the process for a call that stock CPython does not make.
    fn may_exist(&self) -> bool {
        // A kernel before 5.9 does not write the number of filters.
        !self.0.starts_with(NO_FILTER)
    }

    /// Whether they are certainly the same ones.
    pub fn are_still(&self, others: &Self) -> bool {
        !others.may_exist() && !self.may_exist() || self == others && self.has_number()
    }

    fn has_number(&self) -> bool {
        self.0.split(|&byte| byte == b'\n').count() == 2
    }
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
    contents::read(format!("/proc/self/{name}")).unwrap_or_default()
}

/// The target of a symbolic link below `/proc/self`; empty if the link cannot be read.
pub fn link(name: &str) -> Vec<u8> {
    let target = fs::read_link(format!("/proc/self/{name}")).unwrap_or_default();
    target.as_os_str().as_bytes().to_vec()
}
