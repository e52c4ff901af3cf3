//! What a frozen or restored process needs from the interpreter.

use std::ffi::{CStr, CString};
use std::ops::Range;
use std::ptr;

use super::object::{Object, Raised, Result};
use super::raw;

/// What `os.fork()` does before the fork.
///
/// # Safety
/// Called with the GIL, and followed by [`after_fork_in_parent`] or [`after_fork_in_child`].
pub unsafe fn before_fork() {
    // SAFETY: the caller holds the GIL.
    unsafe { raw::PyOS_BeforeFork() }
}

/// What `os.fork()` does in the parent after the fork.
///
/// # Safety
/// Called with the GIL, after [`before_fork`].
pub unsafe fn after_fork_in_parent() {
    // SAFETY: the caller holds the GIL, and has called `before_fork()`.
    unsafe { raw::PyOS_AfterFork_Parent() }
}

/// What `os.fork()` does in the child after the fork.
///
/// # Safety
/// Called with the GIL, by the only thread, after [`before_fork`].
pub unsafe fn after_fork_in_child() {
    // SAFETY: the caller is the only thread, holds the GIL, and has called `before_fork()`.
    unsafe { raw::PyOS_AfterFork_Child() }
}

/// Ends the interpreter, as a program does when it ends.
///
/// # Safety
/// Called with the GIL, by the main thread. No code uses the interpreter afterwards.
pub unsafe fn finalize() {
    // SAFETY: the caller is the main thread, holds the GIL, and uses the interpreter no more.
    unsafe { raw::Py_FinalizeEx() };
}

/// Makes sure that objects which are created later get pages of their own. Otherwise they would fill the gaps between
/// existing objects, and a restored process would have to copy a page for each gap.
pub fn use_up_free_memory() {
    // SAFETY: the caller of the hook holds the GIL.
    unsafe { raw::cds_glue_use_up_free_memory() }
}

/// The arenas of the interpreter's allocator (Objects/obmalloc.c).
pub fn arenas() -> Vec<Range<u64>> {
    // SAFETY: the caller of the hook holds the GIL, and each index is below the count.
    unsafe {
        let bytes = raw::cds_glue_arena_bytes as u64;
        (0..raw::cds_glue_arena_count())
            .map(|index| raw::cds_glue_arena(index) as u64)
            .filter(|&address| address != 0)
            .map(|address| address..address + bytes)
            .collect()
    }
}

/// Gives an object another type.
///
/// # Safety
/// Instances of both types have the same layout.
pub unsafe fn set_type(object: &Object, class: &Object) {
    // SAFETY: the caller ensures that instances of both types have the same layout. The caller of the hook holds the
    // GIL.
    unsafe { raw::cds_glue_set_type(object.as_ptr(), class.as_ptr()) }
}

/// The address of the C function behind a function object that is written in C.
///
/// # Errors
/// Fails if the object is not a function that is written in C.
pub fn address_of_function(function: &Object) -> Result<u64> {
    // SAFETY: the object is alive. For any other type of object, the call raises an exception.
    let code = unsafe { raw::PyCFunction_GetFunction(function.as_ptr()) };
    code.map(|code| code as usize as u64).ok_or(Raised)
}

/// The hooks that `sys.addaudithook()` has added, while the interpreter does not call them.
pub struct AuditHooks(Option<Object>);

impl AuditHooks {
    /// Removes all hooks, so that none is called.
    pub fn set_aside() -> Self {
        Self::swapped(None)
    }

    /// Removes all hooks but the first, which was added by the code that takes the image. Returns None and changes
    /// nothing if there is no other hook.
    pub fn set_aside_but_first() -> Result<Option<Self>> {
        let hooks = Self::set_aside();
        let items = hooks.items()?;
        let (first, others) = items.split_at(items.len().min(1));
        if others.is_empty() {
            hooks.put_back();
            return Ok(None);
        }
        Self::swapped(Some(Object::list(first.iter().cloned())?));
        Ok(Some(hooks))
    }

    /// These hooks without the first one.
    pub fn but_first(self) -> Result<Self> {
        let hooks = Object::list(self.items()?.into_iter().skip(1))?;
        Ok(Self(Some(hooks)))
    }

    /// Makes the interpreter call these hooks again, instead of its present ones.
    pub fn put_back(self) {
        Self::swapped(self.0);
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_none()
    }

    fn items(&self) -> Result<Vec<Object>> {
        self.0.as_ref().map_or(Ok(Vec::new()), Object::to_items)
    }

    fn swapped(hooks: Option<Object>) -> Self {
        let hooks = hooks.map_or(ptr::null_mut(), Object::into_ptr);
        // SAFETY: the argument is NULL or a list. The reference to the new list moves to the interpreter, and the one
        // to the former list moves to the caller. The caller of the hook holds the GIL.
        unsafe { Self(Object::from_new(raw::cds_glue_swap_audit_hooks(hooks)).ok()) }
    }
}

/// Whether C code has added an audit hook.
pub fn has_native_audit_hooks() -> bool {
    // SAFETY: the caller of the hook holds the GIL.
    unsafe { raw::cds_glue_has_native_audit_hooks() != 0 }
}

/// Whether there is an audit hook, in Python or in C.
pub fn has_audit_hooks() -> bool {
    let hooks = AuditHooks::set_aside();
    let has_hooks = !hooks.is_empty();
    hooks.put_back();
    has_hooks || has_native_audit_hooks()
}

