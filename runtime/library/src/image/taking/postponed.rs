//! The set-up of readline: it depends on the terminal, on HOME and on its own files, and nothing else does as long as nobody uses
//! the module. So, while an image is made, it waits until somebody does, and at the latest until the image is restored.

use std::ffi::{CStr, c_int};
use std::mem::MaybeUninit;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::cpython::bindings::PyObject;
use crate::cpython::object::{Exception, Object, Raised, Result};
use crate::cpython::own;

/// Sets a module up; negative if that fails.
pub type SetUp = unsafe extern "C" fn(module: *mut PyObject) -> c_int;

/// A set-up that is still to be done.
struct Postponed {
    set_up: SetUp,
    /// The address of the module, which lives as long as the interpreter, as all do that are initialized in a single
    /// phase (PEP 489): `modules_by_index` has it (CPython, Python/import.c).
    module: usize,
    depends_on: State,
}

/// What a set-up depends on, but for the environment, which `cds.image.postponed` knows of.
#[derive(PartialEq)]
struct State {
    locale: Vec<u8>,
    /// What is done when the window's size changes.
    window_handler: (usize, c_int),
}

static IS_POSTPONING: AtomicBool = AtomicBool::new(false);
static POSTPONED: Mutex<Option<Postponed>> = Mutex::new(None);

/// Has set-ups wait from now on, as an image is made of this process.
pub fn begin() {
    IS_POSTPONING.store(true, Ordering::Relaxed);
}

/// Has set-ups no longer wait that come from now on.
pub fn end() {
    IS_POSTPONING.store(false, Ordering::Relaxed);
}

/// Has the set-up of a module that is being imported wait. Returns false if it has to be done now.
///
/// # Safety
/// `set_up` may be called with the module, which was initialized in a single phase, once, later. The GIL is held.
pub unsafe fn waits(module: *mut PyObject, set_up: SetUp) -> bool {
    // SAFETY: whoever imports it holds it.
    if !is_watched(&unsafe { Object::from_borrowed(module) }) {
        return false;
    }
    let postponed = Postponed {
        set_up,
        module: module.expose_provenance(),
        depends_on: State::now(),
    };
    let waiting = POSTPONED.lock();
    waiting
        .map(|mut waiting| *waiting = Some(postponed))
        .is_ok()
}

/// Whether the module will have itself set up when it is used.
fn is_watched(module: &Object) -> bool {
    let watch = || -> Result<()> {
        let watch = own::module(c"cds.image.postponed")?.attribute(c"watch")?;
        watch.call(vec![module.clone()]).map(drop)
    };
    IS_POSTPONING.load(Ordering::Relaxed) && watch().map_err(Raised::clear).is_ok()
}

/// Does what waits.
///
/// # Errors
/// It fails.
pub fn finish() -> Result<()> {
    let postponed = POSTPONED.lock().ok().and_then(|mut waiting| waiting.take());
    let Some(Postponed { set_up, module, .. }) = postponed else {
        return Ok(());
    };
    // SAFETY: whoever has it wait has allowed this, and the module is still alive; it was taken, so it happens once.
    let status = unsafe { set_up(std::ptr::with_exposed_provenance_mut(module)) };
    if status < 0 {
        return Err(Raised::new(Exception::Os, "readline cannot be set up"));
    }
    Ok(())
}

/// Whether what waits, if something does, would come to the same now as when the module was imported.
pub fn is_as_before() -> bool {
    let Ok(waiting) = POSTPONED.lock() else {
        return false;
    };
    let mut waiting = waiting.iter();
    waiting.all(|postponed| postponed.depends_on == State::now())
}

impl State {
    fn now() -> Self {
        let mut action = MaybeUninit::<libc::sigaction>::zeroed();
        // SAFETY: these ask. The text of the locale is copied before somebody changes it, since the GIL is held; and zeros are a
        // `struct sigaction`.
        let (locale, action) = unsafe {
            let locale = libc::setlocale(libc::LC_CTYPE, std::ptr::null());
            libc::sigaction(libc::SIGWINCH, std::ptr::null(), action.as_mut_ptr());
            let locale = (!locale.is_null()).then(|| CStr::from_ptr(locale).to_bytes().to_vec());
            (locale, action.assume_init())
        };
        Self {
            locale: locale.unwrap_or_default(),
            window_handler: (action.sa_sigaction, action.sa_flags),
        }
    }
}
