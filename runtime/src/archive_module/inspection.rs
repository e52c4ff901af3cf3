//! `inspect()`, `walk()` and `verify()`: looking into a file.

use std::collections::{BTreeMap, HashSet};
use std::path::Path;

use cds_format::content_hash;

use crate::cpython::bindings::{Py_ssize_t, PyObject};
use crate::cpython::object::{self, Exception, Object, Raised, Result};
use crate::cpython::stored::{Stored, Value};
use crate::ffi::{arguments, fenced_call};
use crate::inspect::digest::Digests;
use crate::inspect::objects::{Objects, Place};
use crate::inspect::ownership::Ownership;
use crate::inspect::stored_archive::StoredArchive;
use crate::inspect::{self, Here};
use crate::reader::{self, OpenError};
use crate::{fingerprint, runtime};

/// How many of the constants that modules share are told.
const SHARED_TOLD: usize = 20;

/// A static object of the interpreter is looked at as far as this, in bytes.
const STATIC_OBJECT_BYTES: usize = 4096;

pub(super) unsafe extern "C" fn inspect(
    _: *mut PyObject,
    args: *const *mut PyObject,
    count: Py_ssize_t,
) -> *mut PyObject {
    fenced_call(|| {
        // SAFETY: the calling convention METH_FASTCALL.
        let [path] = unsafe { arguments(args, count) }?;
        let path = Path::new(path.to_str()?);
        let archive = open(path)?;
        let here = here()?;
        let lower = inspect::lower_layer(&archive);
        let tables = archive
            .tables()
            .map_err(|error| damaged(&error.to_string()))?;
        let mismatches = inspect::mismatches(&archive, lower.as_ref(), &here);
        let mismatches = mismatches
            .iter()
            .map(|fact| Object::tuple(strings([&fact.key, &fact.archive, &fact.here])?));
        let header = &archive.header;
        let facts = header.facts.lines().filter_map(|line| line.split_once('='));
        let facts: Vec<_> = facts
            .map(|(key, value)| Ok((key, Object::str(value)?)))
            .collect::<Result<_>>()?;
        let identity: String = header.identity.iter().map(|b| format!("{b:02x}")).collect();
        let directories = tables.directories().map(|directory| {
            Object::tuple(vec![
                Object::str(directory.path)?,
                Object::int(directory.mtime_ns)?,
            ])
        });
        let mut items = vec![
            ("bytes", Object::int(archive.file_bytes as i64)?),
            ("format", Object::int(i64::from(cds_format::VERSION))?),
            ("identity", Object::str(&identity)?),
            ("address", Object::int(header.requested_base as i64)?),
            ("mapped_bytes", Object::int(header.mapped_bytes as i64)?),
            ("code_objects", Object::int(i64::from(header.code_count))?),
            (
                "is_layer",
                Object::bool(fingerprint::has_lower_layer(header)),
            ),
            ("freshness", Object::str(header.freshness.name())?),
            ("facts", Object::dict(facts)?),
            ("mismatches", list(mismatches)?),
            ("sections", sections(&archive)?),
            ("directories", list(directories)?),
            (
                "interned",
                Object::int(tables.all_interned().count() as i64)?,
            ),
            (
                "patterns",
                Object::int(tables.all_patterns().count() as i64)?,
            ),
        ];
        let objects = inspect::objects(&archive, &here);
        let lower_objects = lower
            .as_ref()
            .and_then(|lower| inspect::objects(lower, &here));
        let ownership = objects
            .as_ref()
            .map(|objects| Ownership::find(objects, &tables));
        let mut digests = objects
            .as_ref()
            .map(|objects| Digests::new(objects, lower_objects.as_ref()));
        let mut modules = Vec::new();
        for (index, module) in tables.modules().enumerate() {
            let own_bytes = ownership.as_ref().map(|o| o.own_bytes[index] as i64);
            let digest = module
                .code
                .and_then(|code| digests.as_mut()?.digest(code))
                .map_or_else(
                    || Ok(Object::none()),
                    |digest| Object::str(&format!("{digest:016x}")),
                )?;
            modules.push(Object::dict([
                ("name", Object::str(module.name)?),
                ("origin", Object::str(module.origin)?),
                ("mtime_ns", Object::int(module.mtime_ns)?),
                ("size", Object::int(module.size as i64)?),
                (
                    "content_hash",
                    Object::str(&format!("{:016x}", module.content_hash))?,
                ),
                (
                    "address",
                    optional(module.code.map(|code| address(&archive, code)))?,
                ),
                ("own_bytes", optional(own_bytes)?),
                ("digest", digest),
            ])?);
        }
        items.push(("modules", Object::list(modules)?));
        items.push(("objects", object_counts(objects.as_ref())?));
        let shared = match (&objects, &ownership) {
            (Some(objects), Some(ownership)) => shared(objects, ownership)?,
            _ => Object::list([])?,
        };
        items.push(("shared", shared));
        let shared_bytes = match (&objects, &ownership) {
            (Some(objects), Some(ownership)) => shared_bytes(objects, ownership),
            _ => 0,
        };
        items.push(("shared_bytes", Object::int(shared_bytes as i64)?));
        Object::dict(items)
    })
}

