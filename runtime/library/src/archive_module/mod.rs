//! The builtin module `_cds_archive`, for the package `cds`: writes archives, looks into their files, and tells about
//! those in use.

mod image_inspection;
mod inspection;
mod object_archives;
mod object_walk;
mod observation;
mod opened;
mod renewal;
mod status;
mod write;

use std::ffi::CStr;
use std::sync::OnceLock;

use crate::border::{arguments, fenced_method};
use crate::cpython::bindings::{self as raw, Py_ssize_t, PyObject};
use image_inspection::{
    archive_of, compared_facts, do_arguments_vary, found_by_search, ignore_searches, image_note,
    image_of, image_options, inspect_image, needs_renewal, searches, set_up, write_image_note,
};
use inspection::{command_of, dry_run, hash_file, inspect, verify};
use object_archives::{find_unsuitable, load_object, write_object};
use object_walk::walk;
use observation::run_observed;
use renewal::{archived_lines, ended_runs, loaded_lines, wake};
use status::{is_linked, module_names, status};
use write::write;

/// The definition of a method: its documentation, beginning with its name and signature, and the function that takes an
/// array of arguments.
macro_rules! method {
    ($name:literal, $function:path, $doc:literal $(,)?) => {{
        unsafe extern "C" fn call(
            _: *mut PyObject,
            args: *const *mut PyObject,
            count: Py_ssize_t,
        ) -> *mut PyObject {
            // SAFETY: the calling convention METH_FASTCALL.
            fenced_method($name, || $function(unsafe { arguments(args, count) }?))
        }
        method($name, call, $doc)
    }};
}

