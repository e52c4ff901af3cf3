//! The process that runs a program of which an image is to be taken. At the ends of imports it forks candidates for the
//! image, as long as it has nothing that cannot be restored. The tracer decides which candidate becomes the image
//! ([`mod@crate::image::observation::point`]).

use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use super::failure::Failure;
use super::fork::fork;
use super::message::{self, BEGINS, FORKS, KEEPS, LEAVES, LOOKS};
use super::postponed;
use super::process_attributes::changed_attributes;
use super::threads::thread_pointer;
use crate::cpython::image::{self, AtForkHandlers, AuditHooks};
use crate::cpython::object::{self, Global, Object, Raised};
use crate::cpython::{is_main_interpreter, own};

/// Whether this process runs the program, and is not forking a candidate.
static IS_RUNNING: AtomicBool = AtomicBool::new(false);
static HAS_EXCEEDED_RECURSION: AtomicBool = AtomicBool::new(false);
/// The `cds.image.program.Program`.
static PREPARATION: Global = Global::empty();
static REQUEST: OnceLock<PathBuf> = OnceLock::new();
/// Whether the program is only the reason to start the interpreter, of which a base image is taken.
static IS_BASE: AtomicBool = AtomicBool::new(false);
/// The thread that runs the program.
static MAIN_THREAD: AtomicU64 = AtomicU64::new(0);

/// Prepares this process for the program, which is about to begin.
pub fn begin(preparation: &Object, request: &Path) -> object::Result<()> {
    // Hides the modules of `cds` from the program.
    own::keep(preparation.attribute(c"hide")?.call(Vec::new())?);
    IS_BASE.store(
        preparation.attribute(c"is_base")?.is_true(),
        Ordering::Relaxed,
    );
    PREPARATION.set(preparation.clone());
    // This function is called once, so `set()` cannot fail.
    let _ = REQUEST.set(request.to_owned());
    MAIN_THREAD.store(thread_pointer(), Ordering::Relaxed);
    send(BEGINS);
    IS_RUNNING.store(true, Ordering::Release);
    Ok(())
}

/// Whether this thread may have to fork a candidate after an import.
pub fn is_running() -> bool {
    // No system call may be used here: the tracer would take it for a call of the program.
    IS_RUNNING.load(Ordering::Acquire)
        && is_main_interpreter()
        && thread_pointer() == MAIN_THREAD.load(Ordering::Relaxed)
}

/// Whether the process already knows what to run, and may have begun to run it.
pub fn is_chosen() -> bool {
    request().is_some() && !IS_BASE.load(Ordering::Relaxed)
}

/// The path of the request.
pub fn request() -> Option<&'static Path> {
    REQUEST.get().map(PathBuf::as_path)
}

/// The state of a candidate that was chosen to become the image.
pub struct Chosen {
    pub preparation: Object,
    /// The audit hooks of the program. They are not called until the program continues.
    pub audit_hooks: Option<AuditHooks>,
}

/// Forks a candidate, if it could become an image. `imported` is the module that was just imported; none before the
/// program begins. Returns none in the program. In the candidate, returns its state once the candidate is chosen.
pub fn fork_candidate(imported: Option<&Object>) -> Result<Option<Chosen>, Failure> {
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

fn chosen(imported: Option<&Object>) -> Result<Option<Object>, Failure> {
    // Hooks of C code cannot be set aside.
    if image::has_native_audit_hooks() || !postponed::is_as_before() {
        return Ok(None);
    }
    let Some(preparation) = PREPARATION.get() else {
        return Ok(None);
    };
    let is_candidate = preparation.attribute(c"is_candidate")?;
    let imported = imported.cloned().unwrap_or_else(Object::none);
    if !is_candidate.call(vec![imported])?.is_true() {
        return Ok(None);
    }
    // The program's output counts as an effect even while it is in a buffer. Flushing makes the tracer see it.
    flush(&preparation)?;
    send(FORKS);
    if request().is_none_or(|request| !changed_attributes(request).is_empty()) {
        send(LEAVES);
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
            // The image must not contain the preparation.
            PREPARATION.clear();
            Ok(Some(preparation))
        }
        Ok(Some(_)) => {
            send(KEEPS);
            Ok(None)
        }
        // The process has threads, which an image would lose.
        Err(Failure::Reason(_)) => {
            send(LEAVES);
            Ok(None)
        }
        Err(raised) => Err(raised),
    }
}

/// Called before a RecursionError is raised. The error comes too early here, because the code that watches this process
/// needs frames, too.
pub fn recursion_exceeded() {
    if IS_RUNNING.load(Ordering::Acquire) {
        send(&format!("{LOOKS}the recursion limit"));
    }
    HAS_EXCEEDED_RECURSION.store(true, Ordering::Relaxed);
}

/// Whether a RecursionError was raised.
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
        // The stream is closed, or its reader is gone.
        flushed.map(drop).unwrap_or_else(Raised::clear);
    }
    // SAFETY: a null pointer means all streams of the C library.
    unsafe { libc::fflush(std::ptr::null_mut()) };
    Ok(())
}

/// Sends a message to the tracer.
fn send(what: &str) {
    if let Some(request) = request() {
        message::send(request, what);
    }
}
