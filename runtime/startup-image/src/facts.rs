//! Facts that the kernel tells a process about itself and the system. The key of an image compares those that imports
//! have asked for.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::ffi::CStr;
use core::iter::successors;

use rustix::fs::{Mode, OFlags};
use rustix::process::{Resource, getgroups, getrlimit, umask};
use rustix::system::{sysinfo, uname};
use rustix::thread::{CpuSet, sched_getaffinity};
use rustix::time::{ClockId, clock_gettime};
use serde::{Deserialize, Serialize};

#[derive(Serialize, Deserialize, PartialEq, Eq, Clone, Copy, Debug)]
pub enum Fact {
    /// uname(2)
    System,
    /// umask(2)
    Umask,
    /// getgroups(2)
    Groups,
    /// getrlimit(2), without the limit of the stack, which is always compared ([`crate::key::Machine`]).
    Limits,
    /// sched_getaffinity(2)
    Processors,
    /// cgroups(7): the control groups of the process, and their limits of processors and memory.
    ControlGroup,
    /// sysinfo(2): the total memory of the machine, not the free memory.
    Memory,
    /// clock_gettime(2)
    Year,
}

impl Fact {
    pub const ALL: [Self; 8] = [
        Self::System,
        Self::Umask,
        Self::Groups,
        Self::Limits,
        Self::Processors,
        Self::ControlGroup,
        Self::Memory,
        Self::Year,
    ];

    /// The name in messages and in the records of what imports look at.
    pub const fn name(self) -> &'static str {
        match self {
            Self::System => "the name of the system or the host",
            Self::Umask => "the umask",
            Self::Groups => "the list of the user's groups",
            Self::Limits => "the set of resource limits",
            Self::Processors => "the set of processors that it may use",
            Self::ControlGroup => "the control group",
            Self::Memory => "the amount of memory",
            Self::Year => "the year",
        }
    }

    pub fn of_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|fact| fact.name() == name)
    }

    /// The value in this process, as bytes that are only compared. To read the umask, this function changes it for a
    /// moment: no other thread may create files meanwhile.
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
            Self::ControlGroup => control_group(),
            Self::Memory => {
                let system = sysinfo();
                let bytes = system.totalram as u64 * u64::from(system.mem_unit);
                bytes.to_ne_bytes().to_vec()
            }
            Self::Year => year(),
        }
    }

    /// Why this process does not fit if the value was `then` when the image was taken; none if it is the same.
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

/// All resources that rustix knows, except the stack.
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
    // `None` is RLIM_INFINITY.
    let values = [limit.current, limit.maximum].map(|value| value.unwrap_or(u64::MAX));
    values.into_iter().flat_map(u64::to_ne_bytes).collect()
}

/// The earliest and the latest year in all time zones. While they differ, the current time is added, so that no two
/// results are equal.
fn year() -> Vec<u8> {
    /// Seconds; zones are at most 14 hours away from UTC.
    const FARTHEST: i64 = 14 * 3600;

    let now = clock_gettime(ClockId::Realtime);
    let years = [now.tv_sec - FARTHEST, now.tv_sec + FARTHEST].map(year_of);
    let is_same = years[0] == years[1];
    let moment = if is_same {
        [0, 0]
    } else {
        [now.tv_sec, now.tv_nsec]
    };
    let numbers = years.into_iter().chain(moment);
    numbers.flat_map(i64::to_ne_bytes).collect()
}

/// The year of a UTC time in seconds since 1970.
fn year_of(seconds: i64) -> i64 {
    const OF_400_YEARS: i64 = 400 * 365 + 97;
    /// Days from 1 March of the year 0 to 1 January 1970.
    const BEFORE: i64 = 719_468;

    // These years begin on 1 March, so that the leap day is the last day of a year.
    let days = seconds.div_euclid(24 * 3600) + BEFORE;
    let day = days.rem_euclid(OF_400_YEARS);
    let year = (day - day / 1460 + day / 36_524 - day / (OF_400_YEARS - 1)) / 365;
    let day_of_year = day - (365 * year + year / 4 - year / 100);
    // Day 306 is 1 January.
    days.div_euclid(OF_400_YEARS) * 400 + year + i64::from(day_of_year >= 306)
}

fn processors() -> Vec<u8> {
    let Ok(set) = sched_getaffinity(None) else {
        return Vec::new();
    };
    let numbers = (0..CpuSet::MAX_CPU).filter(|&number| set.is_set(number));
    numbers.flat_map(usize::to_ne_bytes).collect()
}

