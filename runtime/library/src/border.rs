//! The border to C: panics end here, and references are handed over.

use std::ffi::CStr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::slice;

use crate::cpython::object::{Exception, Object, Raised, Result};
use crate::{fault, runtime};

/// Runs `body`. If it panics, returns `otherwise` and disables all archives.
pub fn fenced<T>(name: &str, otherwise: T, body: impl FnOnce() -> T) -> T {
    let body = || {
        fault::point(name);
        body()
    };
    catch_unwind(AssertUnwindSafe(body)).unwrap_or_else(|_| {
        runtime::disable();
        otherwise
    })
}

/// The same for a question of the import system: after a panic, the answer is None, as if the module were not archived.
/// An exception is passed on as NULL.
pub fn fenced_question(name: &str, body: impl FnOnce() -> Result<Object>) -> Option<Object> {
    let answer = fenced(name, None, || Some(body()));
    answer.unwrap_or_else(|| Ok(Object::none())).ok()
}

/// The same for a function that Python code calls: after a panic, it raises OSError.
pub fn fenced_method(name: &CStr, body: impl FnOnce() -> Result<Object>) -> Option<Object> {
    let name = name.to_str().unwrap_or_default();
    let result = fenced(name, None, || Some(body()));
    let result = result.unwrap_or_else(|| {
        let message =
            format!("{name}() has failed because of a bug; run with -X cds_strict for details");
        Err(Raised::new(Exception::Os, &message))
    });
    result.ok()
}

/// The arguments of a call, if their number is the expected one.
///
/// # Safety
/// `args` and `count` are those that the calling convention METH_FASTCALL passes.
pub unsafe fn arguments<const N: usize>(args: *const Object, count: isize) -> Result<[Object; N]> {
    if count as usize != N {
        return Err(Raised::new(
            Exception::Type,
            &format!("expected {N} arguments, got {count}"),
        ));
    }
    // SAFETY: METH_FASTCALL passes `count` borrowed references, and the objects live during the call.
    let args = unsafe { slice::from_raw_parts(args, N) };
    Ok(std::array::from_fn(|index| args[index].clone()))
}
