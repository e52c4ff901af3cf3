//! Directories in which modules were searched: of these count only the entries that a search would find.

use alloc::vec::Vec;
use core::mem::MaybeUninit;

use rustix::fs::{CWD, FileType, Mode, OFlags, RawDir};
use serde::{Deserialize, Serialize};

use crate::PAGE;
use crate::times::modified_ns;

#[derive(Serialize, Deserialize)]
pub struct Searched<'a> {
    pub path: &'a [u8],
    /// Names that were searched for, in their order, each with NUL behind it.
    pub names: &'a [u8],
    /// What it had of them.
    pub state: State,
}

/// Of what a search finds.
#[derive(Serialize, Deserialize, PartialEq, Eq, Clone)]
pub struct State {
    /// As long as these stay, nobody has added or removed entries.
    mtime_ns: i64,
    inode: u64,
    /// Those with one of the names, in their order, each with NUL behind it. All else that a search looks at is
    /// compared by itself.
    entries: Vec<u8>,
}

impl State {
    /// That of a directory now, or none if it cannot be listed.
    pub fn now<'b>(
        path: &[u8],
        names: &[u8],
        suffixes: impl Iterator<Item = &'b str> + Clone,
    ) -> Option<Self> {
        // Whoever changes it while it is listed gives it another time than this one.
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

/// What a search for these names finds among the entries of a directory, in their order; NUL behind each, as behind the names.
pub fn found<'e, 's>(
    entries: impl Iterator<Item = &'e [u8]>,
    names: &[u8],
    suffixes: impl Iterator<Item = &'s str> + Clone,
) -> Vec<u8> {
    let names: Vec<&[u8]> = parts(names).collect();
    let is_searched = |name: &[u8]| names.binary_search(&name).is_ok();
    let is_found = |entry: &&[u8]| {
        let stem = |suffix: &'s str| entry.strip_suffix(suffix.as_bytes());
        is_searched(entry) || suffixes.clone().filter_map(stem).any(is_searched)
    };
    let mut found: Vec<&[u8]> = entries.filter(is_found).collect();
    found.sort_unstable();
    let with_end = found.into_iter().flat_map(|entry| [entry, b"\0"]);
    with_end.flatten().copied().collect()
}

impl Searched<'_> {
    /// Whether a search would find what it has found.
    pub fn is_as_it_was(&self, suffixes: &[&str]) -> bool {
        /// Nanoseconds. Finders compare times as floating-point numbers.
        const SAME_TIME: u64 = 1000;

        let Some((mtime_ns, inode)) = identity(self.path) else {
            return false;
        };
        if (mtime_ns, inode) == (self.state.mtime_ns, self.state.inode) {
            return true;
        }
        // A finder of the image would not notice that it knows another directory.
        if mtime_ns.abs_diff(self.state.mtime_ns) < SAME_TIME {
            return false;
        }
        let now = State::now(self.path, self.names, suffixes.iter().copied());
        now.is_some_and(|now| now.entries == self.state.entries)
    }
}

/// Time of the last change and inode of a directory.
fn identity(path: &[u8]) -> Option<(i64, u64)> {
    let status = rustix::fs::stat(path).ok()?;
    let is_directory = FileType::from_raw_mode(status.st_mode) == FileType::Directory;
    is_directory.then(|| (modified_ns(&status), status.st_ino))
}

fn parts(text: &[u8]) -> impl Iterator<Item = &[u8]> {
    text.split_inclusive(|&byte| byte == 0)
        .filter_map(|part| part.strip_suffix(b"\0"))
}
