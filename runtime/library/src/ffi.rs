//! Every function that C calls, as declared in `Include/internal/pycore_cds.h`.
//!
//! All of them are protected in the same way: if something fails, even with a panic, the answer makes the interpreter
//! continue without the archive.
//!
//! A reference that C passes is a [`Borrowed`], and a result a new reference or None, which is NULL in C. No function
//! uses a pointer to an interpreter: it is that of the calling thread.

use std::ffi::{CStr, c_char, c_int, c_void};

use crate::answer::catalog::{self, Found};
use crate::answer::extensions;
use crate::answer::intern;
use crate::answer::loaders;
use crate::answer::patterns;
use crate::answer::patterns::Key;
use crate::border::{arguments, fenced, fenced_question};
use crate::cpython::is_main_interpreter;
use crate::cpython::linked::Init;
use crate::cpython::modules::SetUp;
use crate::cpython::mortality;
use crate::cpython::object::{Borrowed, Object, Raised, Result};
use crate::image::postponed;
use crate::image::searches;
use crate::report::stats::{Activity, Origin};
use crate::runtime::{self, Runtime};
use crate::{archive_module, fault, image, report};

/// # Safety
/// The arguments must be as `pycore_cds.h` describes them.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn _PyCDS_Initialize(_interp: *mut c_void) -> c_int {
    std::panic::set_hook(Box::new(runtime::report_panic));
    fault::read_environment();
    let result = fenced("initialize", None, || {
        // SAFETY: C calls this function in the main interpreter, before it has created any object.
        Some(unsafe { runtime::initialize() })
    });
    let goes_on = result.map_or_else(runtime::may_go_without, |result| result.is_ok());
    c_int::from(!goes_on)
}

/// # Safety
/// The arguments must be as `pycore_cds.h` describes them.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn _PyCDS_ImportingSite() {
    fenced("importing_site", (), || {
        if let Some(runtime) = runtime::current()
            && is_main_interpreter()
        {
            if let Some(request) = &runtime.options.image {
                image::note_attributes(request);
            }
            if let Err(raised) = image::begin_variables(&runtime.options) {
                raised.report();
            }
            runtime.begin_renewal();
        }
    });
}

/// # Safety
/// The arguments must be as `pycore_cds.h` describes them.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn _PyCDS_SiteImported() {
    fenced("site_imported", (), || {
        if runtime::current().is_some_and(|runtime| runtime.options.pycds)
            && is_main_interpreter()
            && let Err(raised) = start_pycds()
        {
            raised.report();
        }
    });
}

/// Runs the code that code-data-share has in its start-up file.
fn start_pycds() -> Result<()> {
    let environment = Object::import(c"cds.code_data_share.environment")?;
    environment.attribute(c"start")?.call(Vec::new())?;
    Ok(())
}

/// # Safety
/// The arguments must be as `pycore_cds.h` describes them.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn _PyCDS_Finalize(_interp: *mut c_void) {
    fenced("finalize", (), || {
        if let Some(runtime) = runtime::current() {
            report::finish(runtime);
        }
    });
}

/// # Safety
/// The arguments must be as `pycore_cds.h` describes them.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn _PyCDS_FindInterned(string: Borrowed) -> Option<Object> {
    let runtime = runtime::for_interning()?;
    fenced("find_interned", None, || {
        // SAFETY: C passes an exact str.
        unsafe { intern::find(&runtime.layers, &string) }
    })
}

/// # Safety
/// The arguments must be as `pycore_cds.h` describes them.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn _PyCDS_GetFrozenCode(
    name: Borrowed,
    data: *const c_char,
) -> Option<Object> {
    // `_imp.get_frozen_object()` can pass data that does not belong to the interpreter.
    let runtime = runtime::current().filter(|runtime| runtime.executable.contains(data as u64))?;
    fenced("get_frozen_code", None, || {
        frozen_code(runtime, &name).unwrap_or_else(|raised| {
            raised.clear();
            None
        })
    })
}

fn frozen_code(runtime: &Runtime, name: &Object) -> Result<Option<Object>> {
    runtime.trace(name, None)?;
    let name = name.to_str()?;
    let Some(layers) = runtime.layers_for_code() else {
        return Ok(None);
    };
    let answer = runtime
        .stats
        .timed(Activity::GetCode, || catalog::frozen_code(layers, name))?;
    Ok(counted(runtime, name, None, answer))
}

