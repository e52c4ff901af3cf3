//! Python code that has no visible effect if no other code runs after it.
//!
//! Such a function does nothing, or it only sets attributes of the object that it is called for to constants, or
//! deletes them. An example is `def __del__(self): del self.connection`, which Django uses to break cycles. Only code
//! that reads the attribute later could see the change. Whether the object that the attribute referred to has a visible
//! end is asked separately, for that object.

use std::ffi::CStr;

use super::heap::Address;
use super::object::{Object, Raised, Result};
use super::raw;

/// Functions of packages that only remove a weak reference from a collection: names of module and function.
const FORGETFUL: [(&str, &str); 1] = [("sqlalchemy.event.registry", "_collection_gced")];

/// Whether the finalizer of an object has no visible effect.
///
/// # Safety
/// The object is alive, and has a finalizer.
pub unsafe fn is_finalizer_idle(object: Address) -> bool {
    // SAFETY: the object is alive, and so is its type. The function stays alive as long as nothing changes the type.
    unsafe {
        let function = raw::cds_glue_python_finalizer((*object).ob_type);
        !function.is_null() && is_idle(function, object, 1)
    }
}

/// Whether the callback of a weak reference has no visible effect.
///
/// # Safety
/// The callback is alive.
pub unsafe fn is_callback_idle(callback: Address) -> bool {
    // SAFETY: the callback is alive, and keeps its function and its object alive.
    unsafe {
        let function = raw::cds_glue_method_function(callback);
        if function.is_null() {
            // The function is called with the weak reference, which has no attributes that can be set.
            return is_forgetful(callback)
                || is_shut_down(callback)
                || is_idle(callback, std::ptr::null_mut(), 1);
        }
        is_idle(function, raw::cds_glue_method_object(callback), 2)
    }
}

/// # Safety
/// The object is alive.
unsafe fn is_forgetful(function: Address) -> bool {
    // SAFETY: the caller passes a live object.
    let (module, function) =
        unsafe { (function_module(function), Object::from_borrowed(function)) };
    let (Some(module), Some(code)) = (module, function.function_code()) else {
        return false;
    };
    let name = || -> Result<bool> {
        let name = code.attribute(c"co_name")?;
        Ok(FORGETFUL.contains(&(module.to_str()?, name.to_str()?)))
    };
    or_not(name())
}

/// Whether an object is a `weakref.finalize` and the program's `atexit` functions have run. These set `_shutdown` last,
/// after which no such object calls its function.
///
/// # Safety
/// The object is alive.
unsafe fn is_shut_down(object: Address) -> bool {
    // SAFETY: the caller passes a live object, and its type is alive. The attribute stays alive as long as nothing
    // changes the type.
    let attribute = |name: &CStr| unsafe {
        let found = raw::cds_glue_type_attribute((*object).ob_type, name.as_ptr());
        (!found.is_null()).then(|| Object::from_borrowed(found))
    };
    // SAFETY: as above; there is an interpreter, and the GIL is held.
    let is_named_so = unsafe {
        CStr::from_ptr(raw::cds_glue_type_name(object)) == c"finalize"
            && raw::cds_glue_sees_calls() == 0
    };
    let is_of_library = |name: &Object| or_not(name.to_str().map(|name| name == "weakref"));
    is_named_so
        && attribute(c"__module__").is_some_and(|module| is_of_library(&module))
        && attribute(c"__call__")
            // SAFETY: the call accepts any live object.
            .and_then(|call| unsafe { function_module(call.as_ptr()) })
            .is_some_and(|module| is_of_library(&module))
        && attribute(c"_shutdown").is_some_and(|value| value.is_true())
}

/// The name of the module of a function.
///
/// # Safety
/// The object is alive.
unsafe fn function_module(object: Address) -> Option<Object> {
    // SAFETY: the caller passes a live object. The name is borrowed from the function.
    unsafe {
        let module = raw::cds_glue_function_module(object);
        (!module.is_null()).then(|| Object::from_borrowed(module))
    }
}

/// Whether a function has no visible effect when it is called with this number of arguments, of which `object` is the
/// first. If `object` is NULL, the first argument has no attributes that can be set.
///
/// # Safety
/// Both objects are alive.
unsafe fn is_idle(function: Address, object: Address, arguments: usize) -> bool {
    // SAFETY: there is an interpreter, and the GIL is held; the code is borrowed from the function.
    let code = unsafe {
        let code = raw::cds_glue_plain_code(function, arguments as _);
        if code.is_null() || raw::cds_glue_sees_calls() != 0 {
            return false;
        }
        Object::from_borrowed(code)
    };
    let changes = changes(&code);
    or_not(changes.map(|changes| {
        changes.is_some_and(|changes| {
            changes.iter().enumerate().all(|(index, change)| {
                let is_first = changes[..index]
                    .iter()
                    .all(|before| before.name.as_ptr() != change.name.as_ptr());
                // SAFETY: the object is alive or NULL, and the name is a string.
                is_first && unsafe { change.succeeds_silently(object) }
            })
        })
    }))
}

fn or_not(answer: Result<bool>) -> bool {
    answer.unwrap_or_else(|raised: Raised| {
        raised.clear();
        false
    })
}

/// What code does with an attribute of its first argument.
struct Change {
    name: Object,
    is_deleted: bool,
}

impl Change {
    /// Whether the change has no other effect: no code of the object's class runs, and the change does not fail, which
    /// would call `sys.unraisablehook`.
    ///
    /// # Safety
    /// The object is alive, or NULL.
    unsafe fn succeeds_silently(&self, object: Address) -> bool {
        // SAFETY: the caller passes a live object or NULL, and the name is a string.
        unsafe {
            !object.is_null()
                && raw::cds_glue_has_attributes_in_dict(object, self.name.as_ptr()) != 0
                && (!self.is_deleted || raw::cds_glue_is_in_dict(object, self.name.as_ptr()) != 0)
        }
    }
}

/// The changes that code makes, if it does nothing else.
///
/// # Errors
/// Fails if there is no memory left.
fn changes(code: &Object) -> Result<Option<Vec<Change>>> {
    const FIRST: u8 = 0;
    let bytes = code.attribute(c"co_code")?;
    let names = code.attribute(c"co_names")?.to_items()?;
    let instructions: Vec<(u32, u8)> = bytes
        .to_bytes()?
        .chunks_exact(2)
        .map(|unit| (u32::from(unit[0]), unit[1]))
        .filter(|&(opcode, _)| ![raw::CACHE, raw::NOP].contains(&opcode))
        .collect();
    let [(raw::RESUME, _), rest @ .., (raw::RETURN_CONST, _)] = &instructions[..] else {
        return Ok(None);
    };
    let mut rest = rest;
    let mut changes = Vec::new();
    loop {
        let (name, is_deleted);
        (name, is_deleted, rest) = match rest {
            [] => return Ok(Some(changes)),
            [(raw::LOAD_FAST, FIRST), (raw::DELETE_ATTR, name), rest @ ..] => (name, true, rest),
            [
                (raw::LOAD_CONST, _),
                (raw::LOAD_FAST, FIRST),
                (raw::STORE_ATTR, name),
                rest @ ..,
            ] => (name, false, rest),
            _ => return Ok(None),
        };
        changes.push(Change {
            name: names[usize::from(*name)].clone(),
            is_deleted,
        });
    }
}
