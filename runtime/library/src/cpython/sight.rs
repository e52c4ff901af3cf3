//! Which objects have a visible end. For most objects, the only effect of their end is that their memory is free
//! afterwards.

use std::collections::HashMap;
use std::ffi::CStr;

use super::closing::Closing;
use super::heap::{Address, is_immortal, is_leaf};
use super::idle;
use super::object::{Kind, Object, Raised, Result};
use super::raw;

/// Modules of the standard library whose functions, as callbacks of weak references, only forget the reference.
const FORGETFUL_MODULES: [&str; 3] = ["weakref", "_weakrefset", "logging"];
/// The same for callbacks that are written in C, by the name of the function.
const FORGETFUL_FUNCTIONS: [&[u8]; 2] = [b"_destroy", b"clear_locals"];

/// Classes of the standard library that have objects in many images, and whose finalizers do nothing as long as an
/// attribute is None: module and name of the class, and the attribute.
const IDLE: [(&str, &str, &CStr); 1] = [(
    "multiprocessing.resource_tracker",
    "ResourceTracker",
    c"_fd",
)];

/// Types of C code, by the beginning of their name, whose objects only free memory at their end. The types of the
/// interpreter and its standard library also belong to these, except [`WRITING_TYPES`].
const HARMLESS: [&str; 7] = [
    "numpy.",
    "pandas.",
    "pyarrow.lib.Array",
    "pyarrow.lib.ChunkedArray",
    "pyarrow.lib.DataType",
    "pyarrow.lib.MemoryPool",
    "sqlalchemy.",
];
/// Types of the standard library whose objects write data when they are destroyed.
const WRITING_TYPES: [&str; 3] = ["_dbm.dbm", "_gdbm.gdbm", "sqlite3.Connection"];

/// Whether an object has to stay mortal in an image: its end is visible, or a weak reference shows that it is alive.
///
/// # Safety
/// The object is alive.
pub unsafe fn is_noticeable(object: Address) -> bool {
    // SAFETY: the caller passes a live object.
    unsafe {
        if is_leaf(object) || raw::cds_glue_is_module_or_type(object) != 0 {
            return false;
        }
        if raw::cds_glue_is_frame(object) != 0 || has_telling_callback(object) {
            return true;
        }
        if raw::cds_glue_is_generator(object) != 0 {
            return raw::cds_glue_generator_is_finished(object) == 0 || has_weak_references(object);
        }
        // Files of C code are the standard streams, which are flushed when a process ends, or have no file descriptor.
        has_finalizer(object) && !type_name(object).starts_with("_io.")
            || has_weak_references(object)
    }
}

/// How much of an end is visible.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Seen {
    Nothing,
    /// The end runs C code that calls no Python code: the order relative to the end of other objects makes no
    /// difference.
    Native,
    Anything,
}

/// Decides whether an object has a visible end, and caches what it knows of types.
pub struct Sight {
    closing: Closing,
    /// `tp_dealloc` of all classes that are defined in Python.
    class_dealloc: Dealloc,
    module_names: Object,
    is_harmless: HashMap<*const raw::PyTypeObject, bool>,
    /// The type of the last object, if it is harmless: many objects have the same few types.
    last: *const raw::PyTypeObject,
}

type Dealloc = *const std::ffi::c_void;

impl Sight {
    pub fn new() -> Result<Self> {
        let class = Object::import(c"_frozen_importlib")?.attribute(c"ModuleSpec")?;
        Ok(Self {
            closing: Closing::new()?,
            // SAFETY: the object is a class.
            class_dealloc: unsafe { raw::cds_glue_dealloc(class.as_ptr().cast()) },
            module_names: Object::import(c"sys")?.attribute(c"stdlib_module_names")?,
            is_harmless: HashMap::new(),
            last: std::ptr::null(),
        })
    }

    /// Whether the object has a visible end, provided that the ends of other objects are not visible.
    ///
    /// # Safety
    /// The object is alive.
    pub unsafe fn sees_end(&mut self, object: Address) -> bool {
        // SAFETY: the caller passes a live object.
        unsafe { self.seen_of_end(object) != Seen::Nothing }
    }

