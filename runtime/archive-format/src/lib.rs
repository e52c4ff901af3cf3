//! The archive file: its layout, how it is encoded and how it is checked.
//!
//! An archive is a header and a handful of page-aligned sections. Most sections are memory images of
//! CPython objects, which this crate treats as bytes. The *tables* section is the index of these
//! objects. `docs/archive-format.md` shows the layout.
//!
//! Three terms for positions are distinguished everywhere:
//! - *file offset*: bytes from the start of the file;
//! - *memory offset*: bytes from the base address of the mapped archive;
//! - *address*: a pointer as it is stored in an object. It is correct if the archive is mapped at its requested base.
//!
//! No data of a file is used before it is checked: [`Header::parse`] proves that all sections
//! lie in the file and in the mapping without overlap, [`Tables::parse`] proves that all tables lie in
//! their section, and each look-up checks the offsets that it follows.

pub mod frames;
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
