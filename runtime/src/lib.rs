//! The archive runtime: maps a file of ready-made CPython objects and answers the import system from it.
//!
//! Dependencies point one way: [`ffi`] is all that C calls; it asks [`runtime`], which keeps the mapped
//! archive ([`reader`]) and answers for the import system ([`catalog`], [`intern`]). [`writer`] makes
//! archives. Only [`cpython`] knows CPython's structs or calls its functions.
//!
//! The first law: an archive may make a program faster, never different. Everything in here answers
//! "not from the archive" when in doubt, and a panic ends as that answer too.

// What only startup images need is left over where there are none.
#![cfg_attr(not(target_arch = "x86_64"), allow(dead_code))]

mod archive_module;
mod auto;
mod catalog;
mod cpython;
mod extensions;
mod fault;
mod ffi;
mod fingerprint;
mod image;
mod inherited;
mod inspect;
mod intern;
mod layers;
mod leftovers;
mod loaders;
mod memory;
mod objects;
mod options;
mod page_map;
mod patterns;
mod postpone;
mod process_memory;
mod profile;
mod reader;
mod report;
mod roots;
mod runs;
mod runtime;
mod sealed;
mod stats;
mod trace;
mod writer;