/// # Safety
/// The arguments must be as `pycore_cds.h` describes them.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn _PyCDS_GetCode(
    _module: Borrowed,
    args: *const Object,
    count: isize,
) -> Option<Object> {
    fenced_question("get_code", || {
        let Some(runtime) = runtime::current() else {
            return Ok(Object::none());
        };
        // SAFETY: the arguments come from the calling convention METH_FASTCALL.
        let [name, path] = unsafe { arguments(args, count) }?;
        let module = name;
        let Some((name, path)) = texts(&module, &path) else {
            return Ok(Object::none());
        };
        runtime.trace(&module, Some(path))?;
        let Some(layers) = runtime.layers_for_code() else {
            return Ok(Object::none());
        };
        let answer = runtime.stats.timed(Activity::GetCode, || {
            catalog::source_code(layers, &runtime.config, path)
        })?;
        runtime.compiler.loaded(name, answer.as_ref().ok(), layers);
        Ok(counted(runtime, name, Some(path), answer).unwrap_or_else(Object::none))
    })
}

/// Counts an answer about a module. A frozen module has no path.
fn counted(
    runtime: &Runtime,
    name: &str,
    path: Option<&str>,
    answer: catalog::Answer,
) -> Option<Object> {
    match answer {
        Ok(code) => {
            let origin = path.map_or(Origin::Frozen, |_| Origin::Source);
            runtime.stats.hit(origin);
            Some(code)
        }
        Err(miss) => {
            runtime.missed(name, path, miss);
            None
        }
    }
}

/// The texts of two arguments. None if one has a lone surrogate or is not a str: `importlib` handles it. No exception is
/// left, and the second conversion does not begin with the exception of the first one.
fn texts<'a>(first: &'a Object, second: &'a Object) -> Option<(&'a str, &'a str)> {
    let texts = first
        .to_str()
        .and_then(|first| Ok((first, second.to_str()?)));
    texts.map_err(Raised::clear).ok()
}

/// Records a search for a module while an image is taken.
fn note_search([directory, name, loaders]: [Object; 3]) {
    let standard = loaders::standard(&loaders);
    let Ok(directory) = directory.to_str() else {
        // The directory cannot be recorded. Then its modification time is compared.
        Raised.clear();
        return;
    };
    let name = name.to_str();
    // Other loaders find files with other suffixes.
    let is_standard = matches!(standard, Ok(Some(_)));
    let name = name.ok().filter(|name| is_standard && !name.contains('\0'));
    searches::note(directory, name);
    Raised.clear();
}

/// # Safety
/// The arguments must be as `pycore_cds.h` describes them.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn _PyCDS_FindModule(
    _module: Borrowed,
    args: *const Object,
    count: isize,
) -> Option<Object> {
    fenced_question("find_module", || {
        if runtime::current().is_some_and(|runtime| runtime.options.image.is_some()) {
            // SAFETY: the arguments come from the calling convention METH_FASTCALL.
            note_search(unsafe { arguments(args, count) }?);
        }
        let runtime = runtime::current()
            // With -vv, `importlib` prints which files it tries.
            .filter(|runtime| runtime.config.verbosity() < 2 && !runtime.layers.is_empty());
        let Some(runtime) = runtime else {
            return Ok(Object::none());
        };
        // SAFETY: the arguments come from the calling convention METH_FASTCALL.
        let [directory, name, loaders] = unsafe { arguments(args, count) }?;
        let Some((directory, name)) = texts(&directory, &name) else {
            return Ok(Object::none());
        };
        let Some(loaders) = loaders::standard(&loaders)? else {
            return Ok(Object::none());
        };
        let found = runtime.stats.timed(Activity::FindModule, || {
            catalog::find(&runtime.layers, &runtime.config, directory, name)
        });
        match found {
            Found::Unknown => {
                runtime.stats.unknown_directory(directory);
                Ok(Object::none())
            }
            Found::Nothing => Object::tuple(Vec::new()),
            Found::File {
                path,
                suffix,
                package,
            } => {
                let Some((_, loader)) = loaders
                    .into_iter()
                    .find(|(candidate, _)| *candidate == suffix)
                else {
                    return Ok(Object::none());
                };
                let search_path = match package {
                    Some(directory) => Object::list([Object::str(&directory)?])?,
                    None => Object::none(),
                };
                Object::tuple(vec![loader, Object::str(&path)?, search_path])
            }
        }
    })
}

