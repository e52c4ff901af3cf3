//! Variables that a restored program changes although the imports of its image have read them: without an image the
//! change may come first. It has happened when it is noticed, so that image is not used again.

use std::collections::BTreeMap;
use std::path::Path;
use std::process;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicU32, Ordering};

use cds_image::key::is_read_late;

use super::note;
use super::resume::texts;
use crate::cpython::bindings::PyObject;
use crate::cpython::object::{Object, Result};
use crate::runtime;

/// What the program has begun with: `NAME=value`, each with a NUL behind it.
static FIRST: OnceLock<Vec<u8>> = OnceLock::new();

/// A method that says whether imports have read a variable: the set that it belongs to is immortal.
static IS_READ_BY_IMPORTS: AtomicPtr<PyObject> = AtomicPtr::new(std::ptr::null_mut());
/// The process that the program has begun in.
static PROCESS: AtomicU32 = AtomicU32::new(0);
/// Whether the image has been given up by this process.
static IS_GIVEN_UP: AtomicBool = AtomicBool::new(false);

/// Takes notice of the variables before the program runs.
pub fn remember() -> Result<()> {
    let read = Object::import(c"cds.startup")?.attribute(c"read_by_imports")?;
    let is_read = read.attribute(c"__contains__")?.into_ptr();
    IS_READ_BY_IMPORTS.store(is_read, Ordering::Release);
    PROCESS.store(process::id(), Ordering::Relaxed);
    let _ = FIRST.set(current());
    Ok(())
}

/// Puts a note in the place of the image when the program is about to change a variable that imports or libraries have
/// read: it may end in a way that leaves no time for it. What a forked process changes is mostly for a program that it is about
/// to execute.
pub fn notice(name: &[u8], value: Option<&[u8]>) {
    let Some(first) = FIRST.get() else {
        return;
    };
    if PROCESS.load(Ordering::Relaxed) != process::id() {
        return;
    }
    let value = value.map(|value| [b"=", value].concat());
    if by_name(first).get(name).copied() == value.as_deref() {
        return;
    }
    let image = runtime::current().and_then(|runtime| runtime.auto()?.image());
    if let Some(image) = image {
        match is_read(name) {
            Ok(true) => give_up(&image, &[name]),
            Ok(false) => {}
            Err(raised) => raised.clear(),
        }
    }
}

/// The same when the program is about to end, for variables that C code has changed.
pub fn check(image: &Path) -> Result<()> {
    let mut changed = Vec::new();
    let first = FIRST.get().map(|first| differing(first));
    for name in first.unwrap_or_default() {
        if is_read(&name)? {
            changed.push(name);
        }
    }
    if !changed.is_empty() {
        give_up(image, &changed);
    }
    Ok(())
}

fn give_up(image: &Path, changed: &[impl AsRef<[u8]>]) {
    if IS_GIVEN_UP.swap(true, Ordering::Relaxed) {
        return;
    }
    let names = changed.iter();
    let names = names.map(|name| String::from_utf8_lossy(name.as_ref()).into_owned());
    let names = names.collect::<Vec<_>>().join(", ");
    let reason =
        format!("a program has changed variables that its imports or libraries read: {names}\n");
    // Whoever cannot write there has not had the image written either.
    let _ = note::write_final(image, &reason);
}

/// Runs no Python code: `posix.environ` must not be changed by whoever is told of a change of it.
fn is_read(name: &[u8]) -> Result<bool> {
    if is_read_late(name) {
        return Ok(true);
    }
    let is_read = IS_READ_BY_IMPORTS.load(Ordering::Acquire);
    if is_read.is_null() {
        return Ok(false);
    }
    // SAFETY: a method that nobody has let go of.
    let is_read = unsafe { Object::from_borrowed(is_read) };
    Ok(is_read.call(vec![Object::from_bytes(name)?])?.is_true())
}

/// Names of variables that have another value now, are new, or are gone.
fn differing(first: &[u8]) -> Vec<Vec<u8>> {
    let now = current();
    if now == first {
        return Vec::new();
    }
    let (then, now) = (by_name(first), by_name(&now));
    let names = then
        .keys()
        .chain(now.keys().filter(|name| !then.contains_key(*name)));
    let names = names.filter(|name| then.get(*name) != now.get(*name));
    names.map(|name| name.to_vec()).collect()
}

fn by_name(variables: &[u8]) -> BTreeMap<&[u8], &[u8]> {
    let texts = variables
        .split(|&byte| byte == 0)
        .filter(|text| !text.is_empty());
    texts
        .map(|text| {
            let end = text.iter().position(|&byte| byte == b'=');
            text.split_at(end.unwrap_or(text.len()))
        })
        .collect()
}

fn current() -> Vec<u8> {
    // SAFETY: the GIL is held: Python code of other threads changes nothing meanwhile.
    let texts = unsafe { texts(libc::environ as u64) };
    let mut current = Vec::with_capacity(texts.iter().map(|text| text.len() + 1).sum());
    for text in texts {
        current.extend_from_slice(text);
        current.push(0);
    }
    current
}
