//! Archives that a program loads when it runs, for the module `_cds`: of one object, of the types that code objects are
//! made of, or of modules.
//!
//! That is after many strings have been interned. An interned string must not get a twin, so what the archive has of
//! those is replaced by the strings that are there already. Likewise the interpreter has given versions to code.

use std::collections::{HashMap, HashSet};
use std::path::Path;

use crate::answer::catalog;
use crate::answer::intern;
use crate::cpython::object::{Exception, Kind, Object, Raised, Result};
use crate::cpython::{archived, interned};
use crate::fingerprint;
use crate::layers::Layer;
use crate::reader::Candidate;
use crate::runtime::Runtime;

/// The type's name of the first object, in the order of nesting, that an archive cannot hold.
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

/// Maps the archive at `path`, and returns its object; none if it is empty.
///
/// # Errors
/// `OSError` if the archive cannot be used, or one has been loaded already.
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
        let string = string.cast().as_ptr();
        // SAFETY: the archive was written with a str there, and nothing else has been told of it.
        let elsewhere =
            unsafe { intern::find(&runtime.layers, string).or_else(|| interned::find(string)) };
        if let Some(elsewhere) = elsewhere {
            hidden.insert(offset);
            // The archive refers to it from now on, and archives are never unmapped.
            twins.insert(string as u64, elsewhere.into_ptr() as u64);
        }
    }
    if !twins.is_empty() {
        for offset in pointers {
            let Some((place, _)) = layer.archive.object(offset) else {
                return Err(error("it is damaged"));
            };
            let place = place.cast::<u64>().as_ptr();
            // SAFETY: a pointer inside a writable section, which nobody else has been told of.
            unsafe {
                if let Some(twin) = twins.get(&*place) {
                    *place = *twin;
                }
            }
        }
    }
    // In this order those inside others come first.
    for set in layer.archive.tables.all_frozensets() {
        if !catalog::fill_frozenset(&layer.archive, set)? {
            return Err(error("it is damaged"));
        }
    }
    for module in layer.archive.tables.modules() {
        let code = module.code.and_then(|code| layer.archive.object(code));
        let Some((code, _)) = code else { continue };
        // SAFETY: inside a section of objects, which begin with a header.
        unsafe {
            if archived::is_code(code.cast().as_ptr()) {
                archived::forget_version(&Object::from_borrowed(code.cast().as_ptr()))?;
            }
        }
    }
    let layer = runtime
        .layers
        .add_late(layer, hidden)
        .ok_or_else(|| error("another archive has been loaded"))?;
    let root = layer
        .archive
        .tables
        .object()
        .and_then(|offset| layer.archive.object(offset));
    let Some((root, room)) = root else {
        return Ok(None);
    };
    // SAFETY: `room` bytes from there on are mapped; a tuple of one was written.
    let items =
        unsafe { archived::tuple(root.cast().as_ptr(), room).map(|root| root.tuple_items()) };
    Ok(items.and_then(|items| items.into_iter().next()))
}
