//! Verifies that an archive is as its writer left it: every checksum, bound and reference.

use std::collections::HashSet;

use archive_format::{Bitmap, SectionKind, Tables, content_hash};

use super::objects::{Objects, Place};
use super::stored_archive::StoredArchive;
use crate::cpython::archived::FROZENSET_ENTRY_BYTES;
use crate::cpython::object::Kind;
use crate::cpython::stored::Stored;
use crate::executable::Executable;

/// Errors in the checksums and the tables.
pub fn sections(archive: &StoredArchive) -> Vec<String> {
    let header = &archive.header;
    let mut faults: Vec<String> = header
        .sections()
        .iter()
        .filter_map(|section| section.verify(archive.bytes(section.kind)).err())
        .map(|rejection| rejection.to_string())
        .collect();
    match archive.tables() {
        Ok(tables) => faults.extend(tables.audit()),
        Err(rejection) => faults.push(rejection.to_string()),
    }
    faults
}

/// Errors in the objects and in the references to them. `lower` has the objects of the lower layer, if that is the one
/// for which the archive was written.
pub fn objects(objects: &Objects, lower: Option<&Objects>, executable: &Executable) -> Vec<String> {
    let mut check = Check {
        objects,
        lower,
        executable,
        faults: objects.faults.clone(),
    };
    check.pointers();
    check.relocations();
    if let Ok(tables) = objects.archive.tables() {
        check.tables(&tables);
    }
    check.faults
}

struct Check<'a, 'b> {
    objects: &'b Objects<'a>,
    lower: Option<&'b Objects<'a>>,
    executable: &'b Executable,
    faults: Vec<String>,
}

impl Check<'_, '_> {
    fn pointers(&mut self) {
        for place in &self.objects.places {
            let Some(object) = self.objects.stored(place) else {
                continue;
            };
            for pointer in object.pointers() {
                if let Err(reason) = self.target(pointer.address, pointer.expected) {
                    let (kind, field) = (place.kind.name(), pointer.field);
                    self.fault(place, &format!("{field} of this {kind} {reason}"));
                }
            }
        }
    }

    fn target(&self, address: u64, expected: Option<Kind>) -> Result<(), String> {
        let layers = [Some(self.objects), self.lower];
        for objects in layers.into_iter().flatten() {
            if let Some(offset) = objects.archive.offset(address) {
                let index = objects.index(offset).ok_or("points between objects")?;
                let found = objects.places[index].kind;
                return match expected {
                    Some(kind) if kind != found => {
                        Err(format!("is a {}, not a {}", found.name(), kind.name()))
                    }
                    _ => Ok(()),
                };
            }
        }
        if self
            .executable
            .contains(address.wrapping_add(self.objects.shift()))
        {
            return Ok(());
        }
        Err("has no valid target".to_owned())
    }

    /// Checks that the bitmap marks exactly the pointers of the objects.
    fn relocations(&mut self) {
        let archive = self.objects.archive;
        let bitmap = Bitmap(archive.bytes(SectionKind::Relocations));
        let mut marked = HashSet::new();
        for section in archive.header.sections() {
            if section.kind.has_objects() {
                marked.extend(bitmap.pointers(section.memory_offset, section.bytes));
            }
        }
        let mut missing = 0;
        for place in &self.objects.places {
            let pointers = self
                .objects
                .stored(place)
                .map_or_else(Vec::new, |object| object.pointers());
            for pointer in pointers {
                if !marked.remove(&(place.offset + pointer.offset as u64)) {
                    missing += 1;
                }
            }
        }
        if missing > 0 {
            self.faults
                .push(format!("relocations: {missing} pointers are not marked"));
        }
        if !marked.is_empty() {
            self.faults.push(format!(
                "relocations: {} marks are not on a pointer",
                marked.len()
            ));
        }
    }

    fn tables(&mut self, tables: &Tables) {
        for module in tables.modules() {
            if let Some(code) = module.code {
                self.expect(code, Kind::Code, &format!("code of {}", module.origin));
            }
        }
        let mut listed = HashSet::new();
        for offset in tables.all_interned() {
            listed.insert(offset);
            if let Some(object) = self.expect(offset, Kind::Str, "an interned string") {
                let hash = object.characters().map(content_hash);
                let is_found =
                    hash.is_some_and(|hash| tables.interned(hash).any(|at| at == offset));
                if !is_found {
                    self.faults.push(format!(
                        "tables: the interned string at {offset:#x} cannot be found"
                    ));
                }
            }
        }
        for place in &self.objects.places {
            let object = self.objects.stored(place);
            if object.is_some_and(|object| object.is_interned()) && !listed.contains(&place.offset)
            {
                self.fault(place, "this string is interned, but not in the table");
            }
        }
        for offset in tables.all_patterns() {
            self.expect(offset, Kind::Tuple, "a compiled pattern");
        }
        if let Some(offset) = tables.object() {
            self.expect(offset, Kind::Tuple, "the archived object");
        }
        for set in tables.all_frozensets() {
            self.expect(set.elements, Kind::Tuple, "the elements of a frozenset");
            let Some(object) = self.expect(set.object, Kind::FrozenSet, "a frozenset") else {
                continue;
            };
            let end = set.object + object.bytes().len() as u64;
            let room = set
                .slots
                .checked_mul(FROZENSET_ENTRY_BYTES as u64)
                .and_then(|bytes| set.table.checked_add(bytes));
            if set.table < set.object || room.is_none_or(|room| room > end) {
                self.faults.push(format!(
                    "tables: the frozenset at {:#x} has no room for its elements",
                    set.object
                ));
            }
        }
    }

    fn expect(&mut self, offset: u64, kind: Kind, what: &str) -> Option<Stored<'_>> {
        let found = self.objects.at(offset).map(|(_, object)| object);
        let object = found.filter(|object| object.kind == kind);
        if object.is_none() {
            let kind = kind.name();
            self.faults
                .push(format!("tables: {what}: there is no {kind} at {offset:#x}"));
        }
        object
    }

    fn fault(&mut self, place: &Place, text: &str) {
        let section = self.objects.archive.header.section(place.section);
        let position = place.offset - section.memory_offset;
        self.faults.push(format!(
            "object at {position:#x} of {}: {text}",
            place.section
        ));
    }
}
