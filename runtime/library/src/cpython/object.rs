//! References to live objects.
//!
//! Every function here must be called with the GIL held, as it is in all hooks. [`Object`] is neither `Send` nor
//! `Sync`, so it cannot leave the thread.

use std::ffi::{CStr, CString, c_char};
use std::mem::ManuallyDrop;
use std::ptr::{self, NonNull};
use std::slice;
use std::sync::atomic::{AtomicPtr, Ordering};

use super::raw;

/// A CPython exception is set; the caller returns NULL to the interpreter.
#[derive(Debug)]
pub struct Raised;

pub type Result<T> = std::result::Result<T, Raised>;

/// The exceptions that this library raises.
#[derive(Debug, Clone, Copy)]
pub enum Exception {
    Os,
    Type,
    Value,
}

impl Raised {
    /// Sets an exception with a message.
    pub fn new(exception: Exception, message: &str) -> Self {
        let message = CString::new(message.replace('\0', "\\0")).unwrap_or_default();
        // SAFETY: the types are static objects of the interpreter, and the message is NUL-terminated.
        unsafe {
            let kind = match exception {
                Exception::Os => raw::PyExc_OSError,
                Exception::Type => raw::PyExc_TypeError,
                Exception::Value => raw::PyExc_ValueError,
            };
            raw::PyErr_SetString(kind, message.as_ptr());
        }
        Self
    }

    /// Reports the exception on stderr (`sys.unraisablehook`), for a caller that continues without the result.
    pub fn report(self) {
        // SAFETY: an exception is set.
        unsafe { raw::PyErr_WriteUnraisable(std::ptr::null_mut()) }
    }

    /// Reports the exception on stderr and also returns it as text, for a caller that reports it elsewhere, too.
    pub fn report_as_text(self) -> String {
        // SAFETY: an exception is set. The `Object` keeps it alive.
        let text = unsafe {
            let exception = Object::from_new(raw::PyErr_GetRaisedException());
            exception.and_then(|exception| {
                let text = Object::from_new(raw::PyObject_Repr(exception.as_ptr()));
                raw::PyErr_SetRaisedException(exception.into_ptr());
                text
            })
        };
        let text = text.and_then(|text| Ok(text.to_str()?.to_owned()));
        Self.report();
        text.unwrap_or_else(|_| "an exception".to_owned())
    }

    /// Clears the exception, for a caller that continues without the result.
    pub fn clear(self) {
        // SAFETY: the call only needs the GIL.
        unsafe { raw::PyErr_Clear() }
    }
}

/// The exact types that code objects consist of, which [`Object::kind`] distinguishes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    Bytes,
    Code,
    Complex,
    Float,
    FrozenSet,
    Int,
    Str,
    Tuple,
}

impl Kind {
    pub fn name(self) -> &'static str {
        match self {
            Self::Bytes => "bytes",
            Self::Code => "code",
            Self::Complex => "complex",
            Self::Float => "float",
            Self::FrozenSet => "frozenset",
            Self::Int => "int",
            Self::Str => "str",
            Self::Tuple => "tuple",
        }
    }

    /// Address of the type object.
    pub fn type_address(self) -> u64 {
        let address = match self {
            Self::Bytes => &raw const raw::PyBytes_Type,
            Self::Code => &raw const raw::PyCode_Type,
            Self::Complex => &raw const raw::PyComplex_Type,
            Self::Float => &raw const raw::PyFloat_Type,
            Self::FrozenSet => &raw const raw::PyFrozenSet_Type,
            Self::Int => &raw const raw::PyLong_Type,
            Self::Str => &raw const raw::PyUnicode_Type,
            Self::Tuple => &raw const raw::PyTuple_Type,
        };
        address as u64
    }
}