/// Creates the module definition, once, and begins multi-phase initialization (PEP 489).
pub fn init() -> *mut PyObject {
    /// The definition must not move, and only the interpreter looks into it.
    struct Definition(*mut raw::PyModuleDef);
    // SAFETY: it is not touched from Rust after it was made.
    unsafe impl Send for Definition {}
    // SAFETY: as above.
    unsafe impl Sync for Definition {}
    static DEFINITION: OnceLock<Definition> = OnceLock::new();

    let definition = DEFINITION.get_or_init(|| {
        let methods = Box::leak(Box::new([
            method!(
                c"write",
                write,
                c"write(path, modules, patterns, directories, profiles, freshness, command)\n--\n\nWrite an archive and return a summary.",
            ),
            method!(
                c"write_object",
                write_object,
                c"write_object(path, items)\n--\n\nWrite an archive of the item of a tuple, or of none.",
            ),
            method!(
                c"load_object",
                load_object,
                c"load_object(path)\n--\n\nMap such an archive and return a tuple of its object, or an empty one.",
            ),
            method!(
                c"find_unsuitable",
                find_unsuitable,
                c"find_unsuitable(object)\n--\n\nName the type of what cannot be archived of an object, or None.",
            ),
            method!(
                c"is_linked",
                is_linked,
                c"is_linked(name, path)\n--\n\nWhether a file is the extension module that is linked into the interpreter.",
            ),
            method!(
                c"status",
                status,
                c"status()\n--\n\nThe archives in use, upper layer first.",
            ),
            method!(
                c"module_names",
                module_names,
                c"module_names()\n--\n\nThe modules of the archives in use.",
            ),
            method!(
                c"inspect",
                inspect,
                c"inspect(path)\n--\n\nWhat an archive file holds.",
            ),
            method!(
                c"inspect_image",
                inspect_image,
                c"inspect_image(path)\n--\n\nWhat a startup image holds.",
            ),
            method!(
                c"loaded_lines",
                loaded_lines,
                c"loaded_lines()\n--\n\nLines of a trace list for what this process has loaded.",
            ),
            method!(
                c"run_observed",
                run_observed,
                c"run_observed(arguments, environment, terminal, record, seconds, watch)\n--\n\nRun a command and record what it looks at until it opens the record.",
            ),
            method!(
                c"image_of",
                image_of,
                c"image_of(archive)\n--\n\nWhere the startup image of an archive lies."
            ),
            method!(
                c"archive_of",
                archive_of,
                c"archive_of(image)\n--\n\nWhere the archive of a startup image lies, or None if no image has this name."
            ),
            method!(
                c"compared_facts",
                compared_facts,
                c"compared_facts()\n--\n\nThe names of what images compare that the kernel tells of a process.",
            ),
            method!(
                c"searches",
                searches,
                c"searches()\n--\n\nWhere this process has searched for modules while an image is made of it, for which, None where that is not known, and what was there before. All is forgotten.",
            ),
            method!(
                c"found_by_search",
                found_by_search,
                c"found_by_search(entries, names)\n--\n\nWhich entries of a directory a search for names finds; NUL behind each, as behind the names, which are sorted.",
            ),
            method!(
                c"ignore_searches",
                ignore_searches,
                c"ignore_searches(are_ignored)\n--\n\nHave `searches()` not tell of those that are made until this is called again.",
            ),
            method!(
                c"set_up",
                set_up,
                c"set_up()\n--\n\nSet up what waits for that while an image is made of this process.",
            ),
            method!(
                c"image_options",
                image_options,
                c"image_options()\n--\n\nThe options of this process as an image has them, or None if none can have them.",
            ),
            method!(
                c"needs_renewal",
                needs_renewal,
                c"needs_renewal(path, program, arguments)\n--\n\nWhether a startup image should be written anew for a run of a program.",
            ),
            method!(
                c"do_arguments_vary",
                do_arguments_vary,
                c"do_arguments_vary(path, program, arguments)\n--\n\nWhether a startup image tells that runs of a program had different arguments.",
            ),
            method!(
                c"command_of",
                command_of,
                c"command_of(path)\n--\n\nThe command that has written an archive, or an empty text.",
            ),
            method!(
                c"image_note",
                image_note,
                c"image_note(path)\n--\n\nWhy there is no startup image, if that stands in its place, or None.",
            ),
            method!(
                c"write_image_note",
                write_image_note,
                c"write_image_note(path, reason)\n--\n\nWrite why there is no startup image, in its place.",
            ),
            method!(
                c"ended_runs",
                ended_runs,
                c"ended_runs(archive)\n--\n\nWhat runs of -X cds_auto have left that have ended, the newest last.",
            ),
            method!(
                c"archived_lines",
                archived_lines,
                c"archived_lines()\n--\n\nThe lines of a trace list that name what the archive in use has.",
            ),
            method!(
                c"wake",
                wake,
                c"wake(archive)\n--\n\nHave an archive renewed if runs have left something for it.",
            ),
            method!(
                c"walk",
                walk,
                c"walk(path, address)\n--\n\nThe objects that one in an archive file refers to, by address.",
            ),
            method!(
                c"hash_file",
                hash_file,
                c"hash_file(path)\n--\n\nThe hash by which an archive knows a file's contents.",
            ),
            method!(
                c"dry_run",
                dry_run,
                c"dry_run(path)\n--\n\nMap a file as a start would, look everything up, and let go of it.",
            ),
            method!(
                c"verify",
                verify,
                c"verify(path)\n--\n\nWhat is broken in an archive file.",
            ),
            // SAFETY: a sentinel of zeros ends the list.
            unsafe { std::mem::zeroed() },
        ]));
        // SAFETY: zeros are what PyModuleDef_HEAD_INIT leaves to PyModuleDef_Init().
        let mut definition: raw::PyModuleDef = unsafe { std::mem::zeroed() };
        definition.m_name = c"_cds_archive".as_ptr();
        definition.m_doc = c"Archives of code objects.".as_ptr();
        definition.m_methods = methods.as_mut_ptr();
        Definition(Box::leak(Box::new(definition)))
    });
    // SAFETY: the definition lives for ever.
    unsafe { raw::PyModuleDef_Init(definition.0) }
}

type FastCall =
    unsafe extern "C" fn(*mut PyObject, *const *mut PyObject, Py_ssize_t) -> *mut PyObject;

fn method(name: &'static CStr, call: FastCall, doc: &'static CStr) -> raw::PyMethodDef {
    raw::PyMethodDef {
        ml_name: name.as_ptr(),
        // SAFETY: with METH_FASTCALL the interpreter calls it by the type that it has.
        ml_meth: Some(unsafe {
            std::mem::transmute::<
                FastCall,
                unsafe extern "C" fn(*mut PyObject, *mut PyObject) -> *mut PyObject,
            >(call)
        }),
        ml_flags: raw::METH_FASTCALL as i32,
        ml_doc: doc.as_ptr(),
    }
}
