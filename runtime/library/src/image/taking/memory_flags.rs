//! Memory with a property that no image has: it is locked, for example, or forked processes do not get it.
//!
//! Advice that is given again in a restored process (`memory_dump.rs`), or only about the order of reading, is not meant.

use std::fs;
use std::io;
use std::ptr;

use startup_image::PAGE;

/// Flags of `VmFlags` in `/proc/self/smaps` (proc(5)), and what they mean.
const FLAGS: &[(&str, &str)] = &[
    ("lo", "locked (mlock)"),
    ("wf", "zeroed when the process forks (MADV_WIPEONFORK)"),
    ("dc", "not there in forked processes (MADV_DONTFORK)"),
    ("um", "watched (userfaultfd)"),
    ("uw", "watched (userfaultfd)"),
    ("ui", "watched (userfaultfd)"),
    ("sl", "sealed (mseal)"),
    ("ht", "of reserved huge pages (MAP_HUGETLB)"),
];

/// So many places are named at most.
const MOST_NAMED: usize = 3;

/// Names memory of this process that has such flags.
///
/// # Errors
/// The kernel does not tell.
pub fn what_is_left_in_memory() -> io::Result<Option<String>> {
    // Memory that is mapped from now on may be locked, too (mlockall(MCL_FUTURE)).
    let probe = Probe::new();
    let text = fs::read_to_string("/proc/self/smaps")?;
    let mut found = Vec::new();
    let mut place = ("", "");
    for line in text.lines() {
        if let Some(flags) = line.strip_prefix("VmFlags:") {
            // What the kernel itself has mapped.
            if place.1.starts_with("[v") || place.1 == "[uprobes]" {
                continue;
            }
            let mut flags = flags.split_ascii_whitespace();
            let known = flags.find_map(|flag| FLAGS.iter().find(|(name, _)| *name == flag));
            if let Some((_, meaning)) = known {
                found.push((place, *meaning));
            }
        } else if let Some(header) = header(line) {
            place = header;
        }
    }
    drop(probe);
    let count = found.len();
    let names = found.into_iter().take(MOST_NAMED);
    let mut names: Vec<String> = names
        .map(|((range, file), meaning)| match file {
            "" => format!("memory that is {meaning}: {range}"),
            file => format!("memory that is {meaning}: {range} of {file}"),
        })
        .collect();
    if count > MOST_NAMED {
        names.push(format!("and {} more places", count - MOST_NAMED));
    }
    Ok((count > 0).then(|| names.join("; ")))
}

/// The addresses of a mapping and its name, if the line is the first one about it.
fn header(line: &str) -> Option<(&str, &str)> {
    let (range, rest) = line.split_once(' ')?;
    let (start, end) = range.split_once('-')?;
    u64::from_str_radix(start, 16).ok()?;
    u64::from_str_radix(end, 16).ok()?;
    // Protection, offset, device, inode; then the name.
    let name = rest.splitn(5, ' ').nth(4).unwrap_or_default();
    Some((range, name.trim_start()))
}

/// A page that was just mapped.
struct Probe(*mut libc::c_void);

impl Probe {
    fn new() -> Self {
        // SAFETY: maps a new page wherever there is room.
        Self(unsafe {
            libc::mmap(
                ptr::null_mut(),
                PAGE as usize,
                libc::PROT_READ,
                libc::MAP_PRIVATE | libc::MAP_ANONYMOUS,
                -1,
                0,
            )
        })
    }
}

impl Drop for Probe {
    fn drop(&mut self) {
        if self.0 != libc::MAP_FAILED {
            // SAFETY: nobody else knows of the page.
            unsafe { libc::munmap(self.0, PAGE as usize) };
        }
    }
}