    /// How much of the object's end is visible, provided that the ends of other objects are not visible.
    ///
    /// # Safety
    /// The object is alive.
    pub unsafe fn seen_of_end(&mut self, object: Address) -> Seen {
        // SAFETY: the caller passes a live object.
        unsafe {
            if !self.has_end(object) || self.closing.is_silent(object) {
                return Seen::Nothing;
            }
            if self.closing.is_native(object) {
                return Seen::Native;
            }
            if self.is_end_idle(object) {
                return Seen::Nothing;
            }
        }
        Seen::Anything
    }

    /// Whether the end of the object calls Python code that has no visible effect, provided that the ends of other
    /// objects are not visible.
    ///
    /// # Safety
    /// The object is alive.
    pub unsafe fn is_end_idle(&mut self, object: Address) -> bool {
        // SAFETY: the caller passes a live object.
        unsafe {
            self.has_end(object)
                && has_finalizer(object)
                && idle::is_finalizer_idle(object)
                && !self.sees_dealloc(object)
        }
    }

    /// Whether the end of the object does more than free memory. Code that runs afterwards and can still use the object
    /// could notice it.
    ///
    /// # Safety
    /// The object is alive.
    pub unsafe fn has_end(&mut self, object: Address) -> bool {
        // SAFETY: the caller passes a live object.
        unsafe {
            let is_harmless = std::ptr::eq((*object).ob_type, self.last);
            if is_harmless || is_leaf(object) || is_immortal(object) {
                return false;
            }
            if raw::cds_glue_is_generator(object) != 0 {
                return raw::cds_glue_generator_closes_silently(object) == 0;
            }
            let is_to_finalize =
                has_finalizer(object) && raw::cds_glue_is_finalized(object) == 0 && is_open(object);
            is_to_finalize || self.sees_dealloc(object)
        }
    }

    /// Whether the object's destruction does more than free memory, even if the collector has already called its
    /// finalizer.
    ///
    /// # Safety
    /// The object is alive.
    pub unsafe fn sees_dealloc(&mut self, object: Address) -> bool {
        // SAFETY: the caller passes a live object. A type lives as long as its objects.
        unsafe {
            let kind = (*object).ob_type;
            // The collector calls no finalizer of an object that it cannot track.
            if has_finalizer(object) && raw::cds_glue_is_gc(object) == 0
                || raw::cds_glue_has_capsule_destructor(object) != 0
            {
                return true;
            }
            if let Some(&is_harmless) = self.is_harmless.get(&kind.cast_const()) {
                if is_harmless && raw::cds_glue_may_vary(kind) == 0 {
                    self.last = kind;
                }
                return !is_harmless;
            }
            let is_harmless = self.is_harmless_type(kind);
            self.is_harmless.insert(kind, is_harmless);
            !is_harmless
        }
    }

    /// # Safety
    /// `kind` is a type.
    unsafe fn is_harmless_type(&self, mut kind: *mut raw::PyTypeObject) -> bool {
        // SAFETY: the caller passes a type. Each class has a base that is not defined in Python.
        let name = unsafe {
            while raw::cds_glue_dealloc(kind) == self.class_dealloc {
                kind = raw::cds_glue_base(kind);
            }
            CStr::from_ptr(raw::cds_glue_name(kind))
        };
        let name = name.to_string_lossy();
        let Some((package, _)) = name.split_once('.') else {
            return true;
        };
        HARMLESS.iter().any(|start| name.starts_with(start))
            || self.is_in_library(package) && !WRITING_TYPES.contains(&&*name)
    }

    fn is_in_library(&self, module: &str) -> bool {
        let Ok(name) = Object::str(module) else {
            return false;
        };
        // SAFETY: the call accepts any objects.
        let result = unsafe { raw::PySequence_Contains(self.module_names.as_ptr(), name.as_ptr()) };
        result == 1
    }
}

