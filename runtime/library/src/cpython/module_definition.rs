//! Definitions of extension modules that are written in Rust.

use std::ffi::{CStr, c_int};
use std::mem;

use super::object::{Borrowed, Object};
use super::raw;

/// A function with the calling convention METH_FASTCALL: its module, and an array of borrowed arguments with their
/// number. None means that the function has raised an exception.
pub type FastCall =
    unsafe extern "C" fn(module: Borrowed, args: *const Object, count: isize) -> Option<Object>;

pub struct Method {
    pub name: &'static CStr,
    pub call: FastCall,
    /// Begins with name and signature.
    pub doc: &'static CStr,
}

/// The definition of a module. It is never freed and does not move, because the interpreter keeps its address.
pub struct ModuleDefinition(*mut raw::PyModuleDef);

// SAFETY: Rust code only passes the address on. The interpreter uses the definition with the GIL.
unsafe impl Send for ModuleDefinition {}
// SAFETY: Rust code only passes the address on. The interpreter uses the definition with the GIL.
unsafe impl Sync for ModuleDefinition {}

impl ModuleDefinition {
    pub fn new(
        name: &'static CStr,
        doc: &'static CStr,
        methods: impl IntoIterator<Item = Method>,
    ) -> Self {
        // SAFETY: an element of zeros is valid, and ends the list.
        let end: raw::PyMethodDef = unsafe { mem::zeroed() };
        let methods: Vec<_> = methods.into_iter().map(method).chain([end]).collect();
        // SAFETY: PyModuleDef_HEAD_INIT sets these fields to zero, and PyModuleDef_Init() initializes them.
        let mut definition: raw::PyModuleDef = unsafe { mem::zeroed() };
        definition.m_name = name.as_ptr();
        definition.m_doc = doc.as_ptr();
        definition.m_methods = methods.leak().as_mut_ptr();
        Self(Box::leak(Box::new(definition)))
    }

    /// Begins multi-phase initialization (PEP 489): returns the definition itself, of which the interpreter makes the
    /// module.
    pub fn begin(&self) -> Option<Borrowed> {
        // SAFETY: the definition is never freed, and the GIL is held. The call returns a borrowed reference or NULL.
        let definition = unsafe { Object::from_new(raw::PyModuleDef_Init(self.0)) };
        definition.ok().map(Borrowed::new)
    }
}

fn method(method: Method) -> raw::PyMethodDef {
    raw::PyMethodDef {
        ml_name: method.name.as_ptr(),
        // SAFETY: because of METH_FASTCALL, the interpreter calls the function with its real type.
        ml_meth: Some(unsafe {
            mem::transmute::<
                FastCall,
                unsafe extern "C" fn(*mut raw::PyObject, *mut raw::PyObject) -> *mut raw::PyObject,
            >(method.call)
        }),
        ml_flags: raw::METH_FASTCALL as c_int,
        ml_doc: method.doc.as_ptr(),
    }
}
