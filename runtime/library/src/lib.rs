//! The archive runtime: maps a file of ready-made CPython objects and answers the import system from it.
//!
//! Dependencies point one way: [`ffi`] is all that C calls; it asks [`runtime`], which keeps the mapped
//! archive ([`reader`]) and answers for the import system ([`answer::catalog`], [`answer::intern`]). [`writer`] makes
//! archives. Only [`cpython`] knows CPython's structs or calls its functions.
//!
//! The first law: an archive may make a program faster, never different. Everything in here answers
//! "not from the archive" when in doubt, and a panic ends as that answer too.

// What only startup images need is left over where there are none.
#![cfg_attr(not(target_arch = "x86_64"), allow(dead_code))]

mod answer;
mod archive_module;
mod border;
mod cpython;
mod executable;
mod fault;
mod ffi;
mod files;
mod fingerprint;
mod image;
mod inspect;
mod kernel;
mod layers;
mod mapped;
mod messages;
mod objects;
mod options;
mod reader;
mod record;
mod report;
mod runtime;
mod writer;
