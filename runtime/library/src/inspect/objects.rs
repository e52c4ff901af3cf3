//! The objects of an archive file.

use std::collections::HashMap;

use archive_format::SectionKind;

use super::stored_archive::StoredArchive;
use crate::cpython::anchor;
use crate::cpython::object::Kind;
use crate::cpython::stored::{Stored, immortal_refcount};

/// The place of an object.
#[derive(Debug, Clone, Copy)]
pub struct Place {
    pub section: SectionKind,
    /// Memory offset of the object, after its GC header.
    pub offset: u64,
    /// Size including the GC header and the space for a frozenset's table.
    pub bytes: u64,
    pub kind: Kind,
}

pub struct Objects<'a> {
    pub archive: &'a StoredArchive,
    /// Sorted by memory offset.
    pub places: Vec<Place>,
    /// Descriptions of the places that contain no valid object.
    pub faults: Vec<String>,
    /// The memory offset of each frozenset, and of the tuple with its elements.
    elements: HashMap<u64, u64>,
}

/// The alignment of objects in bytes.
const STEP: usize = archive_format::OBJECT_ALIGNMENT as usize;

impl<'a> Objects<'a> {
    /// Walks all sections of an archive. This build of the interpreter must have written it.
    pub fn find(archive: &'a StoredArchive) -> Self {
        let sets = archive.tables().map(|tables| {
            let sets = tables.all_frozensets();
            sets.map(|set| (set.object, set.elements)).collect()
        });
        let mut objects = Self {
            archive,
            places: Vec::new(),
            faults: Vec::new(),
            elements: sets.unwrap_or_default(),
        };
        for kind in SectionKind::ALL {
            if kind.has_objects() {
                objects.walk(kind);
            }
        }
        objects
    }

    /// Walks a section. Between objects there are only zeros: padding, and the GC headers of untracked objects.
    fn walk(&mut self, section: SectionKind) {
        let bytes = self.archive.bytes(section);
        let start = self.archive.header.section(section).memory_offset;
        let (mut position, mut in_fault) = (0, false);
        while let Some(word) = bytes.get(position..position + 8) {
            if word == [0; 8] {
                position += STEP;
                continue;
            }
            let offset = start + position as u64;
            match Stored::read(&bytes[position..], self.shift()) {
                Ok(object) => {
                    self.places.push(Place {
                        section,
                        offset,
                        bytes: (object.head() + object.bytes().len()) as u64,
                        kind: object.kind,
                    });
                    position += object.bytes().len().next_multiple_of(STEP);
                    in_fault = false;
                }
                Err(reason) => {
                    // Adjacent invalid words are reported once, unless a word looks like the start of an object.
                    let is_object = word == immortal_refcount().to_ne_bytes();
                    if !in_fault || is_object {
                        self.faults
                            .push(format!("object at {position:#x} of {section}: {reason}"));
                    }
                    in_fault = true;
                    position += STEP;
                }
            }
        }
    }

    /// The address of this interpreter's static objects minus their address in the interpreter that wrote the archive.
    pub fn shift(&self) -> u64 {
        anchor().wrapping_sub(self.archive.header.anchor)
    }

    /// The index of the object at a memory offset.
    pub fn index(&self, offset: u64) -> Option<usize> {
        self.places
            .binary_search_by_key(&offset, |place| place.offset)
            .ok()
    }

    /// The object at a memory offset.
    pub fn at(&self, offset: u64) -> Option<(&Place, Stored<'a>)> {
        let place = &self.places[self.index(offset)?];
        Some((place, self.stored(place)?))
    }

    pub fn stored(&self, place: &Place) -> Option<Stored<'a>> {
        let section = self.archive.header.section(place.section);
        let start = (place.offset - section.memory_offset) as usize;
        let bytes = self.archive.bytes(place.section).get(start..)?;
        Stored::read(bytes, self.shift()).ok()
    }

    /// The memory offset of the tuple with a frozenset's elements.
    pub fn elements(&self, set: u64) -> Option<u64> {
        self.elements.get(&set).copied()
    }

    /// The indices of the objects in this archive to which an object refers.
    pub fn references(&self, index: usize) -> impl Iterator<Item = usize> {
        let place = &self.places[index];
        let pointers = self
            .stored(place)
            .map_or_else(Vec::new, |object| object.pointers());
        pointers
            .into_iter()
            .filter_map(|pointer| self.archive.offset(pointer.address))
            .chain(self.elements(place.offset))
            .filter_map(|offset| self.index(offset))
    }
}
