//! Replacements for architectures on which no image can be taken: images use registers and system calls of x86-64.

use std::ffi::c_int;
use std::path::Path;
use std::sync::atomic::AtomicI32;

use crate::cpython::object::{Object, Result};
use crate::image::observation::watch::{ClockFunctions, Command, Outcome, Watch};
use crate::messages;
use crate::options::Options;
use crate::record::runs::Subject;
use crate::runtime;

/// Reports that images are not supported, if the options ask for one.
pub fn take() -> Option<i32> {
    runtime::current()?.options.image.as_ref()?;
    messages::complain("no startup image: startup images are not supported on this architecture");
    Some(1)
}

/// No process is watched here.
pub fn recursion_exceeded() {}

/// There is no image that could be renewed.
pub fn needs_renewal(_path: &Path, _program: &[u8], _arguments: &[&[u8]]) -> bool {
    false
}

pub fn do_arguments_vary(_path: &Path, _program: &[u8], _arguments: &[&[u8]]) -> bool {
    false
}

pub fn is_lacking(_path: &Path, _subject: &Subject) -> bool {
    false
}

pub fn is_idle(_image: &Path) -> bool {
    false
}

pub fn variant_to_renew(_entry: &Path, _first: usize, _subject: &Subject) -> Option<usize> {
    None
}

pub fn subject(_directory: &Path) -> Option<Subject> {
    None
}

pub fn note_attributes(_request: &Path) {}

pub fn base_subject() -> Option<Subject> {
    None
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

pub fn finalize_restored() -> bool {
    false
}

pub fn end_restored(_exit_code: c_int) {}

pub fn module_imported(_module: &Object) {}

pub fn is_restored() -> bool {
    false
}

/// No process is watched here.
///
/// # Errors
/// None.
pub fn clock_functions() -> Result<ClockFunctions> {
    Ok(ClockFunctions {
        telling: Vec::new(),
        tzset: 0,
    })
}

/// # Errors
/// Always.
pub fn run_observed(
    _: &Command,
    _: &Path,
    _: &AtomicI32,
    _: Option<Watch>,
) -> std::result::Result<Outcome, String> {
    Err("not supported on this architecture".to_owned())
}