/// The control groups of the process, and the limits of these groups and their parents. Each value ends with NUL; a
/// missing limit is empty.
fn control_group() -> Vec<u8> {
    let groups = contents(b"/proc/self/cgroup");
    let mut found = groups.clone();
    found.push(0);
    for directory in directories_of_groups(&groups) {
        for file in LIMITS_OF_GROUPS {
            found.extend(contents(&[&directory, &b"/"[..], file].concat()));
            found.push(0);
        }
    }
    found
}

/// Whether a file contains a limit of one of these groups or their parents. `groups` has the contents of
/// `/proc/PID/cgroup`.
pub fn is_limit(path: &[u8], groups: &[u8]) -> bool {
    let Some(slash) = path.iter().rposition(|&byte| byte == b'/') else {
        return false;
    };
    LIMITS_OF_GROUPS.contains(&&path[slash + 1..])
        && directories_of_groups(groups).any(|directory| directory == path[..slash])
}

/// The directories of the groups and of their parents.
fn directories_of_groups(groups: &[u8]) -> impl Iterator<Item = Vec<u8>> {
    let lines = groups.split(|&byte| byte == b'\n');
    lines.filter_map(place_of_group).flat_map(|(top, group)| {
        successors(Some(group), move |group| {
            let parent = group.iter().rposition(|&byte| byte == b'/')?;
            (group.len() > top.len()).then(|| group[..parent].to_vec())
        })
    })
}

/// The directory of the topmost group and that of the group which a line of `/proc/PID/cgroup` names.
fn place_of_group(line: &[u8]) -> Option<(Vec<u8>, Vec<u8>)> {
    // `hierarchy-ID:controller-list:cgroup-path`; in version 2, the list is empty.
    let mut fields = line.splitn(3, |&byte| byte == b':').skip(1);
    let (controllers, path) = (fields.next()?, fields.next()?);
    let separator: &[u8] = if controllers.is_empty() { b"" } else { b"/" };
    let top = [b"/sys/fs/cgroup", separator, controllers].concat();
    let group = [&top, path.strip_suffix(b"/").unwrap_or(path)].concat();
    Some((top, group))
}

/// Files of version 2, then of version 1.
const LIMITS_OF_GROUPS: [&[u8]; 8] = [
    b"cpu.max",
    b"memory.high",
    b"memory.low",
    b"memory.max",
    b"cpu.cfs_period_us",
    b"cpu.cfs_quota_us",
    b"memory.limit_in_bytes",
    b"memory.soft_limit_in_bytes",
];

/// The contents of a file of the kernel; empty if the file does not exist.
fn contents(path: &[u8]) -> Vec<u8> {
    let mut found = Vec::new();
    let flags = OFlags::RDONLY | OFlags::CLOEXEC;
    let Ok(file) = rustix::fs::open(path, flags, Mode::empty()) else {
        return found;
    };
    let mut buffer = [0; crate::PAGE as usize];
    while let Ok(bytes @ 1..) = rustix::io::read(&file, &mut buffer) {
        found.extend_from_slice(&buffer[..bytes]);
    }
    found
}

/// All names of uname(2), each followed by NUL, the name of the host first.
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

#[cfg(test)]
mod tests {
    use alloc::vec::Vec;

    use super::{directories_of_groups, is_limit, year_of};

    #[test]
    fn groups_and_those_above_them() {
        const GROUPS: &[u8] = b"3:cpu,cpuacct:/user/one\n2:memory:/\n0::/user.slice/app\n";
        let found: Vec<_> = directories_of_groups(GROUPS).collect();
        let expected = [
            "/sys/fs/cgroup/cpu,cpuacct/user/one",
            "/sys/fs/cgroup/cpu,cpuacct/user",
            "/sys/fs/cgroup/cpu,cpuacct",
            "/sys/fs/cgroup/memory",
            "/sys/fs/cgroup/user.slice/app",
            "/sys/fs/cgroup/user.slice",
            "/sys/fs/cgroup",
        ];
        assert_eq!(found, expected.map(|path| path.as_bytes().to_vec()));
        for (path, expected) in [
            ("/sys/fs/cgroup/user.slice/cpu.max", true),
            ("/sys/fs/cgroup/cpu.max", true),
            ("/sys/fs/cgroup/memory/memory.limit_in_bytes", true),
            ("/sys/fs/cgroup/memory/memory.usage_in_bytes", false),
            ("/sys/fs/cgroup/system.slice/cpu.max", false),
        ] {
            assert_eq!(is_limit(path.as_bytes(), GROUPS), expected, "{path}");
        }
    }

    #[test]
    fn years_begin_and_end() {
        const DAY: i64 = 24 * 3600;
        let mut begin = 0;
        for year in 1970..2500 {
            let is_leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
            let end = begin + if is_leap { 366 } else { 365 } * DAY;
            assert_eq!([begin, end - 1].map(year_of), [year, year]);
            begin = end;
        }
    }
}
