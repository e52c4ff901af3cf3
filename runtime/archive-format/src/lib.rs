//! The archive file: what lies where, how it is written down and how it is checked.
//!
//! An archive is a header and a handful of page-aligned sections. Most sections are memory images of
//! CPython objects, which this crate treats as bytes; the *tables* section says what can be found in
//! them. `docs/archive-format.md` has the picture.
//!
//! Three names for a place are kept apart throughout:
//! - *file offset*: bytes from the start of the file;
//! - *memory offset*: bytes from the archive's base address, wherever it was mapped;
//! - *address*: a pointer as it is stored in an object, right if the archive lies at its requested base.
//!
//! Nothing read from a file is used before it was checked: [`Header::parse`] proves that all sections
//! lie in the file and in the mapping without overlap, [`Tables::parse`] that all tables lie in their
//! section, and every look-up checks the offsets that it follows.

mod header;
mod rejection;
mod relocation;
mod tables;

pub use header::{
    Archive, COMMAND, Extent, Freshness, Header, Layout, Length, MAX_HEADER_BYTES, PAGE, Section,
    SectionKind, VERSION,
};
pub use rejection::Rejection;
pub use relocation::{Bitmap, BitmapBuilder};
pub use tables::{
    Directory, Entry, FrozenSet, Module, NewModule, OBJECT_ALIGNMENT, Tables, TablesBuilder,
    content_hash,
};