/// # Safety
/// The arguments must be as `pycore_cds.h` describes them.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn _PyCDS_FindPattern(
    module: Borrowed,
    args: *const Object,
    count: isize,
) -> Option<Object> {
    fenced_question("find_pattern", || {
        let Some(runtime) = runtime::current() else {
            return Ok(Object::none());
        };
        // SAFETY: the arguments come from the calling convention METH_FASTCALL.
        let [key, function] = unsafe { arguments(args, count) }?;
        let Some(key) = Key::new(&key)? else {
            return Ok(Object::none());
        };
        runtime.trace_pattern(&key)?;
        let Some(layers) = runtime.layers_for_code() else {
            return Ok(Object::none());
        };
        let found = runtime.stats.timed(Activity::FindPattern, || {
            patterns::find(layers, &runtime.compiler, &key, &function, &module)
        });
        Ok(found
            .unwrap_or_else(|raised| {
                raised.clear();
                None
            })
            .unwrap_or_else(Object::none))
    })
}

/// # Safety
/// The arguments must be as `pycore_cds.h` describes them.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn _PyCDS_PostponesGC(_interp: *mut c_void) -> c_int {
    fenced("postpones_gc", 0, || {
        c_int::from(runtime::current().is_some_and(Runtime::postpones_gc))
    })
}

/// # Safety
/// The arguments must be as `pycore_cds.h` describes them.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn _PyCDS_TakeImage(exit_code: *mut c_int) -> c_int {
    // A process that was started to take an image has no program to run if that fails.
    let is_asked = runtime::current().is_some_and(|runtime| runtime.options.image.is_some());
    let Some(status) = fenced("take_image", is_asked.then_some(1), image::take) else {
        return 0;
    };
    // SAFETY: C passes a pointer to a variable.
    unsafe { exit_code.write(status) };
    1
}

/// # Safety
/// The arguments must be as `pycore_cds.h` describes them.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn _PyCDS_ModuleImported(_interp: *mut c_void, module: Borrowed) {
    fenced("module_imported", (), || image::module_imported(&module));
}

/// # Safety
/// The arguments must be as `pycore_cds.h` describes them.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn _PyCDS_RecursionExceeded() {
    fenced("recursion_exceeded", (), image::recursion_exceeded);
}

/// # Safety
/// The arguments must be as `pycore_cds.h` describes them.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn _PyCDS_SetUpOrWait(module: Borrowed, set_up: SetUp) -> c_int {
    // SAFETY: C passes a module and the function that sets it up.
    let waits = fenced("set_up_or_wait", false, || unsafe {
        postponed::waits(&module, set_up)
    });
    if waits {
        return 0;
    }
    // SAFETY: C passes a module and the function that sets it up.
    unsafe { set_up(module) }
}

/// # Safety
/// The arguments must be as `pycore_cds.h` describes them.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn _PyCDS_FinalizeRestored(_interp: *mut c_void) -> c_int {
    fenced("finalize_restored", 0, || {
        c_int::from(image::finalize_restored())
    })
}

/// # Safety
/// The arguments must be as `pycore_cds.h` describes them.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn _PyCDS_IsRestored() -> c_int {
    c_int::from(image::is_restored())
}

/// # Safety
/// The arguments must be as `pycore_cds.h` describes them.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn _PyCDS_EndRestored(exit_code: c_int) {
    fenced("end_restored", (), || image::end_restored(exit_code));
}

/// # Safety
/// The arguments must be as `pycore_cds.h` describes them.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn _PyCDS_IsImmortal(object: Borrowed) -> c_int {
    let Some(runtime) = runtime::for_interning() else {
        return 0;
    };
    let address = object.address();
    let mut layers = runtime.layers.iter();
    let is_archived = layers.any(|layer| layer.archive.requested_address(address).is_some());
    c_int::from(is_archived || mortality::are_immortal())
}

/// # Safety
/// The arguments must be as `pycore_cds.h` describes them.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn _PyCDS_FindLinkedInit(name: *const c_char, path: *const c_char) -> Init {
    fenced("find_linked_init", None, || {
        let runtime = runtime::current()?;
        // SAFETY: C passes strings that outlive the call.
        let (name, path) = unsafe { (CStr::from_ptr(name), CStr::from_ptr(path)) };
        extensions::init(&runtime.layers, &runtime.config, name, path.to_str().ok()?)
    })
}

/// # Safety
/// The arguments must be as `pycore_cds.h` describes them.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn PyInit__cds_archive() -> Option<Borrowed> {
    archive_module::init()
}
