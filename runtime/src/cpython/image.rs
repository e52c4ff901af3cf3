//! What a process that is frozen, or was restored, asks of the interpreter.

use std::ffi::{CStr, CString};

use super::raw;

/// What `os.fork()` does before it.
///
/// # Safety
/// Called with the GIL, and followed by [`after_fork_in_parent`] or [`after_fork_in_child`].
pub unsafe fn before_fork() {
    // SAFETY: as promised.
    unsafe { raw::PyOS_BeforeFork() }
}

/// What `os.fork()` does after it in the parent.
///
/// # Safety
/// Called with the GIL, after [`before_fork`].
pub unsafe fn after_fork_in_parent() {
    // SAFETY: as promised.
    unsafe { raw::PyOS_AfterFork_Parent() }
}

/// What `os.fork()` does after it in the child.
///
/// # Safety
/// Called with the GIL, by the only thread, after [`before_fork`].
pub unsafe fn after_fork_in_child() {
    // SAFETY: as promised.
    unsafe { raw::PyOS_AfterFork_Child() }
}

/// Has objects that are made from now on lie in memory of their own. Otherwise they would be made wherever a little is
/// free between the others, and a restored process would have to copy a page for each.
pub fn use_up_free_memory() {
    // SAFETY: the caller of the hook holds the GIL.
    unsafe { raw::cds_glue_use_up_free_memory() }
}

/// Removes the hooks that `sys.addaudithook()` has added.
pub fn forget_audit_hooks() {
    // SAFETY: the caller of the hook holds the GIL.
    unsafe { raw::cds_glue_forget_audit_hooks() }
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

fn set(text: &CStr, field: impl FnOnce(&mut raw::PyConfig) -> *mut *mut raw::wchar_t) {
    // SAFETY: the configuration belongs to the interpreter, whose only thread this is; a failure leaves the field as it
    // was.
    unsafe {
        let config = raw::cds_glue_config(raw::PyInterpreterState_Get()).cast_mut();
        let field = field(&mut *config);
        raw::PyConfig_SetBytesString(config, field, text.as_ptr());
    }
}

/// Sets the program's arguments.
pub fn set_arguments(arguments: &[CString]) {
    let pointers: Vec<_> = arguments
        .iter()
        .map(|argument| argument.as_ptr().cast_mut())
        .collect();
    // SAFETY: as above; the strings are copied.
    unsafe {
        let config = raw::cds_glue_config(raw::PyInterpreterState_Get()).cast_mut();
        raw::PyConfig_SetBytesArgv(config, pointers.len() as isize, pointers.as_ptr());
    }
}
