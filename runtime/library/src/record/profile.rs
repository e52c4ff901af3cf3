//! Records which archived objects a run writes to, so that a dump can place them together (`-X cds_profile=FILE`).
//!
//! A profile is a text file with one hexadecimal key per line. A key depends on the content of an object, not on its
//! address. So a profile that was recorded with one archive fits other archives that contain the same objects.

use std::collections::{BTreeSet, HashSet};
use std::fmt::Write;
use std::fs;
use std::path::Path;

use archive_format::{SectionKind, content_hash};

use crate::cpython::object::{Kind, Object, Raised};
use crate::cpython::{archived, encode};
use crate::layers::Layers;
use crate::mapped::Mapped;
use crate::reader;

/// Key of a str.
pub fn string_key(string: &Object) -> u64 {
    // SAFETY: the object is a str.
    content_hash(unsafe { archived::characters(string) })
}

/// Key of a bytes object.
pub fn bytes_key(bytes: &Object) -> u64 {
    // SAFETY: the object is a bytes object.
    content_hash(&[&b"bytes\0"[..], unsafe { bytes.bytes() }].concat())
}

/// Key of a code object.
pub fn code_key(code: &Object) -> u64 {
    match encode::code_identity(code) {
        Ok(identity) => content_hash(identity.as_bytes()),
        Err(raised) => {
            raised.clear();
            0
        }
    }
}

/// Writes the profile of the run up to now.
pub fn write(path: &Path, layers: &Layers) -> std::io::Result<()> {
    let mut keys = BTreeSet::new();
    for layer in layers.iter() {
        let archive = &layer.archive;
        let stored_code =
            reader::stored_section(archive, SectionKind::Code).map_err(std::io::Error::other)?;
        let mut walk = Walk {
            archive,
            stored_code,
            visited: HashSet::new(),
            keys: &mut keys,
        };
        for module in layer.archive.tables.modules() {
            if let Some((code, _)) = module.code.and_then(|code| layer.archive.object(code)) {
                // SAFETY: in an archive in use, the offsets of the catalog lead to code objects.
                let code = unsafe { archived::object(code) };
                let _ = walk.visit(&code).map_err(Raised::clear);
            }
        }
    }
    let mut text = String::new();
    for key in keys {
        // Writing to a string cannot fail.
        let _ = writeln!(text, "{key:016x}");
    }
    fs::write(path, text)
}

struct Walk<'a> {
    archive: &'a Mapped,
    stored_code: Vec<u8>,
    visited: HashSet<u64>,
    keys: &'a mut BTreeSet<u64>,
}

impl Walk<'_> {
    fn visit(&mut self, object: &Object) -> Result<(), Raised> {
        let address = object.address();
        if self.archive.requested_address(address).is_none() || !self.visited.insert(address) {
            return Ok(());
        }
        match object.kind() {
            // SAFETY: the object is a str.
            Some(Kind::Str) if unsafe { archived::is_hashed(object) } => {
                self.keys.insert(string_key(object));
            }
            // SAFETY: the object is a bytes object.
            Some(Kind::Bytes) if unsafe { archived::is_hashed_bytes(object) } => {
                self.keys.insert(bytes_key(object));
            }
            Some(Kind::Code) => {
                if self.has_run(object) {
                    self.keys.insert(code_key(object));
                }
                encode::code_parts(object).try_map(|part| self.visit(&part))?;
            }
            Some(Kind::Tuple) => {
                for item in object.to_items()? {
                    self.visit(&item)?;
                }
            }
            _ => {}
        }
        Ok(())
    }

    /// Whether code has run, which at least decrements the counters in its inline caches.
    fn has_run(&self, code: &Object) -> bool {
        let now = encode::bytecode(code);
        let section = self.archive.header.section(SectionKind::Code);
        let start = self.archive.base() + section.memory_offset;
        let offset = (now.as_ptr() as u64).wrapping_sub(start) as usize;
        let stored = self
            .stored_code
            .get(offset..offset.saturating_add(now.len()));
        stored.is_some_and(|stored| stored != now)
    }
}
