//! The postponed set-up of readline. The set-up depends on the terminal, on HOME and on readline's own files. Nothing
//! else depends on these until a program uses the module. So, while an image is taken, the set-up is postponed until
//! the module is used, or until the image is restored.

use std::ffi::{CStr, c_int};
use std::mem::MaybeUninit;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::cpython::modules::{PendingSetUp, SetUp};
use crate::cpython::object::{Exception, Object, Raised, Result};
use crate::cpython::own;

/// A set-up that was postponed.
struct Postponed {
    set_up: PendingSetUp,
    depends_on: State,
}

/// What a set-up depends on. The environment is not included: `cds.image.postponed` checks it.
#[derive(PartialEq)]
struct State {
    locale: Vec<u8>,
    /// The handler and flags of SIGWINCH (the size of the window has changed).
    window_handler: (usize, c_int),
}

static IS_POSTPONING: AtomicBool = AtomicBool::new(false);
static POSTPONED: Mutex<Option<Postponed>> = Mutex::new(None);

/// Postpones set-ups from now on, because an image is taken of this process.
pub fn begin() {
    IS_POSTPONING.store(true, Ordering::Relaxed);
}

/// Postpones no further set-ups from now on.
pub fn end() {
    IS_POSTPONING.store(false, Ordering::Relaxed);
}

/// Postpones the set-up of a module that is being imported. Returns false if the set-up has to be done now.
///
/// # Safety
/// `set_up` may be called once with the module, later. The module uses single-phase initialization. The GIL is held.
pub unsafe fn waits(module: &Object, set_up: SetUp) -> bool {
    if !is_watched(module) {
        return false;
    }
    let postponed = Postponed {
        // SAFETY: the caller passes a module with single-phase initialization, and its set-up.
        set_up: unsafe { PendingSetUp::new(module, set_up) },
        depends_on: State::now(),
    };
    let waiting = POSTPONED.lock();
    waiting
        .map(|mut waiting| *waiting = Some(postponed))
        .is_ok()
}

/// Whether the module calls its set-up when it is used. Makes the module do so, if set-ups are postponed.
fn is_watched(module: &Object) -> bool {
    let watch = || -> Result<()> {
        let watch = own::module(c"cds.image.postponed")?.attribute(c"watch")?;
        watch.call(vec![module.clone()]).map(drop)
    };
    IS_POSTPONING.load(Ordering::Relaxed) && watch().map_err(Raised::clear).is_ok()
}

/// Does the postponed set-up, if there is one.
///
/// # Errors
/// The set-up fails.
pub fn finish() -> Result<()> {
    let postponed = POSTPONED.lock().ok().and_then(|mut waiting| waiting.take());
    if postponed.is_some_and(|postponed| postponed.set_up.run() < 0) {
        return Err(Raised::new(Exception::Os, "cannot set up readline"));
    }
    Ok(())
}

/// Whether the postponed set-up, if any, would give the same result now as when the module was imported.
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
        // SAFETY: with null pointers, both calls only read. The GIL is held, so no other thread changes the locale
        // before its text is copied. Zeros are valid for `struct sigaction`.
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