/// The name of None, True, False or Ellipsis, if that is the object at `address`.
pub fn constant_name(address: u64) -> Option<&'static str> {
    let constants: [(*mut raw::PyObject, &str); 4] = [
        (&raw mut raw::_Py_NoneStruct, "None"),
        ((&raw mut raw::_Py_TrueStruct).cast(), "True"),
        ((&raw mut raw::_Py_FalseStruct).cast(), "False"),
        (&raw mut raw::_Py_EllipsisObject, "Ellipsis"),
    ];
    let mut constants = constants.into_iter();
    constants
        .find(|(object, _)| *object as u64 == address)
        .map(|(_, name)| name)
}

/// An owned reference. It has the layout of C's `PyObject *`, and `Option<Object>` that of one that can be NULL: C gets
/// and returns references in this form.
#[repr(transparent)]
pub struct Object(NonNull<raw::PyObject>);

/// A reference that C code owns and lends. It is neither counted nor released.
pub type Borrowed = ManuallyDrop<Object>;

impl Clone for Object {
    fn clone(&self) -> Self {
        // SAFETY: the object is alive as long as `self` is.
        unsafe { raw::Py_IncRef(self.as_ptr()) };
        Self(self.0)
    }
}

impl Drop for Object {
    fn drop(&mut self) {
        // SAFETY: `self` owns a reference.
        unsafe { raw::Py_DecRef(self.as_ptr()) }
    }
}

impl Object {
    /// Takes over a reference that a call has returned. NULL means that the call has raised an exception.
    ///
    /// # Safety
    /// `pointer` is NULL or a new reference.
    pub(super) unsafe fn from_new(pointer: *mut raw::PyObject) -> Result<Self> {
        NonNull::new(pointer).map(Self).ok_or(Raised)
    }

    /// Creates a new reference to a live object.
    ///
    /// # Safety
    /// `pointer` is a live object.
    pub(super) unsafe fn from_borrowed(pointer: *mut raw::PyObject) -> Self {
        // SAFETY: the caller passes a live object, which is not NULL.
        unsafe {
            raw::Py_IncRef(pointer);
            Self(NonNull::new_unchecked(pointer))
        }
    }

    pub(super) fn as_ptr(&self) -> *mut raw::PyObject {
        self.0.as_ptr()
    }

    /// The same reference, uncounted.
    pub(super) fn borrowed(&self) -> Borrowed {
        Borrowed::new(Self(self.0))
    }

    pub fn address(&self) -> u64 {
        self.as_ptr() as u64
    }

    /// Gives the reference to the interpreter.
    pub(super) fn into_ptr(self) -> *mut raw::PyObject {
        let pointer = self.as_ptr();
        std::mem::forget(self);
        pointer
    }

    pub fn none() -> Self {
        // SAFETY: None is a static object.
        unsafe { Self::from_borrowed(&raw mut raw::_Py_NoneStruct) }
    }

    pub fn is_none(&self) -> bool {
        self.as_ptr() == &raw mut raw::_Py_NoneStruct
    }

    /// Whether the object is None, True, False or Ellipsis.
    pub fn is_constant(&self) -> bool {
        constant_name(self.address()).is_some()
    }

    /// The object's type name in C (`tp_name`): it includes the module, unless the type is built in.
    pub fn type_name(&self) -> String {
        // SAFETY: every type has a name.
        let name = unsafe { CStr::from_ptr(raw::cds_glue_type_name(self.as_ptr())) };
        name.to_string_lossy().into_owned()
    }

    pub fn bool(value: bool) -> Self {
        // SAFETY: True and False are static objects (Include/boolobject.h).
        unsafe {
            let object = if value {
                &raw mut raw::_Py_TrueStruct
            } else {
                &raw mut raw::_Py_FalseStruct
            };
            Self::from_borrowed(object.cast())
        }
    }

    /// Whether the object is True.
    pub fn is_true(&self) -> bool {
        self.as_ptr() == (&raw mut raw::_Py_TrueStruct).cast()
    }