pub(super) unsafe extern "C" fn verify(
    _: *mut PyObject,
    args: *const *mut PyObject,
    count: Py_ssize_t,
) -> *mut PyObject {
    fenced_call(|| {
        // SAFETY: the calling convention METH_FASTCALL.
        let [path] = unsafe { arguments(args, count) }?;
        let path = Path::new(path.to_str()?);
        let archive = open(path)?;
        let here = here()?;
        let lower = inspect::lower_layer(&archive);
        let mut faults = Vec::new();
        if let Err(error) = reader::trust(path) {
            faults.push(error.to_string());
        }
        let mismatches = inspect::mismatches(&archive, lower.as_ref(), &here);
        for fact in &mismatches {
            faults.push(format!(
                "it was made for {} {:?}, this interpreter has {:?}",
                fact.key, fact.archive, fact.here
            ));
        }
        faults.extend(inspect::verify::sections(&archive));
        // With other layers below nobody knows what its pointers mean.
        if mismatches.is_empty()
            && let Some(objects) = inspect::objects(&archive, &here)
        {
            let lower_objects = lower
                .as_ref()
                .and_then(|lower| inspect::objects(lower, &here));
            faults.extend(inspect::verify::objects(
                &objects,
                lower_objects.as_ref(),
                here.image,
            ));
        }
        Object::list(strings(faults.iter().map(String::as_str))?)
    })
}

pub(super) unsafe extern "C" fn hash_file(
    _: *mut PyObject,
    args: *const *mut PyObject,
    count: Py_ssize_t,
) -> *mut PyObject {
    fenced_call(|| {
        // SAFETY: the calling convention METH_FASTCALL.
        let [path] = unsafe { arguments(args, count) }?;
        let contents = std::fs::read(path.to_str()?)
            .map_err(|error| Raised::new(Exception::Os, &error.to_string()))?;
        Object::str(&format!("{:016x}", content_hash(&contents)))
    })
}

pub(super) unsafe extern "C" fn walk(
    _: *mut PyObject,
    args: *const *mut PyObject,
    count: Py_ssize_t,
) -> *mut PyObject {
    fenced_call(|| {
        // SAFETY: the calling convention METH_FASTCALL.
        let [path, root] = unsafe { arguments(args, count) }?;
        let archive = open(Path::new(path.to_str()?))?;
        let here = here()?;
        let lower = inspect::lower_layer(&archive);
        let Some(objects) = inspect::objects(&archive, &here) else {
            return Err(damaged("another build of the interpreter has written it"));
        };
        let lower_objects = lower
            .as_ref()
            .and_then(|lower| inspect::objects(lower, &here));
        let walk = Walk {
            objects: &objects,
            lower: lower_objects.as_ref(),
            here: &here,
        };
        let mut pending = vec![root.to_i64()? as u64];
        let mut visited = HashSet::new();
        let mut found = Vec::new();
        while let Some(address) = pending.pop() {
            if visited.insert(address) {
                let (described, references) = walk.describe(address)?;
                found.push(described);
                pending.extend(references);
            }
        }
        Object::list(found)
    })
}