/// Whether tracemalloc is on.
pub fn traces_memory() -> bool {
    // SAFETY: the call only reads a flag.
    unsafe { raw::cds_glue_traces_memory() != 0 }
}

/// The lists of handlers of `os.register_at_fork()` that were replaced.
pub struct AtForkHandlers(Vec<(*mut *mut raw::PyObject, *mut raw::PyObject)>);

impl AtForkHandlers {
    const KINDS: i32 = 3;

    /// Replaces each list of handlers by the one that `chosen` returns for it. `chosen` returns its argument to leave a
    /// list unchanged.
    pub fn set_aside(chosen: &Object) -> Result<Self> {
        let mut lists = Vec::new();
        for kind in 0..Self::KINDS {
            // SAFETY: the place holds NULL, or a list that the interpreter owns. The interpreter becomes the owner of
            // the new list, and `self` keeps the old list alive for `put_back`.
            unsafe {
                let place = raw::cds_glue_at_fork_handlers(kind);
                if (*place).is_null() {
                    continue;
                }
                let handlers = chosen.call(vec![Object::from_borrowed(*place)])?;
                if handlers.as_ptr() != *place {
                    lists.push((place, *place));
                    *place = handlers.to_list()?.into_ptr();
                }
            }
        }
        Ok(Self(lists))
    }

    /// Restores the former lists.
    pub fn put_back(&self) {
        for &(place, list) in &self.0 {
            // SAFETY: `self` still owns the list. The list that it replaces is part of an image, where nothing is
            // freed.
            unsafe { *place = list };
        }
    }
}

pub fn run_command(code: &CStr) {
    set(code, |config| &raw mut config.run_command);
}

pub fn run_module(name: &CStr) {
    set(name, |config| &raw mut config.run_module);
}

pub fn run_file(path: &CStr) {
    set(path, |config| &raw mut config.run_filename);
}

/// Sets the name that the interpreter uses for itself in messages: the first argument that it was started with, as
/// `config_init_program_name()` in Python/initconfig.c does.
pub fn set_program_name(first_argument: &CStr) {
    let name = if first_argument.is_empty() {
        c"python3"
    } else {
        first_argument
    };
    set(name, |config| &raw mut config.program_name);
    // SAFETY: the configuration belongs to the interpreter, whose only thread this is. The string is copied.
    unsafe {
        let config = raw::cds_glue_config(raw::PyInterpreterState_Get());
        raw::Py_SetProgramName((*config).program_name);
    }
}

fn set(text: &CStr, field: impl FnOnce(&mut raw::PyConfig) -> *mut *mut raw::wchar_t) {
    // SAFETY: the configuration belongs to the interpreter, whose only thread this is. If the call fails, the field is
    // unchanged.
    unsafe {
        let config = raw::cds_glue_config(raw::PyInterpreterState_Get()).cast_mut();
        let field = field(&mut *config);
        raw::PyConfig_SetBytesString(config, field, text.as_ptr());
    }
}

/// Sets the arguments that the interpreter was started with, including its options (`Py_GetArgcArgv()`,
/// `PyConfig.orig_argv`). Arguments that cannot be decoded are left out.
pub fn set_original_arguments(arguments: &[CString]) {
    // SAFETY: the configuration belongs to the interpreter, whose only thread this is. The appended strings are copied.
    unsafe {
        let config = raw::cds_glue_config(raw::PyInterpreterState_Get()).cast_mut();
        let list = &raw mut (*config).orig_argv;
        raw::cds_glue_clear_arguments(list);
        for argument in arguments {
            let text = raw::Py_DecodeLocale(argument.as_ptr(), std::ptr::null_mut());
            if !text.is_null() {
                raw::PyWideStringList_Append(list, text);
                raw::PyMem_RawFree(text.cast());
            }
        }
        // If the call fails for lack of memory, the next allocation reports it.
        raw::cds_glue_set_original_arguments(list);
    }
}

/// The statistics of the garbage collector, for each generation.
pub struct Collections([raw::gc_generation_stats; raw::NUM_GENERATIONS as usize]);

impl Collections {
    pub fn now() -> Self {
        // SAFETY: the GIL is held, and the array has this number of elements.
        Self(unsafe {
            raw::cds_glue_collections()
                .cast::<[_; raw::NUM_GENERATIONS as usize]>()
                .read()
        })
    }

    /// Sets the interpreter's statistics back to these.
    pub fn restore(self) {
        // SAFETY: the GIL is held, and the array has this number of elements.
        unsafe {
            raw::cds_glue_collections()
                .cast::<[_; raw::NUM_GENERATIONS as usize]>()
                .write(self.0)
        }
    }
}

/// Sets the program's arguments.
pub fn set_arguments(arguments: &[CString]) {
    let pointers: Vec<_> = arguments
        .iter()
        .map(|argument| argument.as_ptr().cast_mut())
        .collect();
    // SAFETY: the configuration belongs to the interpreter, whose only thread this is. The strings are copied.
    unsafe {
        let config = raw::cds_glue_config(raw::PyInterpreterState_Get()).cast_mut();
        raw::PyConfig_SetBytesArgv(config, pointers.len() as isize, pointers.as_ptr());
    }
}
