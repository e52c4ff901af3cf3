//! The build id, which identifies a build of the interpreter.

use alloc::format;
use alloc::string::String;

/// Finds the `NT_GNU_BUILD_ID` note in the notes of a segment, and returns it in hexadecimal. A note is three words
/// (length of name, length of contents, type), then name and contents, each padded to four bytes (elf(5)).
pub fn build_id(mut notes: &[u8]) -> Option<String> {
    const NT_GNU_BUILD_ID: u32 = 3;
    loop {
        let word = |index: usize| {
            Some(u32::from_ne_bytes(
                notes.get(index * 4..index * 4 + 4)?.try_into().ok()?,
            ))
        };
        let (name_bytes, bytes, kind) = (word(0)? as usize, word(1)? as usize, word(2)?);
        let start = 12 + name_bytes.next_multiple_of(4);
        let name = notes.get(12..12 + name_bytes)?;
        let contents = notes.get(start..start.checked_add(bytes)?)?;
        if kind == NT_GNU_BUILD_ID && name == b"GNU\0" {
            return Some(contents.iter().map(|byte| format!("{byte:02x}")).collect());
        }
        notes = notes.get(start + bytes.next_multiple_of(4)..)?;
    }
}