struct Walk<'a, 'b> {
    objects: &'b Objects<'a>,
    lower: Option<&'b Objects<'a>>,
    here: &'b Here<'b>,
}

impl Walk<'_, '_> {
    /// What is at an address, and which addresses it refers to.
    fn describe(&self, address: u64) -> Result<(Object, Vec<u64>)> {
        let layers = [("archive", Some(self.objects)), ("layer below", self.lower)];
        for (layer, objects) in layers {
            let Some(objects) = objects else { continue };
            let Some(offset) = objects.archive.offset(address) else {
                continue;
            };
            if let Some((place, object)) = objects.at(offset) {
                return self.stored(address, layer, objects, place, &object);
            }
        }
        let here = address.wrapping_add(self.objects.shift());
        let (kind, value) = match object::constant_name(here) {
            Some(name) => (name, None),
            None => {
                let bytes = self.here.image.copy(here, STATIC_OBJECT_BYTES);
                let object = bytes.as_ref().and_then(|bytes| Stored::read(bytes, 0).ok());
                match object {
                    Some(object) => (object.kind.name(), object.value()),
                    None => ("unknown", None),
                }
            }
        };
        let described = Object::dict([
            ("address", Object::int(address as i64)?),
            ("place", Object::str("interpreter")?),
            ("type", Object::str(kind)?),
            ("value", value_object(value)?),
            ("fields", Object::list([])?),
        ])?;
        Ok((described, Vec::new()))
    }

    fn stored(
        &self,
        address: u64,
        layer: &str,
        objects: &Objects,
        place: &Place,
        object: &Stored,
    ) -> Result<(Object, Vec<u64>)> {
        let mut fields = Vec::new();
        let elements = objects.elements(place.offset);
        let elements = elements.map(|offset| objects.archive.address(offset));
        let pointers = object.pointers().into_iter().skip(1);
        let pointers = pointers
            .map(|pointer| (pointer.field, pointer.address))
            .chain(elements.map(|address| ("elements", address)));
        let mut references = Vec::new();
        for (field, to) in pointers {
            references.push(to);
            fields.push(Object::tuple(vec![
                Object::str(field)?,
                Object::int(to as i64)?,
            ])?);
        }
        let mut items = vec![
            ("address", Object::int(address as i64)?),
            ("place", Object::str(layer)?),
            ("section", Object::str(place.section.name())?),
            ("type", Object::str(place.kind.name())?),
            ("bytes", Object::int(place.bytes as i64)?),
            ("value", value_object(object.value())?),
            ("fields", Object::list(fields)?),
        ];
        if let Some(numbers) = object.code_numbers() {
            items.push(("first_line", Object::int(i64::from(numbers.first_line))?));
            items.push(("flags", Object::int(i64::from(numbers.flags))?));
            items.push(("stack_size", Object::int(i64::from(numbers.stack_size))?));
            items.push((
                "bytecode_bytes",
                Object::int(numbers.bytecode_bytes as i64)?,
            ));
        }
        if place.kind == object::Kind::Str {
            items.push(("interned", Object::bool(object.is_interned())));
        }
        Ok((Object::dict(items)?, references))
    }
}

/// Text and bytes as they are; numbers as text, of which Python makes numbers.
fn value_object(value: Option<Value>) -> Result<Object> {
    match value {
        None => Ok(Object::none()),
        Some(Value::Text(text) | Value::Int(text)) => Object::str(&text),
        Some(Value::Bytes(bytes)) => Object::from_bytes(&bytes),
        Some(Value::Float(value)) => Object::str(&value.to_string()),
        Some(Value::Complex(real, imaginary)) => Object::str(&format!("{real} {imaginary}")),
    }
}

