//! Startup images: the contents of their files ([`format`](mod@format)), the check whether an image fits a new process
//! ([`key`]), and how the new process becomes the frozen one ([`restore`]).
//!
//! This code runs in a process that has no C library yet, so it must not call one. Of the crate `libc` it only uses
//! constants. The interpreter, which takes images, shares the types.

#![no_std]

extern crate alloc;

#[cfg(target_arch = "x86_64")]
mod arguments;
pub mod background;
pub mod bounds;
pub mod bytes;
pub mod cache;
pub mod command_line;
pub mod elf;
pub mod facts;
pub mod file_name;
pub mod filters;
pub mod format;
pub mod image_file;
#[cfg(target_arch = "x86_64")]
pub mod kernel_state;
pub mod key;
pub mod malloc_heap;
#[cfg(target_arch = "x86_64")]
mod memory;
pub mod own_file;
pub mod pace;
pub mod patience;
pub mod places;
#[cfg(target_arch = "x86_64")]
pub mod restore;
pub mod searched;
pub mod seen;
#[cfg(target_arch = "x86_64")]
pub mod signals;
pub mod start;
#[cfg(target_arch = "x86_64")]
mod steps;
pub mod streams;
#[cfg(target_arch = "x86_64")]
pub mod system_call;
pub mod times;
#[cfg(target_arch = "x86_64")]
pub mod trampoline;
pub mod uses;

/// Bytes of a page.
pub const PAGE: u64 = 4096;

#[cfg(target_arch = "x86_64")]
fn address(number: u64) -> *mut core::ffi::c_void {
    core::ptr::with_exposed_provenance_mut(number as usize)
}
