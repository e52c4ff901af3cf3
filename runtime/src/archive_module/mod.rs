//! The builtin module `_cds_archive`, for the package `cds`: writes archives and tells about the mapped one.

use std::path::Path;
use std::sync::OnceLock;

use crate::cpython::bindings::{self as raw, Py_ssize_t, PyObject};
use crate::cpython::is_main_interpreter;
use crate::cpython::object::{Exception, Object, Raised, Result};
use crate::ffi::{arguments, fenced_call};
use crate::fingerprint;
use crate::patterns::{self, Key};
use crate::reader::Mapped;
use crate::writer::{self, Directory, Interpreter, Module, Pattern, Touched, base};
use crate::{extensions, memory, objects, roots, runtime};

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
            method(
                c"write",
                write,
                c"write(path, modules, patterns, directories, profiles)\n--\n\nWrite an archive and return a summary.",
            ),
            method(
                c"write_object",
                write_object,
                c"write_object(path, items)\n--\n\nWrite an archive of the item of a tuple, or of none.",
            ),
            method(
                c"load_object",
                load_object,
                c"load_object(path)\n--\n\nMap such an archive and return a tuple of its object, or an empty one.",
            ),
            method(
                c"find_unsuitable",
                find_unsuitable,
                c"find_unsuitable(object)\n--\n\nName the type of what cannot be archived of an object, or None.",
            ),
            method(
                c"is_linked",
                is_linked,
                c"is_linked(name, path)\n--\n\nWhether a file is the extension module that is linked into the interpreter.",
            ),
            method(
                c"status",
                status,
                c"status()\n--\n\nThe archives in use, upper layer first.",
            ),
            method(
                c"module_names",
                module_names,
                c"module_names()\n--\n\nThe modules of the archives in use.",
            ),
            method(
                c"stats",
                stats,
                c"stats()\n--\n\nWhat came from the archive in this process.",
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

fn method(
    name: &'static std::ffi::CStr,
    call: FastCall,
    doc: &'static std::ffi::CStr,
) -> raw::PyMethodDef {
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

unsafe extern "C" fn write(
    _: *mut PyObject,
    args: *const *mut PyObject,
    count: Py_ssize_t,
) -> *mut PyObject {
    fenced_call(|| {
        // SAFETY: the calling convention METH_FASTCALL.
        let [path, modules, patterns, directories, profiles] = unsafe { arguments(args, count) }?;
        let modules = modules.to_items()?;
        let modules = modules.iter().map(module).collect::<Result<Vec<_>>>()?;
        let patterns = patterns.to_items()?;
        let patterns = patterns.into_iter().map(pattern).collect::<Result<_>>()?;
        let directories = directories.to_items()?;
        let directories = directories
            .iter()
            .map(directory)
            .collect::<Result<Vec<_>>>()?;
        let touched = touched_by(&profiles)?;
        let runtime = runtime::current()
            .ok_or_else(|| Raised::new(Exception::Os, "the archive runtime has been disabled"))?;
        let lower = runtime.layers.standard.as_ref().map(|layer| &layer.archive);
        let facts = fingerprint::facts(
            &runtime.config,
            &runtime.image,
            lower.map(|lower| &lower.header),
        )
        .ok_or_else(|| Raised::new(Exception::Os, "this interpreter has no build id"))?;
        let path = path.to_str()?;
        let interpreter = Interpreter {
            facts: &facts,
            image: &runtime.image,
            roots: &roots::current(&runtime.config),
            lower,
            base: if lower.is_some() {
                base::UPPER
            } else {
                base::LOWEST
            },
        };
        let summary = writer::write(
            Path::new(path),
            modules,
            patterns,
            directories,
            &interpreter,
            &touched,
        )
        .map_err(|error| Raised::new(Exception::Os, &format!("cannot write {path}: {error}")))?;
        let counts = |map: &std::collections::BTreeMap<&'static str, usize>| {
            Object::dict(
                map.iter()
                    .map(|(k, v)| Ok((*k, Object::int(*v as i64)?)))
                    .collect::<Result<Vec<_>>>()?,
            )
        };
        let skipped = summary
            .skipped
            .iter()
            .map(|(name, reason)| Object::tuple(vec![Object::str(name)?, Object::str(reason)?]));
        Object::dict([
            ("modules", Object::int(summary.modules as i64)?),
            ("shared", Object::int(summary.shared as i64)?),
            ("patterns", Object::int(summary.patterns as i64)?),
            ("extensions", Object::int(summary.extensions as i64)?),
            ("directories", Object::int(summary.directories as i64)?),
            ("bytes", Object::int(summary.bytes as i64)?),
            ("objects", counts(&summary.objects)?),
            ("sections", counts(&summary.sections)?),
            (
                "skipped",
                Object::list(skipped.collect::<Result<Vec<_>>>()?)?,
            ),
        ])
    })
}

/// `(pattern, flags, …)`, see [`crate::patterns`].
fn pattern(fields: Object) -> Result<Pattern> {
    let [pattern, flags, ..] = self::fields::<{ patterns::FIELDS }>(&fields)?;
    let key = Key { pattern, flags };
    let hash = key
        .hash()
        .ok_or_else(|| Raised::new(Exception::Value, "not a pattern"))?;
    Ok(Pattern { key, hash, fields })
}

/// `(name, origin or None, mtime_ns, size, code, is hot)`; code is None for an extension module that is linked into the
/// interpreter.
fn module(item: &Object) -> Result<Module> {
    let [name, origin, mtime_ns, size, code, is_hot] = fields(item)?;
    Ok(Module {
        name: name.to_str()?.to_owned(),
        source: if origin.is_none() {
            None
        } else {
            Some(origin.to_str()?.to_owned())
        },
        mtime_ns: mtime_ns.to_i64()?,
        size: u64::try_from(size.to_i64()?)
            .map_err(|_| Raised::new(Exception::Value, "negative size"))?,
        code: (!code.is_none()).then_some(code),
        is_hot: is_hot.is_true(),
    })
}

/// `(path, mtime_ns, [(name, file or None), …])`
fn directory(item: &Object) -> Result<Directory> {
    let [path, mtime_ns, entries] = fields(item)?;
    let entry = |item: &Object| {
        let [name, file] = fields(item)?;
        let file = if file.is_none() {
            None
        } else {
            Some(file.to_str()?.to_owned())
        };
        Ok((name.to_str()?.to_owned(), file))
    };
    Ok(Directory {
        path: path.to_str()?.to_owned(),
        mtime_ns: mtime_ns.to_i64()?,
        entries: entries
            .to_items()?
            .iter()
            .map(entry)
            .collect::<Result<_>>()?,
    })
}

/// `[[line, …], …]`: the lines of each profile.
fn touched_by(profiles: &Object) -> Result<Touched> {
    let mut touched = Touched::default();
    for profile in profiles.to_items()? {
        let keys = profile
            .to_items()?
            .iter()
            .map(profile_line)
            .collect::<Result<Vec<_>>>()?;
        touched.add_run(keys.into_iter());
    }
    Ok(touched)
}

fn profile_line(item: &Object) -> Result<u64> {
    let line = item.to_str()?;
    let error = |_| {
        Raised::new(
            Exception::Value,
            &format!("not a line of a profile: {line:?}"),
        )
    };
    u64::from_str_radix(line, 16).map_err(error)
}

fn fields<const N: usize>(item: &Object) -> Result<[Object; N]> {
    let items = item.to_items()?;
    let found = items.len();
    items.try_into().map_err(|_| {
        Raised::new(
            Exception::Value,
            &format!("expected a tuple of {N} items, got {found}"),
        )
    })
}

unsafe extern "C" fn write_object(
    _: *mut PyObject,
    args: *const *mut PyObject,
    count: Py_ssize_t,
) -> *mut PyObject {
    fenced_call(|| {
        // SAFETY: the calling convention METH_FASTCALL.
        let [path, items] = unsafe { arguments(args, count) }?;
        let path = path.to_str()?;
        let error =
            |text: &str| Raised::new(Exception::Os, &format!("cannot write {path}: {text}"));
        let runtime =
            runtime::current().ok_or_else(|| error("the archive runtime has been disabled"))?;
        let facts = fingerprint::facts(&runtime.config, &runtime.image, None)
            .ok_or_else(|| error("this interpreter has no build id"))?;
        let interpreter = Interpreter {
            facts: &facts,
            image: &runtime.image,
            roots: &[],
            lower: None,
            base: base::OBJECT,
        };
        let items = items.to_items()?;
        writer::write_object(Path::new(path), items.first(), &interpreter)
            .map_err(|text| error(&text))?;
        Ok(Object::none())
    })
}

unsafe extern "C" fn load_object(
    _: *mut PyObject,
    args: *const *mut PyObject,
    count: Py_ssize_t,
) -> *mut PyObject {
    fenced_call(|| {
        // SAFETY: the calling convention METH_FASTCALL.
        let [path] = unsafe { arguments(args, count) }?;
        let runtime = runtime::current()
            .filter(|_| is_main_interpreter())
            .ok_or_else(|| Raised::new(Exception::Os, "only the main interpreter uses archives"))?;
        let object = objects::load(runtime, path.to_str()?)?;
        Object::tuple(object.into_iter().collect())
    })
}

unsafe extern "C" fn find_unsuitable(
    _: *mut PyObject,
    args: *const *mut PyObject,
    count: Py_ssize_t,
) -> *mut PyObject {
    fenced_call(|| {
        // SAFETY: the calling convention METH_FASTCALL.
        let [object] = unsafe { arguments(args, count) }?;
        objects::find_unsuitable(&object)
            .map_or_else(|| Ok(Object::none()), |name| Object::str(&name))
    })
}

unsafe extern "C" fn is_linked(
    _: *mut PyObject,
    args: *const *mut PyObject,
    count: Py_ssize_t,
) -> *mut PyObject {
    fenced_call(|| {
        // SAFETY: the calling convention METH_FASTCALL.
        let [name, path] = unsafe { arguments(args, count) }?;
        let path = Path::new(path.to_str()?);
        Ok(Object::bool(extensions::is_built_from_linked(
            name.to_str()?,
            path,
        )))
    })
}

unsafe extern "C" fn status(
    _: *mut PyObject,
    _: *const *mut PyObject,
    _: Py_ssize_t,
) -> *mut PyObject {
    fenced_call(|| {
        let layers = runtime::current()
            .into_iter()
            .flat_map(|runtime| runtime.layers.iter());
        Object::list(
            layers
                .map(|layer| archive_status(&layer.archive))
                .collect::<Result<Vec<_>>>()?,
        )
    })
}

unsafe extern "C" fn module_names(
    _: *mut PyObject,
    _: *const *mut PyObject,
    _: Py_ssize_t,
) -> *mut PyObject {
    fenced_call(|| {
        let layers = runtime::current()
            .into_iter()
            .flat_map(|runtime| runtime.layers.iter());
        let names = layers.flat_map(|layer| layer.archive.tables.modules());
        let names = names.map(|module| Object::str(module.name));
        Object::list(names.collect::<Result<Vec<_>>>()?)
    })
}

fn archive_status(archive: &Mapped) -> Result<Object> {
    let sections = memory::usage(archive).into_iter().map(|usage| {
        Object::dict([
            ("name", Object::str(usage.kind.name())?),
            ("never_written", Object::bool(usage.kind.is_never_written())),
            ("resident_kb", Object::int(usage.resident as i64)?),
            ("private_dirty_kb", Object::int(usage.private_dirty as i64)?),
        ])
    });
    Object::dict([
        ("path", Object::str(&archive.path.to_string_lossy())?),
        ("address", Object::int(archive.base() as i64)?),
        ("bytes", Object::int(archive.header.mapped_bytes as i64)?),
        ("relocated", Object::bool(archive.relocated)),
        (
            "modules",
            Object::int(
                archive
                    .tables
                    .modules()
                    .filter(|module| module.code.is_some())
                    .count() as i64,
            )?,
        ),
        (
            "sections",
            Object::list(sections.collect::<Result<Vec<_>>>()?)?,
        ),
    ])
}

unsafe extern "C" fn stats(
    _: *mut PyObject,
    _: *const *mut PyObject,
    _: Py_ssize_t,
) -> *mut PyObject {
    fenced_call(|| {
        let Some(runtime) = runtime::current() else {
            return Ok(Object::none());
        };
        let counted = runtime.stats.snapshot();
        let mut names = Vec::new();
        for (name, miss) in &counted.missed_names {
            names.push((name.as_str(), Object::str(miss.reason())?));
        }
        Object::dict([
            ("source", Object::int(counted.source as i64)?),
            ("frozen", Object::int(counted.frozen as i64)?),
            ("missed", Object::int(counted.missed as i64)?),
            ("missed_names", Object::dict(names)?),
        ])
    })
}
