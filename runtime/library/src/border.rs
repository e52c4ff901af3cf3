//! The border to C: panics end here, and references are handed over.

use std::ffi::CStr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::ptr;
use std::slice;

use crate::cpython::bindings::{Py_ssize_t, PyObject};
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
pub fn fenced_question(name: &str, body: impl FnOnce() -> Result<Object>) -> *mut PyObject {
    let answer = fenced(name, None, || Some(body()));
    returned(answer.unwrap_or_else(|| Ok(Object::none())))
}

/// The same for a function that Python code calls: after a panic, it raises OSError.
pub fn fenced_method(name: &CStr, body: impl FnOnce() -> Result<Object>) -> *mut PyObject {
    let name = name.to_str().unwrap_or_default();
    let result = fenced(name, None, || Some(body()));
    returned(result.unwrap_or_else(|| {
        let message =
            format!("{name}() has failed because of a bug; run with -X cds_strict for details");
        Err(Raised::new(Exception::Os, &message))
    }))
}

fn returned(result: Result<Object>) -> *mut PyObject {
    result.map_or(ptr::null_mut(), Object::into_ptr)
}

/// The arguments of a call, if their number is the expected one.
///
/// # Safety
/// `args` and `count` are those that the calling convention METH_FASTCALL passes.
pub unsafe fn arguments<const N: usize>(
    args: *const *mut PyObject,
    count: Py_ssize_t,
) -> Result<[Object; N]> {
    if count as usize != N {
        return Err(Raised::new(
            Exception::Type,
            &format!("expected {N} arguments, got {count}"),
        ));
    }
    // SAFETY: METH_FASTCALL passes `count` borrowed references.
    let args = unsafe { slice::from_raw_parts(args, N) };
    // SAFETY: each reference is alive during the call.
    Ok(std::array::from_fn(|index| unsafe {
        Object::from_borrowed(args[index])
    }))
}
