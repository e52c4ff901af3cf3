//! The kernel's flags of the pages of a process (Linux, Documentation/admin-guide/mm/pagemap.rst).

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use startup_image::PAGE;

/// The page map of a process.
pub struct PageMap(File);

/// The flags of one page.
#[derive(Clone, Copy)]
pub struct PageFlags(u64);

impl PageMap {
    /// Opens the page map of a process, which is a process id or `self`.
    pub fn of_process(pid: &str) -> io::Result<Self> {
        Ok(Self(File::open(format!("/proc/{pid}/pagemap"))?))
    }

    /// The flags of all pages from one address to another.
    pub fn flags(&self, start: u64, end: u64) -> io::Result<Vec<PageFlags>> {
        let mut bytes = vec![0; ((end - start) / PAGE * 8) as usize];
        self.0.read_exact_at(&mut bytes, start / PAGE * 8)?;
        let words = bytes.as_chunks().0.iter();
        Ok(words
            .map(|word| PageFlags(u64::from_ne_bytes(*word)))
            .collect())
    }
}

impl PageFlags {
    const PRESENT: u64 = 1 << 63;
    const SWAPPED: u64 = 1 << 62;
    /// A page of a file or of shared memory.
    const FILE: u64 = 1 << 61;
    /// Mapped by this process only.
    const EXCLUSIVE: u64 = 1 << 56;

    /// Whether the page exists in memory or in swap.
    pub fn is_touched(self) -> bool {
        self.0 & (Self::PRESENT | Self::SWAPPED) != 0
    }

    /// Whether the page exists and belongs neither to a file nor to shared memory.
    pub fn is_anonymous(self) -> bool {
        self.is_touched() && self.0 & Self::FILE == 0
    }

    /// Whether the process has written to the page since it last forked or was forked.
    pub fn is_own(self) -> bool {
        let kind = Self::PRESENT | Self::FILE | Self::EXCLUSIVE;
        self.0 & kind == Self::PRESENT | Self::EXCLUSIVE
    }
}
