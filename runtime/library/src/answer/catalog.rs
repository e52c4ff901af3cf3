//! The answers of the archives to the import system.

use archive_format::{Directory, Entry, Freshness, FrozenSet, Module};

use super::miss::Miss;
use super::unchanged;
use crate::cpython::archived;
use crate::cpython::config::Config;
use crate::cpython::object::{Object, Result};
use crate::fault;
use crate::files::listing;
use crate::layers::{Layer, Layers};
use crate::mapped::Mapped;

/// What a directory contains under a name.
#[derive(Debug, PartialEq, Eq)]
pub enum Found<'a> {
    /// The archive does not know, so `importlib` searches as usual.
    Unknown,
    /// There is nothing that could be imported.
    Nothing,
    /// A module or package.
    File {
        path: String,
        /// The end of the file name, which determines the loader.
        suffix: &'a str,
        /// The package's directory.
        package: Option<String>,
    },
}

/// What an unchanged directory contains under a name, according to the first layer that knows the directory.
pub fn find<'a>(layers: &'a Layers, config: &Config, directory: &str, name: &str) -> Found<'a> {
    layers
        .iter()
        .map(|layer| find_in(layer, config, directory, name))
        .find(|found| *found != Found::Unknown)
        .unwrap_or(Found::Unknown)
}

/// Both "here" and "not here" are only true if the directory has not changed. The directory of a package must be
/// unchanged, too: an extension module may have been added that takes precedence over its `__init__.py`.
fn find_in<'a>(layer: &'a Layer, config: &Config, directory: &str, name: &str) -> Found<'a> {
    let tables = &layer.archive.tables;
    let is_unchecked = layer.archive.header.freshness == Freshness::Unchecked;
    let is_valid =
        |path: &str, record: &Directory| is_unchecked || unchanged::directory(path, record);
    let record = tables.directory(directory).or_else(|| {
        let mut names = layer.roots(config).former_names(directory);
        names.find_map(|name| tables.directory(&name))
    });
    let Some(record) = record.filter(|record| is_valid(directory, record)) else {
        return Found::Unknown;
    };
    // Builds the same path as `_path_join` in Lib/importlib/_bootstrap_external.py.
    let join = |file: &str| format!("{}/{file}", directory.trim_end_matches('/'));
    let found = match tables.entry(record, name) {
        // New files must be found, even if archived files are used without a check.
        None if is_unchecked && !unchanged::directory(directory, &record) => return Found::Unknown,
        None if name == listing::CACHE => return Found::Unknown,
        None => return Found::Nothing,
        Some(Entry::Unknown) => None,
        Some(Entry::Module { file }) => file.strip_prefix(name).map(|suffix| (file, suffix, None)),
        Some(Entry::Package { file, directory }) => {
            let package = join(name);
            let suffix = file
                .strip_prefix(name)
                .and_then(|file| file.strip_prefix("/__init__"));
            let suffix = suffix.filter(|_| is_valid(&package, &directory));
            suffix.map(|suffix| (file, suffix, Some(package)))
        }
    };
    found.map_or(Found::Unknown, |(file, suffix, package)| Found::File {
        path: join(file),
        suffix,
        package,
    })
}

/// Code from an archive, or the reason why there is none.
pub type Answer = std::result::Result<Object, Miss>;

/// The code of a source file that has not changed since the dump.
pub fn source_code(layers: &Layers, config: &Config, path: &str) -> Result<Answer> {
    let (archive, module) = match unchanged_file(layers, config, path) {
        Ok(found) => found,
        Err(miss) => return Ok(Err(miss)),
    };
    if module.code.is_none() {
        return Ok(Err(Miss::CannotBe));
    }
    let answer = code(archive, &module)?;
    if let Ok(code) = &answer
        && module.origin != path
    {
        archived::set_file_name(code, &Object::str(path)?)?;
    }
    Ok(answer)
}

/// Whether a file is the extension module that is linked into the interpreter, according to the dump.
pub fn is_linked_extension(layers: &Layers, config: &Config, path: &str) -> bool {
    unchanged_file(layers, config, path).is_ok_and(|(_, module)| module.code.is_none())
}

/// The first layer that has the module of a file, provided that the file has not changed since the dump.
fn unchanged_file<'a>(
    layers: &'a Layers,
    config: &Config,
    path: &str,
) -> std::result::Result<(&'a Mapped, Module<'static>), Miss> {
    let find = |layer: &'a Layer| {
        let tables = &layer.archive.tables;
        let module = tables.module(path).or_else(|| {
            let mut names = layer.roots(config).former_names(path);
            names.find_map(|name| tables.module(&name))
        });
        module.map(|module| (&layer.archive, module))
    };
    let (archive, module) = layers.iter().find_map(find).ok_or(Miss::NotInArchive)?;
    unchanged::file(path, &module, archive.header.freshness)?;
    Ok((archive, module))
}

/// The code of a frozen module. It needs no check, since the build of the interpreter is one of the archive's facts.
pub fn frozen_code(layers: &Layers, name: &str) -> Result<Answer> {
    let origin = format!("<frozen {name}>");
    for layer in layers.iter() {
        if let Some(module) = layer.archive.tables.module(&origin) {
            return code(&layer.archive, &module);
        }
    }
    Ok(Err(Miss::NotInArchive))
}

/// The code of a module, whether or not its source has changed.
pub fn code(archive: &Mapped, module: &Module<'static>) -> Result<Answer> {
    for set in archive.tables.frozensets(module) {
        if !fill_frozenset(archive, set)? {
            return Ok(Err(Miss::Damaged));
        }
    }
    fault::point("frozensets_filled");
    let Some((code, _)) = module.code.and_then(|code| archive.object(code)) else {
        return Ok(Err(Miss::Damaged));
    };
    // SAFETY: the offset lies in a section of objects, and each object begins with a header.
    let code = unsafe { archived::code(code) };
    Ok(code.ok_or(Miss::Damaged))
}

/// Fills the hash table of a frozenset. Returns false if the archive is damaged.
pub fn fill_frozenset(archive: &Mapped, set: FrozenSet) -> Result<bool> {
    let places = (
        archive.object(set.object),
        archive.object(set.elements),
        archive.object(set.table),
    );
    let (Some((object, _)), Some((elements, _)), Some((table, room))) = places else {
        return Ok(false);
    };
    let slots = usize::try_from(set.slots).unwrap_or(usize::MAX);
    if slots
        .checked_mul(archived::FROZENSET_ENTRY_BYTES)
        .is_none_or(|bytes| bytes > room)
    {
        return Ok(false);
    }
    // SAFETY: the places are in writable sections. The caller holds the GIL, and no other code can reach the set yet.
    // The writer has written a frozenset and a tuple at the first two places; whether they are unchanged is checked
    // with checksums, not here.
    unsafe { archived::fill_frozenset(object, elements, table, slots) }
}