    pub fn int(value: i64) -> Result<Self> {
        // SAFETY: the call returns a new reference or NULL.
        unsafe { Self::from_new(raw::PyLong_FromLongLong(value)) }
    }

    pub fn str(value: &str) -> Result<Self> {
        // SAFETY: the bytes are UTF-8, and their number is correct.
        unsafe {
            Self::from_new(raw::PyUnicode_FromStringAndSize(
                value.as_ptr().cast(),
                value.len() as _,
            ))
        }
    }

    pub fn from_bytes(value: &[u8]) -> Result<Self> {
        // SAFETY: the number of bytes is correct, and the call returns a new reference or NULL.
        unsafe {
            Self::from_new(raw::PyBytes_FromStringAndSize(
                value.as_ptr().cast(),
                value.len() as _,
            ))
        }
    }

    pub fn tuple(items: Vec<Self>) -> Result<Self> {
        // SAFETY: PyTuple_SetItem() takes over one reference for each place of the new tuple.
        unsafe {
            let tuple = Self::from_new(raw::PyTuple_New(items.len() as _))?;
            for (index, item) in items.into_iter().enumerate() {
                if raw::PyTuple_SetItem(tuple.as_ptr(), index as _, item.into_ptr()) < 0 {
                    return Err(Raised);
                }
            }
            Ok(tuple)
        }
    }

    pub fn list(items: impl IntoIterator<Item = Self>) -> Result<Self> {
        // SAFETY: PyList_Append() creates its own reference.
        unsafe {
            let list = Self::from_new(raw::PyList_New(0))?;
            for item in items {
                if raw::PyList_Append(list.as_ptr(), item.as_ptr()) < 0 {
                    return Err(Raised);
                }
            }
            Ok(list)
        }
    }