/// Whether the object is a weak reference whose callback would be called and does more than forget the reference.
///
/// # Safety
/// The object is alive.
pub unsafe fn has_telling_callback(object: Address) -> bool {
    // SAFETY: the caller passes a live object. A weak reference refers to None when its referent is gone.
    unsafe {
        if raw::cds_glue_is_weak_reference(object) == 0 {
            return false;
        }
        let reference = object.cast::<raw::PyWeakReference>();
        let callback = (*reference).wr_callback;
        !callback.is_null()
            && (*reference).wr_object != &raw mut raw::_Py_NoneStruct
            && !is_forgetful(callback)
    }
}

/// Whether the object is a weak reference whose callback has a visible effect, provided that the ends of other objects
/// are not visible.
///
/// # Safety
/// The object is alive.
pub unsafe fn has_seen_callback(object: Address) -> bool {
    // SAFETY: the caller passes a live object. A weak reference keeps its callback alive.
    unsafe {
        has_telling_callback(object)
            && !idle::is_callback_idle((*object.cast::<raw::PyWeakReference>()).wr_callback)
    }
}

/// # Safety
/// The object is alive.
unsafe fn is_forgetful(callback: Address) -> bool {
    // SAFETY: the caller passes a live object. The names are borrowed from it, or static.
    unsafe {
        let method = raw::cds_glue_c_function_name(callback);
        if !method.is_null() {
            return FORGETFUL_FUNCTIONS.contains(&CStr::from_ptr(method).to_bytes());
        }
        let module = raw::cds_glue_function_module(callback);
        if module.is_null() {
            return false;
        }
        let module = Object::from_borrowed(module);
        module.kind() == Some(Kind::Str)
            && module
                .to_str()
                .is_ok_and(|name| FORGETFUL_MODULES.contains(&name))
    }
}

/// # Safety
/// The object is alive.
unsafe fn has_finalizer(object: Address) -> bool {
    // SAFETY: the caller passes a live object.
    unsafe { raw::cds_glue_has_finalizer((*object).ob_type) != 0 }
}

/// # Safety
/// The object is alive.
unsafe fn has_weak_references(object: Address) -> bool {
    // SAFETY: the caller passes a live object.
    unsafe {
        let mut reference = raw::cds_glue_weak_references(object);
        if raw::cds_glue_function_code(object).is_null() {
            return !reference.is_null();
        }
        // There are many functions with weak references, and their modules keep them alive: only callbacks count.
        while !reference.is_null() {
            if !(*reference).wr_callback.is_null() {
                return true;
            }
            reference = (*reference).wr_next;
        }
        false
    }
}

/// Whether the finalizer of an object has something to do, as far as this can be found out without running Python code.
///
/// # Safety
/// The object is alive and has a finalizer.
unsafe fn is_open(object: Address) -> bool {
    // SAFETY: the caller passes a live object that has a finalizer.
    let (name, is_closed, object) = unsafe {
        let is_closed = Closing::is_closed(object);
        (type_name(object), is_closed, Object::from_borrowed(object))
    };
    match name {
        "_io.StringIO" | "_io.BytesIO" => false,
        _ => !is_closed && !is_idle(name, &object),
    }
}

fn is_idle(class: &str, object: &Object) -> bool {
    let is_in =
        |module: &str| -> Result<bool> { Ok(object.attribute(c"__module__")?.to_str()? == module) };
    IDLE.iter().any(|&(module, name, attribute)| {
        let is_idle = || Ok(is_in(module)? && object.attribute(attribute)?.is_none());
        name == class
            && is_idle().unwrap_or_else(|raised: Raised| {
                raised.clear();
                false
            })
    })
}

/// # Safety
/// The object is alive.
unsafe fn type_name<'a>(object: Address) -> &'a str {
    // SAFETY: the caller passes a live object. The name lives as long as the type.
    let name = unsafe { CStr::from_ptr(raw::cds_glue_type_name(object)) };
    name.to_str().unwrap_or_default()
}
