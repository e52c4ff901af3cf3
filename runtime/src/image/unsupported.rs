//! Where no images are taken: their registers and system calls are those of x86-64.

use std::ffi::{CString, c_int};
use std::path::Path;
use std::sync::atomic::AtomicI32;

use crate::cpython::object::{Object, Result};
use crate::options::Options;
use crate::runtime;

/// Says so, if an image is asked for.
pub fn take() -> Option<i32> {
    runtime::current()?.options.image.as_ref()?;
    runtime::complain("no startup image: they are not supported on this architecture");
    Some(1)
}

/// There is nothing to renew.
pub fn needs_renewal(_path: &Path) -> bool {
    false
}

/// # Errors
/// None.
pub fn program_of_image(_path: &Path, _directory: &Path) -> Result<Option<Vec<u8>>> {
    Ok(None)
}

/// # Errors
/// None.
pub fn command_of_process() -> Result<Option<Vec<u8>>> {
    Ok(None)
}

/// # Errors
/// None.
pub fn check_variables(_image: &Path) -> Result<()> {
    Ok(())
}

pub fn is_read_by_libraries(_name: &str) -> bool {
    false
}

/// # Errors
/// None.
pub fn options_of_process() -> Result<Option<Vec<String>>> {
    Ok(None)
}

/// # Errors
/// None.
pub fn begin_variables(_options: &Options) -> Result<()> {
    Ok(())
}

/// # Errors
/// The interpreter has no memory.
pub fn variable_changes() -> Result<Object> {
    Object::list([])
}

pub fn is_immortal() -> bool {
    false
}

pub fn finalize_restored() -> bool {
    false
}

pub fn end_restored(_exit_code: c_int) {}

/// # Errors
/// Always.
pub fn run_observed(
    _: &[CString],
    _: &[CString],
    _: &Path,
    _: &AtomicI32,
) -> std::result::Result<i32, String> {
    Err("not supported on this architecture".to_owned())
}