    pub fn dict<'a>(items: impl IntoIterator<Item = (&'a str, Self)>) -> Result<Self> {
        // SAFETY: PyDict_SetItemString() creates its own reference, and the key is NUL-terminated.
        unsafe {
            let dict = Self::from_new(raw::PyDict_New())?;
            for (key, value) in items {
                let key =
                    CString::new(key).map_err(|_| Raised::new(Exception::Value, "key with NUL"))?;
                if raw::PyDict_SetItemString(dict.as_ptr(), key.as_ptr(), value.as_ptr()) < 0 {
                    return Err(Raised);
                }
            }
            Ok(dict)
        }
    }

    /// A frozenset of the items of a tuple, inserted in the tuple's order.
    pub fn frozenset(elements: &Self) -> Result<Self> {
        // SAFETY: the call returns a new reference or NULL.
        unsafe { Self::from_new(raw::PyFrozenSet_New(elements.as_ptr())) }
    }

    /// The kind of the object, if its exact type is one that code objects consist of.
    pub fn kind(&self) -> Option<Kind> {
        // SAFETY: the object is alive.
        let address = unsafe { (*self.as_ptr()).ob_type } as u64;
        [
            Kind::Str,
            Kind::Tuple,
            Kind::Bytes,
            Kind::Code,
            Kind::Int,
            Kind::Float,
            Kind::Complex,
            Kind::FrozenSet,
        ]
        .into_iter()
        .find(|kind| kind.type_address() == address)
    }

    /// The text of a str. Raises an exception if the object is not a str or has lone surrogates. The text is cached in
    /// the object, so the slice lives as long as the reference.
    pub fn to_str(&self) -> Result<&str> {
        let mut length = 0;
        // SAFETY: the returned buffer belongs to the string and contains `length` bytes of UTF-8.
        unsafe {
            let text = raw::PyUnicode_AsUTF8AndSize(self.as_ptr(), &raw mut length);
            if text.is_null() {
                return Err(Raised);
            }
            Ok(std::str::from_utf8_unchecked(slice::from_raw_parts(
                text.cast(),
                length as usize,
            )))
        }
    }

    pub fn to_i64(&self) -> Result<i64> {
        // SAFETY: the call accepts any object, and PyErr_Occurred() returns a borrowed reference.
        unsafe {
            let value = raw::PyLong_AsLongLong(self.as_ptr());
            if value == -1 && !raw::PyErr_Occurred().is_null() {
                Err(Raised)
            } else {
                Ok(value)
            }
        }
    }

    /// The items of any iterable.
    pub fn to_items(&self) -> Result<Vec<Self>> {
        // SAFETY: the tuple keeps its items alive until each has its own reference.
        unsafe {
            let tuple = Self::from_new(raw::PySequence_Tuple(self.as_ptr()))?;
            Ok(tuple.tuple_items())
        }
    }

    /// The items of a tuple.
    ///
    /// # Safety
    /// The object is a tuple.
    pub(super) unsafe fn tuple_items(&self) -> Vec<Self> {
        let tuple: *mut raw::PyTupleObject = self.as_ptr().cast();
        // SAFETY: a tuple has `ob_size` items. None of them is NULL once code other than its creator can use the tuple.
        unsafe {
            let items = (&raw const (*tuple).ob_item).cast::<*mut raw::PyObject>();
            let items = slice::from_raw_parts(items, (*tuple).ob_base.ob_size as usize);
            items
                .iter()
                .map(|&item| Self::from_borrowed(item))
                .collect()
        }
    }

    /// A list of the items of any iterable.
    pub fn to_list(&self) -> Result<Self> {
        // SAFETY: the call accepts any object and returns a new reference or NULL.
        unsafe { Self::from_new(raw::PySequence_List(self.as_ptr())) }
    }

    /// A dict of the pairs that an iterable contains.
    pub fn to_dict(&self) -> Result<Self> {
        // SAFETY: the call accepts any object as the pairs.
        unsafe {
            let dict = Self::from_new(raw::PyDict_New())?;
            if raw::PyDict_MergeFromSeq2(dict.as_ptr(), self.as_ptr(), 1) < 0 {
                return Err(Raised);
            }
            Ok(dict)
        }
    }

    /// Imports a module. `PyImport_ImportModule()` would call `builtins.__import__`, which a program may have replaced.
    pub fn import(name: &CStr) -> Result<Self> {
        let none = std::ptr::null_mut();
        let full_name = Self::str(&name.to_string_lossy())?;
        // SAFETY: the name is NUL-terminated. Both functions return a new reference or NULL; the second one sets no
        // exception if there is no such module.
        unsafe {
            let of_first_part = raw::PyImport_ImportModuleLevel(name.as_ptr(), none, none, none, 0);
            let of_first_part = Self::from_new(of_first_part)?;
            let module = raw::PyImport_GetModule(full_name.as_ptr());
            if module.is_null() && raw::PyErr_Occurred().is_null() {
                return Ok(of_first_part);
            }
            Self::from_new(module)
        }
    }

    pub fn attribute(&self, name: &CStr) -> Result<Self> {
        // SAFETY: the name is NUL-terminated, and the call returns a new reference or NULL.
        unsafe { Self::from_new(raw::PyObject_GetAttrString(self.as_ptr(), name.as_ptr())) }
    }

    pub fn call(&self, arguments: Vec<Self>) -> Result<Self> {
        let arguments = Self::tuple(arguments)?;
        // SAFETY: the arguments are a tuple, and the call returns a new reference or NULL.
        unsafe { Self::from_new(raw::PyObject_CallObject(self.as_ptr(), arguments.as_ptr())) }
    }

    /// Whether the object equals another one. Both must have the same type, and the type's comparison must run no
    /// Python code and must not fail.
    pub fn equals(&self, other: &Self) -> bool {
        // SAFETY: both are alive.
        unsafe {
            raw::PyObject_RichCompareBool(self.as_ptr(), other.as_ptr(), raw::Py_EQ as _) == 1
        }
    }

    /// The result of `ascii()`.
    pub fn ascii(&self) -> Result<Self> {
        // SAFETY: the call accepts any object and returns a new reference or NULL.
        unsafe { Self::from_new(raw::PyObject_ASCII(self.as_ptr())) }
    }

    /// The code of a function written in Python. None if the object is something else.
    pub fn function_code(&self) -> Option<Self> {
        // SAFETY: the call accepts any object and returns a borrowed reference or NULL.
        unsafe {
            let code = raw::cds_glue_function_code(self.as_ptr());
            (!code.is_null()).then(|| Self::from_borrowed(code))
        }
    }

    /// The result of `marshal.dumps()`.
    pub fn marshal(&self) -> Result<Vec<u8>> {
        // SAFETY: the result is a bytes object.
        unsafe {
            let data =
                raw::PyMarshal_WriteObjectToString(self.as_ptr(), raw::Py_MARSHAL_VERSION as _);
            Ok(Self::from_new(data)?.bytes().to_vec())
        }
    }

    /// The result of `marshal.loads()`.
    pub fn unmarshal(data: &[u8]) -> Result<Self> {
        let start = data.as_ptr().cast::<c_char>();
        // SAFETY: the call reads at most the given bytes and returns a new reference or NULL.
        unsafe { Self::from_new(raw::PyMarshal_ReadObjectFromString(start, data.len() as _)) }
    }

    /// The contents of a bytes object. Any other type is an error.
    pub fn to_bytes(&self) -> Result<&[u8]> {
        if self.kind() != Some(Kind::Bytes) {
            return Err(Raised::new(Exception::Type, "a bytes object is needed"));
        }
        // SAFETY: the object is a bytes object.
        Ok(unsafe { self.bytes() })
    }

    /// The contents of a bytes object.
    ///
    /// # Safety
    /// The object is a bytes object.
    pub unsafe fn bytes(&self) -> &[u8] {
        let bytes: *mut raw::PyBytesObject = self.as_ptr().cast();
        // SAFETY: the caller ensures that this is a bytes object: `ob_size` bytes follow its header.
        unsafe {
            let start = (&raw const (*bytes).ob_sval).cast();
            slice::from_raw_parts(start, (*bytes).ob_base.ob_size as usize)
        }
    }
}

