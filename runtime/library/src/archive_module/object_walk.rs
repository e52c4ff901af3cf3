//! `walk()`: describes an object of an archive file and all objects that can be reached from it.

use std::collections::HashSet;
use std::path::Path;

use super::opened::{damaged, here, open};
use crate::cpython::object::{self, Object, Result};
use crate::cpython::stored::{Stored, Value};
use crate::inspect::objects::{Objects, Place};
use crate::inspect::{self, Here};

/// The greatest number of bytes that are read from a static object of the interpreter.
const STATIC_OBJECT_BYTES: usize = 4096;

pub fn walk([path, root]: [Object; 2]) -> Result<Object> {
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
}

struct Walk<'a, 'b> {
    objects: &'b Objects<'a>,
    lower: Option<&'b Objects<'a>>,
    here: &'b Here<'b>,
}

impl Walk<'_, '_> {
    /// Describes the object at an address, and returns the addresses to which it refers.
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
                let bytes = self.here.executable.copy(here, STATIC_OBJECT_BYTES);
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

/// Converts text and bytes to the same types. Numbers become text, which Python code converts.
pub(super) fn value_object(value: Option<Value>) -> Result<Object> {
    match value {
        None => Ok(Object::none()),
        Some(Value::Text(text) | Value::Int(text)) => Object::str(&text),
        Some(Value::Bytes(bytes)) => Object::from_bytes(&bytes),
        Some(Value::Float(value)) => Object::str(&value.to_string()),
        Some(Value::Complex(real, imaginary)) => Object::str(&format!("{real} {imaginary}")),
    }
}
