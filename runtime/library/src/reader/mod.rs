//! Opens an archive: checks the file, maps it, and relocates it if necessary.
//!
//! Everything is checked before the first byte is mapped, except the tables, which are checked after they were mapped.
//! A file that fails a check is closed, and the process continues as if there were no such file.

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

/// The reason why an archive is not used. Users see it after the path of the archive.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    #[error("cannot {0}: {1}")]
    System(&'static str, std::io::Error),
    #[error("not a regular file")]
    NotRegular,
    #[error(
        "it is a symbolic link in a directory that any user can write to: use the path of the file"
    )]
    AnybodysLink,
    #[error(
        "other users can change it (owner {owner}, mode {mode:03o}): own it, and run `chmod go-w`"
    )]
    Untrusted { owner: u32, mode: u32 },
    #[error("{0}")]
    Rejected(#[from] Rejection),
    #[error("it would take too much of the address space, which is limited to {} kB (ulimit -v, ulimit -d)", limit / 1024)]
    Limited { limit: u64 },
    #[error("another archive has replaced it")]
    Replaced,
    #[error("this interpreter has no build id, so it is unknown which archives fit it")]
    NoBuildId,
}

/// Opens a file only to inspect it. Who can have written it is not checked.
pub fn open_untrusted(path: &Path) -> Result<(File, Header), OpenError> {
    let file = check::file(path)?;
    let header = check::header(&file)?;
    Ok((file, header))
}

/// Checks whether this process may use an archive from anyone who can have written the file.
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
    /// Opens a file, and checks its owner, mode and header.
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

    /// Starts reading the hot part, if it is not in memory.
    pub fn read_ahead(&self) {
        prefetch::hot_part(&self.file, &self.header);
    }

    /// The memory offsets of all pointers in the archive's objects.
    pub fn pointers(&self) -> Result<Vec<u64>, OpenError> {
        let mut pointers = Vec::new();
        relocate::visit_pointers(&self.file, &self.header, |offset| {
            pointers.push(offset);
            Ok(())
        })?;
        Ok(pointers)
    }

    /// Maps the archive on top of its lower layer, if it was written for an interpreter with these facts. The whole
    /// file is verified first if it may have changed since it was written. With `strict`, it is always verified, and
    /// the section that is never written is mapped read-only.
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
            // SAFETY: the section was just mapped, and no other code uses it.
            unsafe {
                slice::from_raw_parts(
                    mapping.at(section.memory_offset).cast_const(),
                    section.bytes as usize,
                )
            }
        };
        let is_sealed = check::is_sealed(&file, &header)?;
        if strict || !is_sealed {
            let seal = check::Seal::of(&file)?;
            for section in header.sections().iter().filter(|s| s.kind.is_mapped()) {
                section.verify(contents(section.kind))?;
            }
            let relocations = header.section(SectionKind::Relocations);
            relocations.verify(&check::section_bytes(&file, relocations)?)?;
            if !is_sealed {
                seal.set(&file, &header);
            }
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

/// Looks up everything in an archive, as programs do that use all of it, and unmaps it. Returns how many things were
/// found. A failed lookup is not an error, since programs then continue without the archive.
///
/// # Safety
/// No reference to the archive exists outside of `archive`.
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
    // SAFETY: the caller ensures that nothing refers to the archive, and the tables are not used any more.
    unsafe { map::unmap(base, bytes) };
    found
}

/// A section as it is in the file, without what this process has written to its copy.
pub fn stored_section(archive: &Mapped, kind: SectionKind) -> Result<Vec<u8>, OpenError> {
    let Candidate { file, header, .. } = Candidate::open(&archive.path)?;
    if header != archive.header {
        return Err(OpenError::Replaced);
    }
    check::section_bytes(&file, header.section(kind))
}
