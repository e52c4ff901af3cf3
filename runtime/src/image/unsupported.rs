//! Startup images where there are none: their registers and system calls are those of x86-64.

use std::ffi::{c_char, c_int};

use crate::runtime;

pub fn refusal() -> Option<&'static str> {
    None
}

/// # Safety
/// None is needed.
pub unsafe fn restore(_argc: c_int, _argv: *const *const c_char) {}

/// Says so, if an image is asked for.
pub fn take() -> Option<i32> {
    runtime::current()?.options.image.as_ref()?;
    runtime::complain("no startup image: they are not supported on this architecture");
    Some(1)
}

pub fn finalize_restored() -> bool {
    false
}

pub fn end_restored(_exit_code: c_int) {}
