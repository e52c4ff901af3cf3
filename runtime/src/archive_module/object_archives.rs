//! Archives of one object, for the module `_cds`.

use std::path::Path;

use crate::cpython::bindings::{Py_ssize_t, PyObject};
use crate::cpython::is_main_interpreter;
use crate::cpython::object::{Exception, Object, Raised};
use crate::ffi::{arguments, fenced_call};
use crate::writer::{self, Interpreter, base};
use crate::{fingerprint, objects, runtime};

pub(super) unsafe extern "C" fn write_object(
    _: *mut PyObject,
    args: *const *mut PyObject,
    count: Py_ssize_t,
) -> *mut PyObject {
    fenced_call(|| {
        // SAFETY: the calling convention METH_FASTCALL.
        let [path, items] = unsafe { arguments(args, count) }?;
        let path = path.to_str()?;
        let error =
            |text: &str| Raised::new(Exception::Os, &format!("cannot write {path}: {text}"));
        let runtime =
            runtime::current().ok_or_else(|| error("the archive runtime has been disabled"))?;
        let facts = fingerprint::facts(&runtime.config, &runtime.image, None)
            .ok_or_else(|| error("this interpreter has no build id"))?;
        let interpreter = Interpreter {
            facts: &facts,
            image: &runtime.image,
            roots: &[],
            lower: None,
            base: base::OBJECT,
        };
        let items = items.to_items()?;
        writer::write_object(Path::new(path), items.first(), &interpreter)
            .map_err(|text| error(&text))?;
        Ok(Object::none())
    })
}

pub(super) unsafe extern "C" fn load_object(
    _: *mut PyObject,
    args: *const *mut PyObject,
    count: Py_ssize_t,
) -> *mut PyObject {
    fenced_call(|| {
        // SAFETY: the calling convention METH_FASTCALL.
        let [path] = unsafe { arguments(args, count) }?;
        let runtime = runtime::current()
            .filter(|_| is_main_interpreter())
            .ok_or_else(|| Raised::new(Exception::Os, "only the main interpreter uses archives"))?;
        let object = objects::load(runtime, path.to_str()?)?;
        Object::tuple(object.into_iter().collect())
    })
}

pub(super) unsafe extern "C" fn find_unsuitable(
    _: *mut PyObject,
    args: *const *mut PyObject,
    count: Py_ssize_t,
) -> *mut PyObject {
    fenced_call(|| {
        // SAFETY: the calling convention METH_FASTCALL.
        let [object] = unsafe { arguments(args, count) }?;
        objects::find_unsuitable(&object)
            .map_or_else(|| Ok(Object::none()), |name| Object::str(&name))
    })
}
