//! The border to C: panics end here, and objects are handed over.

use std::ffi::CStr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::ptr;
use std::slice;

use crate::cpython::bindings::{Py_ssize_t, PyObject};
use crate::cpython::object::{Exception, Object, Raised, Result};
use crate::{fault, runtime};

/// Runs `body`, or, if it panics, gives `otherwise` and ends all use of the archive.
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

/// The same for a question that the import system asks: the answer is None then, as if nothing were archived. A raised
/// exception is passed on as NULL.
pub fn fenced_question(name: &str, body: impl FnOnce() -> Result<Object>) -> *mut PyObject {
    let answer = fenced(name, None, || Some(body()));
    returned(answer.unwrap_or_else(|| Ok(Object::none())))
}

/// The same for a function that Python code calls for what it does: it raises OSError then.
pub fn fenced_method(name: &CStr, body: impl FnOnce() -> Result<Object>) -> *mut PyObject {
    let name = name.to_str().unwrap_or_default();
    let result = fenced(name, None, || Some(body()));
    returned(result.unwrap_or_else(|| {
        let message =
            format!("{name}() has failed, which is a bug; with -X cds_strict there is more");
        Err(Raised::new(Exception::Os, &message))
    }))
}

fn returned(result: Result<Object>) -> *mut PyObject {
    result.map_or(ptr::null_mut(), Object::into_ptr)
}

/// The arguments of a call, if they are as many as expected.
///
/// # Safety
/// `args` and `count` are as the calling convention METH_FASTCALL passes them.
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
    // SAFETY: as above.
    Ok(std::array::from_fn(|index| unsafe {
        Object::from_borrowed(args[index])
    }))
}
