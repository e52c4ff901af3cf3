//! Directories in which modules were searched. Only the entries that a search would find are compared.

use alloc::vec::Vec;
use core::mem::MaybeUninit;

use rustix::fs::{CWD, FileType, Mode, OFlags, RawDir};
use serde::{Deserialize, Serialize};

use crate::PAGE;
use crate::bytes::Bytes;
use crate::times::modified_ns;

#[derive(Serialize, Deserialize)]
pub struct Searched<'a> {
    #[serde(borrow)]
    pub path: Bytes<'a>,
    /// Names that were searched for, sorted. NUL follows each.
    pub names: Bytes<'a>,
    /// What the directory contained of these names.
    pub state: State,
}

/// The part of a directory that a search for modules finds.
#[derive(Serialize, Deserialize, PartialEq, Eq, Clone)]
pub struct State {
    /// While time and inode are the same, no entry was added or removed.
    mtime_ns: i64,
    inode: u64,
    /// Entries with one of the names, sorted. NUL follows each. The key compares separately what else a search looks
    /// at.
    entries: Vec<u8>,
}

impl State {
    /// The current state of a directory; none if it cannot be listed.
    pub fn now<'b>(
        path: &[u8],
        names: &[u8],
        suffixes: impl Iterator<Item = &'b [u8]> + Clone,
    ) -> Option<Self> {
        // Read this first: a change while the directory is listed gives it another time than this one.
        let (mtime_ns, inode) = identity(path)?;
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let opened = rustix::fs::openat(CWD, path, flags, Mode::empty()).ok()?;
        let mut buffer = [MaybeUninit::uninit(); PAGE as usize];
        let mut listed = RawDir::new(opened, &mut buffer);
        let mut entries = Vec::new();
        while let Some(entry) = listed.next() {
            entries.push(entry.ok()?.file_name().to_bytes().to_vec());
        }
        let entries = entries.iter().map(Vec::as_slice);
        Some(Self {
            mtime_ns,
            inode,
            entries: found(entries, names, suffixes),
        })
    }
}

/// The entries of a directory that a search for these names finds, sorted. NUL follows each entry and each name.
pub fn found<'e, 's>(
    entries: impl Iterator<Item = &'e [u8]>,
    names: &[u8],
    suffixes: impl Iterator<Item = &'s [u8]> + Clone,
) -> Vec<u8> {
    let names: Vec<&[u8]> = parts(names).collect();
    let is_searched = |name: &[u8]| names.binary_search(&name).is_ok();
    let is_found = |entry: &&[u8]| {
        let stem = |suffix: &'s [u8]| entry.strip_suffix(suffix);
        is_searched(entry) || suffixes.clone().filter_map(stem).any(is_searched)
    };
    let mut found: Vec<&[u8]> = entries.filter(is_found).collect();
    found.sort_unstable();
    let with_end = found.into_iter().flat_map(|entry| [entry, b"\0"]);
    with_end.flatten().copied().collect()
}

impl Searched<'_> {
    /// Whether a search would find the same as when the image was taken.
    pub fn is_as_it_was<'b>(&self, suffixes: impl Iterator<Item = &'b [u8]> + Clone) -> bool {
        /// Nanoseconds. Finders compare times as floating-point numbers.
        const SAME_TIME: u64 = 1000;

        let Some((mtime_ns, inode)) = identity(&self.path) else {
            return false;
        };
        if (mtime_ns, inode) == (self.state.mtime_ns, self.state.inode) {
            return true;
        }
        // A finder in the image would keep its old list of entries, because it takes the times for equal.
        if mtime_ns.abs_diff(self.state.mtime_ns) < SAME_TIME {
            return false;
        }
        let now = State::now(&self.path, &self.names, suffixes);
        now.is_some_and(|now| now.entries == self.state.entries)
    }
}

/// Modification time and inode of a directory.
fn identity(path: &[u8]) -> Option<(i64, u64)> {
    let status = rustix::fs::stat(path).ok()?;
    let is_directory = FileType::from_raw_mode(status.st_mode) == FileType::Directory;
    is_directory.then(|| (modified_ns(&status), status.st_ino))
}

fn parts(text: &[u8]) -> impl Iterator<Item = &[u8]> {
    text.split_inclusive(|&byte| byte == 0)
        .filter_map(|part| part.strip_suffix(b"\0"))
}
