//! The archive runtime: maps a file of prepared CPython objects and answers the import system from it.
//!
//! Dependencies point in one direction. C calls only [`ffi`]. [`ffi`] calls [`runtime`], which keeps the mapped archive
//! ([`reader`]) and answers the import system ([`answer::catalog`], [`answer::intern`]). [`writer`] writes archives.
//! Only [`cpython`] knows CPython's structs and calls its functions.
//!
//! The most important rule: an archive may make a program faster, but must never change what it does. In case of doubt,
//! every function here answers "not from the archive"; a panic has the same result.

// Where startup images are not supported, the code that only they need is unused.
#![cfg_attr(not(target_arch = "x86_64"), allow(dead_code))]

mod answer;
mod archive_module;
mod border;
mod cache;
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
