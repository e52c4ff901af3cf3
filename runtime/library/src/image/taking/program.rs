//! The process that runs a program of which an image is to be taken: at the ends of imports it forks candidates for the
//! image, as long as it has nothing that cannot be restored. Whoever watches it decides which one goes on
//! ([`mod@crate::image::observation::point`]).

use std::ffi::{CString, c_int};
use std::io::Error;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicU64, Ordering};
use std::sync::{Mutex, OnceLock};

use super::failure::Failure;
use super::fork::fork;
use super::postponed;
use super::process_attributes::ProcessAttributes;
use super::threads::thread_pointer;
use crate::cpython::bindings::PyObject;
use crate::cpython::image::{self, AtForkHandlers, AuditHooks};
use crate::cpython::object::{self, Object, Raised};
use crate::cpython::{is_main_interpreter, own};
use crate::image::observation::point::{AS_BEFORE, BEGINS, FORKS, KEEPS, LEAVES, LOOKS};

/// Whether this process runs the program, and does not fork just now.
static IS_RUNNING: AtomicBool = AtomicBool::new(false);
static HAS_EXCEEDED_RECURSION: AtomicBool = AtomicBool::new(false);
/// The `cds.image.program.Program`, once there is one.
static PREPARATION: AtomicPtr<PyObject> = AtomicPtr::new(std::ptr::null_mut());
static REQUEST: OnceLock<PathBuf> = OnceLock::new();
/// The thread that runs the program.
static MAIN_THREAD: AtomicU64 = AtomicU64::new(0);
/// What the process was before the program has begun.
static KERNEL: Mutex<Option<ProcessAttributes>> = Mutex::new(None);

/// Takes notice that the program is about to begin.
pub fn begin(
    preparation: &Object,
    request: &Path,
    kernel: ProcessAttributes,
) -> object::Result<()> {
    // What belongs to `cds` is not in the program's way.
    own::keep(preparation.attribute(c"hide")?.call(Vec::new())?);
    PREPARATION.store(preparation.clone().into_ptr(), Ordering::Release);
    // It happens once.
    let _ = REQUEST.set(request.to_owned());
    if let Ok(mut known) = KERNEL.lock() {
        *known = Some(kernel);
    }
    MAIN_THREAD.store(thread_pointer(), Ordering::Relaxed);
    tell(BEGINS);
    IS_RUNNING.store(true, Ordering::Release);
    Ok(())
}

/// Whether this process is one that may have to fork a candidate when it has imported something.
pub fn is_running() -> bool {
    // No system call may tell: the tracer would take it for the program's.
    IS_RUNNING.load(Ordering::Acquire)
        && is_main_interpreter()
        && thread_pointer() == MAIN_THREAD.load(Ordering::Relaxed)
}

/// The path of the request.
pub fn request() -> Option<&'static Path> {
    REQUEST.get().map(PathBuf::as_path)
}

/// A process that was chosen to become the image.
pub struct Chosen {
    pub preparation: Object,
    /// The program's audit hooks, which are not to hear of what is done until it goes on.
    pub audit_hooks: Option<AuditHooks>,
}

/// Forks a candidate, if that can become an image, when a module was imported, or before the program has begun. Returns
/// none in the program, and in the candidate once it is chosen.
pub fn fork_candidate(imported: Option<*mut PyObject>) -> Result<Option<Chosen>, Failure> {
    IS_RUNNING.store(false, Ordering::Release);
    let hooks = AuditHooks::set_aside_but_first()?;
    let result = chosen(imported);
    if let Ok(Some(preparation)) = result {
        let audit_hooks = hooks.map(AuditHooks::but_first).transpose()?;
        return Ok(Some(Chosen {
            preparation,
            audit_hooks,
        }));
    }
    if let Some(hooks) = hooks {
        hooks.put_back();
    }
    IS_RUNNING.store(true, Ordering::Release);
    result.map(|_| None)
}

