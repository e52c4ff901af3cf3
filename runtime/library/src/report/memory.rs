//! The memory that the sections of a mapped archive cost this process, as the kernel counts it.

use std::fs;

use archive_format::SectionKind;

use crate::mapped::Mapped;

/// Memory of one section, in kB (proc_pid_smaps(5)).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Usage {
    pub kind: SectionKind,
    /// Mapped pages of the section.
    pub resident: u64,
    /// Pages that this process has written to, and therefore has its own copy of.
    pub private_dirty: u64,
}

/// The usage of each mapped section. Empty if there is no `/proc`.
pub fn usage(archive: &Mapped) -> Vec<Usage> {
    let Ok(smaps) = fs::read_to_string("/proc/self/smaps") else {
        return Vec::new();
    };
    let mut found = Vec::new();
    for section in archive
        .header
        .sections()
        .iter()
        .filter(|s| s.kind.is_mapped() && s.bytes > 0)
    {
        let starts = section
            .extents()
            .map(|extent| archive.base() + extent.memory_offset);
        let counts: Option<Vec<_>> = starts.map(|start| counts(&smaps, start)).collect();
        if let Some(counts) = counts {
            found.push(Usage {
                kind: section.kind,
                resident: counts.iter().map(|(resident, _)| resident).sum(),
                private_dirty: counts.iter().map(|(_, dirty)| dirty).sum(),
            });
        }
    }
    found
}

/// `Rss` and `Private_Dirty` of the mapping that begins at an address.
fn counts(smaps: &str, start: u64) -> Option<(u64, u64)> {
    let head = format!("{start:x}-");
    let lines = smaps
        .lines()
        .skip_while(|line| !line.starts_with(&head))
        .skip(1);
    let field = |name: &str| {
        let mut lines = lines.clone();
        lines.find_map(|line| {
            line.strip_prefix(name)?
                .trim()
                .strip_suffix(" kB")?
                .parse()
                .ok()
        })
    };
    Some((field("Rss:")?, field("Private_Dirty:")?))
}
