//! Startup images where there are none: their registers and system calls are those of x86-64.

use std::ffi::{c_char, c_int};

use crate::cpython::object::Result;
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

/// There is nothing to renew.
pub fn needs_renewal(_path: &std::path::Path) -> bool {
    false
}

pub fn is_read_by_libraries(_name: &str) -> bool {
    false
}

/// # Errors
/// None.
pub fn options_of_process() -> Result<Option<Vec<String>>> {
    Ok(None)
}

pub fn is_immortal() -> bool {
    false
}

/// There are no images whose figures could be asked for.
pub struct Description {
    pub executable: String,
    pub options: Vec<String>,
    pub stored: u64,
    pub zero: u64,
    pub in_files: u64,
    pub regions: usize,
    pub files: Vec<(String, u64)>,
    pub environment: Vec<(String, Option<String>)>,
    pub names: Vec<String>,
    pub paths: usize,
    pub changed: Vec<String>,
}

/// # Errors
/// Always.
pub fn describe(_path: &std::path::Path) -> std::result::Result<Description, String> {
    Err("startup images are not supported on this architecture".to_owned())
}

pub fn finalize_restored() -> bool {
    false
}

pub fn end_restored(_exit_code: c_int) {}