fn chosen(imported: Option<*mut PyObject>) -> Result<Option<Object>, Failure> {
    // C code cannot be told that a hook of its own is set aside.
    if image::has_native_audit_hooks() || !postponed::is_as_before() {
        return Ok(None);
    }
    let preparation = PREPARATION.load(Ordering::Acquire);
    if preparation.is_null() {
        return Ok(None);
    }
    // SAFETY: nobody lets go of it.
    let preparation = unsafe { Object::from_borrowed(preparation) };
    let is_candidate = preparation.attribute(c"is_candidate")?;
    // SAFETY: whoever has imported it holds it.
    let imported = imported.map(|module| unsafe { Object::from_borrowed(module) });
    let imported = imported.unwrap_or_else(Object::none);
    if !is_candidate.call(vec![imported])?.is_true() {
        return Ok(None);
    }
    // What the program has written is an effect, also if it is still in a buffer.
    flush(&preparation)?;
    let has_only_kept = tell(FORKS) == Some(AS_BEFORE);
    if !is_as_before(has_only_kept) {
        tell(LEAVES);
        return Ok(None);
    }
    let at_fork = preparation.attribute(c"called_at_forks")?;
    let at_fork = AtForkHandlers::set_aside(&at_fork)?;
    let forked = fork();
    if let Ok(None) = forked {
        // SAFETY: this is the only thread of a process that was just forked, with the GIL.
        unsafe { image::after_fork_in_child() };
    }
    at_fork.put_back();
    match forked {
        Ok(None) => {
            // The image is to have nothing of it.
            let kept = PREPARATION.swap(std::ptr::null_mut(), Ordering::AcqRel);
            // SAFETY: `begin()` has kept a reference.
            unsafe { Object::from_new(kept) }
                .map(Some)
                .map_err(Failure::Raised)
        }
        Ok(Some(_)) => {
            tell(KEEPS);
            Ok(None)
        }
        // There are threads that an image would be without.
        Err(Failure::Reason(_)) => {
            tell(LEAVES);
            Ok(None)
        }
        Err(raised) => Err(raised),
    }
}

/// Takes notice that somebody is about to get a RecursionError: what watches this process needs frames, too.
pub fn recursion_exceeded() {
    if IS_RUNNING.load(Ordering::Acquire) {
        tell(&format!("{LOOKS}the limit of recursion"));
    }
    HAS_EXCEEDED_RECURSION.store(true, Ordering::Relaxed);
}

/// Whether somebody has got one.
pub fn has_exceeded_recursion() -> bool {
    HAS_EXCEEDED_RECURSION.load(Ordering::Relaxed)
}

fn flush(preparation: &Object) -> object::Result<()> {
    for stream in preparation
        .attribute(c"written_streams")?
        .call(Vec::new())?
        .to_items()?
    {
        let flushed = stream
            .attribute(c"flush")
            .and_then(|flush| flush.call(Vec::new()));
        // It is closed, or nobody reads it.
        flushed.map(drop).unwrap_or_else(Raised::clear);
    }
    // SAFETY: writes what the streams of the C library still hold.
    unsafe { libc::fflush(std::ptr::null_mut()) };
    Ok(())
}

/// Whether the kernel keeps for the process what it has kept before the program has begun. `has_only_kept` says that
/// this was so, and that no system call has changed it since.
fn is_as_before(has_only_kept: bool) -> bool {
    let Ok(known) = KERNEL.lock() else {
        return false;
    };
    let is_as = |known: &ProcessAttributes| {
        if has_only_kept {
            return !ProcessAttributes::have_changed_without_calls(known);
        }
        let now = ProcessAttributes::of_this_process();
        now.changed_since(known).next().is_none()
    };
    known.as_ref().is_some_and(is_as)
}

/// Makes a system call that the tracer sees. Returns the error with which it fails.
fn tell(what: &str) -> Option<c_int> {
    let path = [request()?.as_os_str().as_bytes(), what.as_bytes()].concat();
    let path = CString::new(path).ok()?;
    // SAFETY: asks whether there is a file of that name, which nobody makes.
    unsafe { libc::access(path.as_ptr(), libc::F_OK) };
    Error::last_os_error().raw_os_error()
}
