//! What the kernel tells a process of itself and the system, and an image's key compares where somebody has asked.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::ffi::CStr;

use rustix::fs::Mode;
use rustix::process::{Resource, getgroups, getrlimit, umask};
use rustix::system::uname;
use rustix::thread::{CpuSet, sched_getaffinity};
use serde::{Deserialize, Serialize};

#[derive(Serialize, Deserialize, PartialEq, Eq, Clone, Copy, Debug)]
pub enum Fact {
    /// uname(2)
    System,
    /// umask(2)
    Umask,
    /// getgroups(2)
    Groups,
    /// getrlimit(2), all but that of the stack: it is compared always.
    Limits,
    /// sched_getaffinity(2)
    Processors,
}

impl Fact {
    pub const ALL: [Self; 5] = [
        Self::System,
        Self::Umask,
        Self::Groups,
        Self::Limits,
        Self::Processors,
    ];

    /// Its name in messages, and by which looks at it are known.
    pub const fn name(self) -> &'static str {
        match self {
            Self::System => "the name of the system or the host",
            Self::Umask => "the umask",
            Self::Groups => "the list of the user's groups",
            Self::Limits => "the set of resource limits",
            Self::Processors => "the set of processors that it may use",
        }
    }

    pub fn of_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|fact| fact.name() == name)
    }

    /// What it is in this process, as bytes that are only compared. To ask for the umask changes it for a moment: no other thread
    /// may make files.
    pub fn now(self) -> Vec<u8> {
        match self {
            Self::System => system(),
            Self::Umask => {
                let mask = umask(Mode::empty());
                umask(mask);
                mask.bits().to_ne_bytes().to_vec()
            }
            Self::Groups => {
                let groups = getgroups().unwrap_or_default();
                let numbers = groups.iter().map(|group| group.as_raw());
                numbers.flat_map(u32::to_ne_bytes).collect()
            }
            Self::Limits => LIMITS.into_iter().flat_map(limit).collect(),
            Self::Processors => processors(),
        }
    }

    /// Why a process differs from one where it was `then`; none if it does not.
    pub fn mismatch(self, then: &[u8]) -> Option<String> {
        let now = self.now();
        if now == then {
            return None;
        }
        Some(match self {
            Self::System if host_of(&now) != host_of(then) => {
                let host = String::from_utf8_lossy(host_of(then));
                format!("it was made on the host {host}")
            }
            Self::System => "it was made on another system (uname)".into(),
            fact => format!("it was made where {} was different", fact.name()),
        })
    }
}

/// All that rustix knows.
const LIMITS: [Resource; 15] = [
    Resource::Cpu,
    Resource::Fsize,
    Resource::Data,
    Resource::Core,
    Resource::Rss,
    Resource::Nproc,
    Resource::Nofile,
    Resource::Memlock,
    Resource::As,
    Resource::Locks,
    Resource::Sigpending,
    Resource::Msgqueue,
    Resource::Nice,
    Resource::Rtprio,
    Resource::Rttime,
];

fn limit(resource: Resource) -> Vec<u8> {
    let limit = getrlimit(resource);
    // None is infinity (RLIM_INFINITY).
    let values = [limit.current, limit.maximum].map(|value| value.unwrap_or(u64::MAX));
    values.into_iter().flat_map(u64::to_ne_bytes).collect()
}

fn processors() -> Vec<u8> {
    let Ok(set) = sched_getaffinity(None) else {
        return Vec::new();
    };
    let numbers = (0..CpuSet::MAX_CPU).filter(|&number| set.is_set(number));
    numbers.flat_map(usize::to_ne_bytes).collect()
}

/// The name of the host first, and a NUL behind it.
fn system() -> Vec<u8> {
    let names = uname();
    let names = [
        names.nodename(),
        names.sysname(),
        names.release(),
        names.version(),
        names.machine(),
        names.domainname(),
    ];
    names.map(CStr::to_bytes_with_nul).concat()
}

fn host_of(system: &[u8]) -> &[u8] {
    system.split(|&byte| byte == 0).next().unwrap_or_default()
}
