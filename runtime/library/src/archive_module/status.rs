//! The archives that this process uses.

use std::path::Path;

use crate::answer::{catalog, extensions};
use crate::cpython::is_main_interpreter;
use crate::cpython::object::{Object, Result};
use crate::mapped::Mapped;
use crate::report::memory;
use crate::runtime;

pub fn is_linked([name, path]: [Object; 2]) -> Result<Object> {
    let path = Path::new(path.to_str()?);
    Ok(Object::bool(extensions::is_built_from_linked(
        name.to_str()?,
        path,
    )))
}

pub fn status([]: [Object; 0]) -> Result<Object> {
    let layers = runtime::current()
        .into_iter()
        .flat_map(|runtime| runtime.layers.iter());
    Object::list(
        layers
            .map(|layer| archive_status(&layer.archive))
            .collect::<Result<Vec<_>>>()?,
    )
}

pub fn module_names([]: [Object; 0]) -> Result<Object> {
    let layers = runtime::current()
        .into_iter()
        .flat_map(|runtime| runtime.layers.iter());
    let names = layers.flat_map(|layer| layer.archive.tables.modules());
    let names = names.map(|module| Object::str(module.name));
    Object::list(names.collect::<Result<Vec<_>>>()?)
}

/// `(name, source file, code)` of each module that has a source file.
pub fn archived_modules([]: [Object; 0]) -> Result<Object> {
    let runtime = runtime::current().filter(|_| is_main_interpreter());
    let layers = runtime
        .into_iter()
        .flat_map(|runtime| runtime.layers.chosen());
    let mut found = Vec::new();
    for archive in layers.map(|layer| &layer.archive) {
        let modules = archive.tables.modules();
        let modules = modules.filter(|module| module.code.is_some());
        for module in modules.filter(|module| module.origin.starts_with('/')) {
            if let Ok(code) = catalog::code(archive, &module)? {
                let (name, file) = (Object::str(module.name)?, Object::str(module.origin)?);
                found.push(Object::tuple(vec![name, file, code])?);
            }
        }
    }
    Object::list(found)
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
