//! Memory with a property that an image cannot keep. For example, it is locked, or forked processes do not inherit it.
//!
//! Two kinds of advice are no such property: advice that is given again in a restored process (`memory_dump.rs`), and
//! advice about the order of reading.

use std::fs;
use std::io;

use memmap2::MmapMut;
use startup_image::PAGE;

/// Flags of `VmFlags` in `/proc/self/smaps` (proc(5)), and their meaning in messages.
const FLAGS: &[(&str, &str)] = &[
    ("lo", "locked (mlock)"),
    ("wf", "zeroed when the process forks (MADV_WIPEONFORK)"),
    ("dc", "not inherited by forked processes (MADV_DONTFORK)"),
    ("um", "watched (userfaultfd)"),
    ("uw", "watched (userfaultfd)"),
    ("ui", "watched (userfaultfd)"),
    ("sl", "sealed (mseal)"),
    ("ht", "in reserved huge pages (MAP_HUGETLB)"),
];

/// The flag of memory that the kernel may set to zero at any time (`MAP_DROPPABLE`, Linux 6.11). So the loss of its
/// contents at a fork is no loss.
pub const DROPPABLE: &str = "dp";

/// The largest number of places that a message names.
const MOST_NAMED: usize = 3;

/// Names the memory of this process that has such flags; none if there is none.
///
/// # Errors
/// `/proc/self/smaps` cannot be read.
pub fn what_is_left_in_memory() -> io::Result<Option<String>> {
    // This mapping is locked if all later mappings are locked, too (mlockall(MCL_FUTURE)).
    let probe = MmapMut::map_anon(PAGE as usize);
    let text = fs::read_to_string("/proc/self/smaps")?;
    let mut found = Vec::new();
    let mut place = ("", "");
    for line in text.lines() {
        if let Some(flags) = line.strip_prefix("VmFlags:") {
            // The kernel has mapped these itself.
            if place.1.starts_with("[v") || place.1 == "[uprobes]" {
                continue;
            }
            let has = |name: &str| flags.split_ascii_whitespace().any(|flag| flag == name);
            let known = FLAGS.iter().find(|(name, _)| has(name));
            if let Some((_, meaning)) = known
                && !has(DROPPABLE)
            {
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

/// The address range and the name of a mapping, if the line is the first one about a mapping.
fn header(line: &str) -> Option<(&str, &str)> {
    let (range, rest) = line.split_once(' ')?;
    let (start, end) = range.split_once('-')?;
    u64::from_str_radix(start, 16).ok()?;
    u64::from_str_radix(end, 16).ok()?;
    // The fields are protection, offset, device, inode and name.
    let name = rest.splitn(5, ' ').nth(4).unwrap_or_default();
    Some((range, name.trim_start()))
}
