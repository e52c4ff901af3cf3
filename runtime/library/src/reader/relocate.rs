//! Relocation: adjusts all pointers if the archive or the interpreter is not at its expected address (a
//! position-independent executable, a shared libpython). Relocation makes private copies of the pages that it writes
//! to. A pointer without a valid target rejects the archive.

use std::fs::File;

use archive_format::{Bitmap, Header, Rejection, SectionKind};

use super::map::Mapping;
use super::{OpenError, check};
use crate::cpython::anchor;
use crate::executable::Executable;
use crate::mapped::Mapped;

/// Relocates the pointers of a mapping whose objects are still writable. Returns whether anything had to be changed.
pub fn relocate(
    file: &File,
    header: &Header,
    mapping: &Mapping,
    executable: &Executable,
    lower: Option<&Mapped>,
) -> Result<bool, OpenError> {
    let archive_shift = mapping.base().wrapping_sub(header.requested_base);
    let interpreter_shift = anchor().wrapping_sub(header.anchor);
    // The addresses where the lower layer was expected, and its distance from there.
    let lower = lower.map(|lower| {
        let start = lower.header.requested_base;
        (
            start..start + lower.header.mapped_bytes,
            lower.base().wrapping_sub(start),
        )
    });
    let lower_shift = lower.as_ref().map_or(0, |(_, shift)| *shift);
    if archive_shift == 0 && interpreter_shift == 0 && lower_shift == 0 {
        return Ok(false);
    }
    let archive = header.requested_base..header.requested_base + header.mapped_bytes;
    visit_pointers(file, header, |offset| {
        let place = mapping.at(offset).cast::<u64>();
        // SAFETY: the place lies in a writable section and is aligned, as all bits of the bitmap are. No other code
        // knows the mapping yet.
        let value = unsafe { *place };
        let moved = if archive.contains(&value) {
            value.wrapping_add(archive_shift)
        } else if let Some((range, shift)) = &lower
            && range.contains(&value)
        {
            value.wrapping_add(*shift)
        } else {
            let moved = value.wrapping_add(interpreter_shift);
            if !executable.contains(moved) {
                return Err(Rejection::Tables("a pointer has no valid target").into());
            }
            moved
        };
        // SAFETY: the same place, which is writable.
        unsafe { *place = moved };
        Ok(())
    })?;
    Ok(true)
}

/// Calls `visit` with the memory offset of each pointer in the objects of an archive.
pub fn visit_pointers(
    file: &File,
    header: &Header,
    mut visit: impl FnMut(u64) -> Result<(), OpenError>,
) -> Result<(), OpenError> {
    let section = header.section(SectionKind::Relocations);
    let bitmap = check::section_bytes(file, section)?;
    section.verify(&bitmap)?;
    let bitmap = Bitmap(&bitmap);
    let sections = header.sections().iter();
    for section in sections.filter(|section| section.kind.has_objects()) {
        let end = section.memory_offset + section.bytes;
        for offset in bitmap.pointers(section.memory_offset, section.bytes) {
            if offset + 8 > end {
                return Err(Rejection::Tables("a relocation lies outside its section").into());
            }
            visit(offset)?;
        }
    }
    Ok(())
}
