//! Opening an archive: check the file, map it, relocate it if it must be.
//!
//! Everything is checked before the first byte is mapped, except the tables, which are checked where they
//! lie. A file that fails a check is let go of as if it had not been there.

mod check;
mod map;
mod prefetch;
mod relocate;

use std::fs::File;
use std::path::{Path, PathBuf};
use std::slice;

use archive_format::{Header, Rejection, SectionKind, Tables};

use crate::executable::Executable;
use crate::fault;
use crate::mapped::Mapped;

pub use check::section_bytes;

/// Why an archive is not used. With the path in front it is the line that a user reads.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    #[error("cannot {0}: {1}")]
    System(&'static str, std::io::Error),
    #[error("not a regular file")]
    NotRegular,
    #[error("it is a symbolic link in a directory that anybody may write to: name the file itself")]
    AnybodysLink,
    #[error(
        "it could be changed by others (owner {owner}, mode {mode:03o}): own it and `chmod go-w` it"
    )]
    Untrusted { owner: u32, mode: u32 },
    #[error("{0}")]
    Rejected(#[from] Rejection),
    #[error("address space is limited to {} kB (ulimit -v, ulimit -d), of which it would take too much", limit / 1024)]
    Limited { limit: u64 },
    #[error("another archive has been put in its place")]
    Replaced,
    #[error("this interpreter has no build id, so nothing tells which archives fit it")]
    NoBuildId,
}

/// Opens a file only to look at it, whoever may have written it.
pub fn open_untrusted(path: &Path) -> Result<(File, Header), OpenError> {
    let file = check::file(path)?;
    let header = check::header(&file)?;
    Ok((file, header))
}

/// Whether the user of this process takes archives from whoever wrote the file.
pub fn trust(path: &Path) -> Result<(), OpenError> {
    check::trust(&check::file(path)?)
}

/// A file whose header has been checked.
pub struct Candidate {
    path: PathBuf,
    file: File,
    pub header: Header,
}

impl Candidate {
    /// Opens a file that looks like an archive.
    pub fn open(path: &Path) -> Result<Self, OpenError> {
        let file = check::file(path)?;
        check::trust(&file)?;
        let header = check::header(&file)?;
        Ok(Self {
            path: path.to_owned(),
            file,
            header,
        })
    }

    /// Has its hot part read, if it is not in memory.
    pub fn read_ahead(&self) {
        prefetch::hot_part(&self.file, &self.header);
    }

    /// Memory offsets of all pointers in its objects.
    pub fn pointers(&self) -> Result<Vec<u64>, OpenError> {
        let mut pointers = Vec::new();
        relocate::visit_pointers(&self.file, &self.header, |offset| {
            pointers.push(offset);
            Ok(())
        })?;
        Ok(pointers)
    }

    /// Maps it, if it was made for an interpreter with these facts, on top of the layer that it refers into. All of it
    /// is verified first if it may not be what was written. If `strict`, that is done in any case, and what is never
    /// written is mapped read-only.
    pub fn map(
        self,
        facts: &str,
        executable: &Executable,
        lower: Option<&Mapped>,
        strict: bool,
    ) -> Result<Mapped, OpenError> {
        let Self { path, file, header } = self;
        header.check_facts(facts)?;
        let mapping = map::map(&file, &header)?;
        fault::point("mapped");
        let contents = |kind| {
            let section = header.section(kind);
            // SAFETY: the section was just mapped, and nobody else knows of it.
            unsafe {
                slice::from_raw_parts(
                    mapping.at(section.memory_offset).cast_const(),
                    section.bytes as usize,
                )
            }
        };
        if strict || !check::is_sealed(&file, &header)? {
            for section in header.sections().iter().filter(|s| s.kind.is_mapped()) {
                section.verify(contents(section.kind))?;
            }
            let relocations = header.section(SectionKind::Relocations);
            relocations.verify(&check::section_bytes(&file, relocations)?)?;
        }
        let bytes: &'static [u8] = contents(SectionKind::Tables);
        let tables = Tables::parse(bytes)?;
        let relocated = relocate::relocate(&file, &header, &mapping, executable, lower)?;
        fault::point("relocated");
        if strict {
            map::seal(&mapping, &header)?;
        }
        Ok(Mapped {
            path,
            tables,
            relocated,
            base: mapping.keep(),
            header,
        })
    }
}

/// Looks up everything that is in it, as programs do that use all of it, and lets go of it. Returns how much was
/// found; what cannot be found is not an error, since programs then do without.
///
/// # Safety
/// Nothing of it has been handed out.
pub unsafe fn dry_run(archive: Mapped) -> usize {
    let tables = &archive.tables;
    let objects = tables.all_interned().chain(tables.all_patterns());
    let mut found = objects
        .filter(|&offset| archive.object(offset).is_some())
        .count();
    for module in tables.modules() {
        found += usize::from(tables.module(module.origin).is_some());
        let sets = tables.frozensets(&module);
        found += sets
            .filter(|set| archive.object(set.object).is_some())
            .count();
        found += usize::from(module.code.and_then(|code| archive.object(code)).is_some());
    }
    for directory in tables.directories() {
        found += usize::from(tables.directory(directory.path).is_some());
        for name in ["", "a", "json", "~"] {
            found += usize::from(tables.entry(directory, name).is_some());
        }
    }
    let (base, bytes) = (archive.base.as_ptr(), archive.header.mapped_bytes as usize);
    // SAFETY: the caller knows that nothing of it has been handed out, and the tables are not used any more.
    unsafe { map::unmap(base, bytes) };
    found
}

/// A section as it is in the file, whatever this process has written to its copy.
pub fn stored_section(archive: &Mapped, kind: SectionKind) -> Result<Vec<u8>, OpenError> {
    let Candidate { file, header, .. } = Candidate::open(&archive.path)?;
    if header != archive.header {
        return Err(OpenError::Replaced);
    }
    check::section_bytes(&file, header.section(kind))
}