/// A reference in a static variable, or none.
pub struct Global(AtomicPtr<raw::PyObject>);

impl Global {
    pub const fn empty() -> Self {
        Self(AtomicPtr::new(ptr::null_mut()))
    }

    pub fn set(&self, object: Object) {
        self.replace(object.into_ptr());
    }

    pub fn clear(&self) {
        self.replace(ptr::null_mut());
    }

    fn replace(&self, object: *mut raw::PyObject) {
        let former = self.0.swap(object, Ordering::AcqRel);
        // SAFETY: the variable owned the reference, unless it was empty.
        drop(unsafe { Object::from_new(former) });
    }

    pub fn get(&self) -> Option<Object> {
        let object = self.0.load(Ordering::Acquire);
        // SAFETY: the variable owns a reference. No other thread releases it meanwhile, because the GIL is held.
        (!object.is_null()).then(|| unsafe { Object::from_borrowed(object) })
    }
}

/// The part of the running interpreter's version that its directories are named after: `3.13`.
pub fn minor_version() -> &'static str {
    let version = version();
    let end = version
        .match_indices('.')
        .nth(1)
        .map_or(version.len(), |(index, _)| index);
    &version[..end]
}

/// The version of the running interpreter: the first word of `sys.version`.
pub fn version() -> &'static str {
    // SAFETY: the call returns a static, NUL-terminated ASCII string.
    let text = unsafe { CStr::from_ptr(raw::Py_GetVersion()) };
    text.to_str()
        .unwrap_or_default()
        .split(' ')
        .next()
        .unwrap_or_default()
}
