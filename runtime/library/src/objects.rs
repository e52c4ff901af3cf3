//! Archives that a program loads at run time, for the module `_cds`. They contain one object, built from the types that
//! code objects consist of, or modules.
//!
//! By then, many strings have been interned, and an interned string must not exist twice. So references to an archived
//! string are redirected to the string that is already interned, if there is one. Likewise, the interpreter has already
//! assigned versions to code objects.

use std::collections::{HashMap, HashSet};
use std::mem::ManuallyDrop;
use std::path::Path;

use crate::answer::catalog;
use crate::answer::intern;
use crate::cpython::object::{Exception, Kind, Object, Raised, Result};
use crate::cpython::{archived, interned};
use crate::fingerprint;
use crate::layers::Layer;
use crate::reader::Candidate;
use crate::runtime::Runtime;

/// The type name of the first object, in the order of nesting, that an archive cannot contain.
pub fn find_unsuitable(object: &Object) -> Option<String> {
    match object.kind() {
        Some(Kind::Tuple | Kind::FrozenSet) => match object.to_items() {
            Ok(items) => items.iter().find_map(find_unsuitable),
            Err(raised) => {
                raised.clear();
                Some(object.type_name())
            }
        },
        Some(_) => None,
        None => (!object.is_constant()).then(|| object.type_name()),
    }
}

/// Maps the archive at `path`, and returns its object. None if it contains no object.
///
/// # Errors
/// `OSError` if the archive cannot be used, or if one has already been loaded.
pub fn load(runtime: &'static Runtime, path: &str) -> Result<Option<Object>> {
    let error = |reason: &str| Raised::new(Exception::Os, &format!("cannot use {path}: {reason}"));
    let candidate = Candidate::open(Path::new(path)).map_err(|e| error(&e.to_string()))?;
    let standard = runtime.layers.standard.as_ref();
    let lower = standard
        .filter(|_| fingerprint::has_lower_layer(&candidate.header))
        .map(|layer| &layer.archive);
    let facts = fingerprint::facts(
        &runtime.config,
        &runtime.executable,
        lower.map(|lower| &lower.header),
    )
    .ok_or_else(|| error("this interpreter has no build id"))?;
    let pointers = candidate.pointers().map_err(|e| error(&e.to_string()))?;
    let archive = candidate
        .map(&facts, &runtime.executable, lower, false)
        .map_err(|e| error(&e.to_string()))?;
    let layer = Layer::new(archive);

    let mut twins = HashMap::new();
    let mut hidden = HashSet::new();
    for offset in layer.archive.tables.all_interned() {
        let Some((string, _)) = layer.archive.object(offset) else {
            return Err(error("it is damaged"));
        };
        // SAFETY: the archive was written with a str at this offset, and no other code uses the archive yet.
        let (string, elsewhere) = unsafe {
            let string = archived::object(string);
            let elsewhere = intern::find(&runtime.layers, &string);
            let elsewhere = elsewhere.or_else(|| interned::find(&string));
            (string, elsewhere)
        };
        if let Some(elsewhere) = elsewhere {
            hidden.insert(offset);
            // From now on the archive refers to this string. Archives are never unmapped, so the reference is kept.
            twins.insert(string.address(), ManuallyDrop::new(elsewhere).address());
        }
    }
    if !twins.is_empty() {
        for offset in pointers {
            let Some((place, _)) = layer.archive.object(offset) else {
                return Err(error("it is damaged"));
            };
            let place = place.cast::<u64>().as_ptr();
            // SAFETY: the place is a pointer inside a writable section, and no other code uses the archive yet.
            unsafe {
                if let Some(twin) = twins.get(&*place) {
                    *place = *twin;
                }
            }
        }
    }
    // In this order, a set inside another set is filled first.
    for set in layer.archive.tables.all_frozensets() {
        if !catalog::fill_frozenset(&layer.archive, set)? {
            return Err(error("it is damaged"));
        }
    }
    for module in layer.archive.tables.modules() {
        let code = module.code.and_then(|code| layer.archive.object(code));
        let Some((code, _)) = code else { continue };
        // SAFETY: the offset lies in a section of objects, and each object begins with a header.
        if let Some(code) = unsafe { archived::code(code) } {
            archived::forget_version(&code)?;
        }
    }
    let layer = runtime
        .layers
        .add_late(layer, hidden)
        .ok_or_else(|| error("another archive is already loaded"))?;
    let root = layer
        .archive
        .tables
        .object()
        .and_then(|offset| layer.archive.object(offset));
    let Some((root, room)) = root else {
        return Ok(None);
    };
    // SAFETY: `room` bytes from this address on are mapped. The writer stores the object in a tuple with one item.
    let items = unsafe { archived::tuple_items(root, room) };
    Ok(items.and_then(|items| items.into_iter().next()))
}