fn sections(archive: &StoredArchive) -> Result<Object> {
    let sections = archive.header.sections().iter().map(|section| {
        let extents = section.extents().map(|extent| {
            Object::tuple(vec![
                Object::int(extent.file_offset as i64)?,
                Object::int(extent.bytes as i64)?,
            ])
        });
        Object::dict([
            ("name", Object::str(section.kind.name())?),
            ("bytes", Object::int(section.bytes as i64)?),
            ("hot_bytes", Object::int(section.hot_bytes as i64)?),
            ("memory_offset", Object::int(section.memory_offset as i64)?),
            ("is_mapped", Object::bool(section.kind.is_mapped())),
            ("extents", list(extents)?),
        ])
    });
    list(sections)
}

/// `[(section, type, count, bytes), …]`
fn object_counts(objects: Option<&Objects>) -> Result<Object> {
    let mut counts = BTreeMap::new();
    for place in objects.map_or(&[][..], |objects| &objects.places) {
        let (count, bytes) = counts
            .entry((place.section, place.kind.name()))
            .or_insert((0i64, 0i64));
        *count += 1;
        *bytes += place.bytes as i64;
    }
    list(counts.into_iter().map(|((section, kind), (count, bytes))| {
        Object::tuple(vec![
            Object::str(section.name())?,
            Object::str(kind)?,
            Object::int(count)?,
            Object::int(bytes)?,
        ])
    }))
}

/// The constants that save most by being stored once.
fn shared(objects: &Objects, ownership: &Ownership) -> Result<Object> {
    let mut order: Vec<usize> = (0..objects.places.len()).collect();
    let saved = |index: usize| {
        u64::from(ownership.users[index].saturating_sub(1)) * objects.places[index].bytes
    };
    order.retain(|&index| saved(index) > 0);
    order.sort_by_key(|&index| (std::cmp::Reverse(saved(index)), index));
    list(order.into_iter().take(SHARED_TOLD).map(|index| {
        let place = &objects.places[index];
        let value = objects.stored(place).and_then(|object| object.value());
        Object::dict([
            (
                "address",
                Object::int(address(objects.archive, place.offset))?,
            ),
            ("type", Object::str(place.kind.name())?),
            ("bytes", Object::int(place.bytes as i64)?),
            ("modules", Object::int(i64::from(ownership.users[index]))?),
            ("value", value_object(value)?),
        ])
    }))
}

/// Bytes of the objects that more than one module uses.
fn shared_bytes(objects: &Objects, ownership: &Ownership) -> u64 {
    let users = ownership.users.iter();
    let shared = objects
        .places
        .iter()
        .zip(users)
        .filter(|(_, users)| **users > 1);
    shared.map(|(place, _)| place.bytes).sum()
}

fn address(archive: &StoredArchive, offset: u64) -> i64 {
    archive.address(offset) as i64
}

fn here() -> Result<Here<'static>> {
    let runtime = runtime::current()
        .ok_or_else(|| Raised::new(Exception::Os, "the archive runtime has been disabled"))?;
    Ok(Here {
        config: &runtime.config,
        image: &runtime.image,
    })
}

/// # Errors
/// `OSError` if the file cannot be read, `ValueError` if it is no good archive.
fn open(path: &Path) -> Result<StoredArchive> {
    StoredArchive::open(path).map_err(|error| match error {
        OpenError::Rejected(_) => damaged(&error.to_string()),
        _ => Raised::new(Exception::Os, &error.to_string()),
    })
}

fn damaged(text: &str) -> Raised {
    Raised::new(Exception::Value, text)
}

fn list(items: impl Iterator<Item = Result<Object>>) -> Result<Object> {
    Object::list(items.collect::<Result<Vec<_>>>()?)
}

fn strings<'a>(
    items: impl IntoIterator<Item = &'a (impl AsRef<str> + ?Sized + 'a)>,
) -> Result<Vec<Object>> {
    items
        .into_iter()
        .map(|item| Object::str(item.as_ref()))
        .collect()
}

fn optional(value: Option<i64>) -> Result<Object> {
    value.map_or_else(|| Ok(Object::none()), Object::int)
}
