//! `/proc/PID/maps` (proc(5)).

use std::{fs, io};

/// Bits of [`Mapping::protection`] (mmap(2)).
pub const READ: u32 = 1;
pub const WRITE: u32 = 2;
pub const EXECUTE: u32 = 4;

/// A mapping of a process.
#[derive(Debug, PartialEq, Eq)]
pub struct Mapping {
    pub start: u64,
    pub end: u64,
    /// `PROT_READ` and so on (mmap(2)).
    pub protection: u32,
    pub is_shared: bool,
    pub offset: u64,
    pub inode: u64,
    /// A path, a name such as `[heap]`, or empty.
    pub name: String,
    /// Flags of two letters each (proc(5), `VmFlags` of `/proc/PID/smaps`). Only [`with_flags`] sets them.
    flags: String,
}

impl Mapping {
    /// Whether the mapping has a flag, such as `nr` (no reserve) or `hg` (huge pages were advised).
    pub fn has_flag(&self, name: &str) -> bool {
        self.flags.split_whitespace().any(|flag| flag == name)
    }
}

/// The mappings of a process, which is a process id or `self`.
pub fn of_process(pid: &str) -> io::Result<Vec<Mapping>> {
    let text = fs::read_to_string(format!("/proc/{pid}/maps"))?;
    let damaged = || io::Error::other("cannot parse /proc/PID/maps");
    text.lines()
        .map(|line| parse(line).ok_or_else(damaged))
        .collect()
}

/// The same, with flags. This is slower, because the kernel visits each page.
pub fn with_flags(pid: &str) -> io::Result<Vec<Mapping>> {
    let text = fs::read_to_string(format!("/proc/{pid}/smaps"))?;
    let damaged = || io::Error::other("cannot parse /proc/PID/smaps");
    let mut mappings: Vec<Mapping> = Vec::new();
    for line in text.lines() {
        // `Size:`, `VmFlags:` and so on begin with a capital letter. Addresses contain only small letters.
        if !line.starts_with(|first: char| first.is_ascii_uppercase()) {
            mappings.push(parse(line).ok_or_else(damaged)?);
        } else if let Some(flags) = line.strip_prefix("VmFlags:") {
            flags.clone_into(&mut mappings.last_mut().ok_or_else(damaged)?.flags);
        }
    }
    Ok(mappings)
}

fn parse(line: &str) -> Option<Mapping> {
    let mut fields = line.splitn(6, ' ');
    let (start, end) = fields.next()?.split_once('-')?;
    let permissions = fields.next()?.as_bytes();
    let offset = fields.next()?;
    let (_device, inode) = (fields.next()?, fields.next()?);
    let bit = |index: usize, letter, bit| {
        if permissions.get(index) == Some(&letter) {
            bit
        } else {
            0
        }
    };
    Some(Mapping {
        start: u64::from_str_radix(start, 16).ok()?,
        end: u64::from_str_radix(end, 16).ok()?,
        protection: bit(0, b'r', 1) | bit(1, b'w', 2) | bit(2, b'x', 4),
        is_shared: permissions.get(3) == Some(&b's'),
        offset: u64::from_str_radix(offset, 16).ok()?,
        inode: inode.parse().ok()?,
        name: fields.next().unwrap_or_default().trim_start().to_owned(),
        flags: String::new(),
    })
}
