//! What the archive answers to the import system.

use std::fs;
use std::path::Path;

use archive_format::{Entry, Freshness, FrozenSet, Module, content_hash};
use rustix::fs::Stat;

use crate::cpython::archived;
use crate::cpython::config::Config;
use crate::cpython::object::{Object, Result};
use crate::fault;
use crate::layers::{Layer, Layers};
use crate::mapped::Mapped;

/// What a directory holds under a name.
#[derive(Debug, PartialEq, Eq)]
pub enum Found<'a> {
    /// The archive cannot tell; `importlib` finds out in its own way.
    Unknown,
    /// Nothing that could be imported.
    Nothing,
    /// A module or package.
    File {
        path: String,
        /// End of the file name, which decides about the loader.
        suffix: &'a str,
        /// The package's directory.
        package: Option<String>,
    },
}

/// Why code does not come from the archive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Miss {
    NotInArchive,
    SourceChanged,
    SourceGone,
    Damaged,
    CannotBe,
}

impl Miss {
    /// Whether a new archive would have it.
    pub fn is_needless(self) -> bool {
        matches!(
            self,
            Self::NotInArchive | Self::SourceChanged | Self::Damaged
        )
    }

    pub fn reason(self) -> &'static str {
        match self {
            Self::NotInArchive => "not in the archive",
            Self::SourceChanged => "source changed",
            Self::SourceGone => "source gone",
            Self::Damaged => "archive damaged",
            Self::CannotBe => "cannot be archived",
        }
    }
}

/// What an unchanged directory holds under a name, according to the first layer that knows it.
pub fn find<'a>(layers: &'a Layers, config: &Config, directory: &str, name: &str) -> Found<'a> {
    layers
        .iter()
        .map(|layer| find_in(layer, config, directory, name))
        .find(|found| *found != Found::Unknown)
        .unwrap_or(Found::Unknown)
}

/// That the directory has not changed is what makes both "here" and "not here" true. A package's own directory
/// must be unchanged too, since an extension module may have been put before its `__init__.py`.
fn find_in<'a>(layer: &'a Layer, config: &Config, directory: &str, name: &str) -> Found<'a> {
    let tables = &layer.archive.tables;
    let is_unchanged =
        |path: &str, mtime_ns| stat(path).is_some_and(|stat| is_from(&stat, mtime_ns));
    let is_unchecked = layer.archive.header.freshness == Freshness::Unchecked;
    let is_valid = |path: &str, mtime_ns| is_unchecked || is_unchanged(path, mtime_ns);
    let record = tables.directory(directory).or_else(|| {
        let mut names = layer.roots(config).former_names(directory);
        names.find_map(|name| tables.directory(&name))
    });
    let Some(record) = record.filter(|d| is_valid(directory, d.mtime_ns)) else {
        return Found::Unknown;
    };
    // As `_path_join` in Lib/importlib/_bootstrap_external.py spells it.
    let join = |file: &str| format!("{}/{file}", directory.trim_end_matches('/'));
    let found = match tables.entry(record, name) {
        // What is new must be found even where what is old is believed to be as it was.
        None if is_unchecked && !is_unchanged(directory, record.mtime_ns) => return Found::Unknown,
        None => return Found::Nothing,
        Some(Entry::Unknown) => None,
        Some(Entry::Module { file }) => file.strip_prefix(name).map(|suffix| (file, suffix, None)),
        Some(Entry::Package { file, directory }) => {
            let package = join(name);
            let suffix = file
                .strip_prefix(name)
                .and_then(|file| file.strip_prefix("/__init__"));
            let suffix = suffix.filter(|_| is_valid(&package, directory.mtime_ns));
            suffix.map(|suffix| (file, suffix, Some(package)))
        }
    };
    found.map_or(Found::Unknown, |(file, suffix, package)| Found::File {
        path: join(file),
        suffix,
        package,
    })
}

/// Code from the archive, or why there is none.
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

/// Whether a file is the extension module that was linked into the interpreter, as the dump found.
pub fn is_linked_extension(layers: &Layers, config: &Config, path: &str) -> bool {
    unchanged_file(layers, config, path).is_ok_and(|(_, module)| module.code.is_none())
}

/// The first layer that has the module of a file, if the file has not changed since the dump.
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
    if archive.header.freshness == Freshness::Unchecked {
        return Ok((archive, module));
    }
    let stat = stat(path).ok_or(Miss::SourceGone)?;
    let same_size = u64::try_from(stat.st_size) == Ok(module.size);
    fault::point("file_examined");
    let is_fresh = same_size
        && match archive.header.freshness {
            Freshness::Hash => has_hash(path, module.content_hash),
            _ => is_from(&stat, module.mtime_ns),
        };
    if is_fresh {
        Ok((archive, module))
    } else {
        Err(Miss::SourceChanged)
    }
}

fn has_hash(path: &str, hash: u64) -> bool {
    fs::read(path).is_ok_and(|contents| content_hash(&contents) == hash)
}

/// The code of a frozen module. That it is the same follows from the build of the interpreter, which is one of
/// the archive's facts.
pub fn frozen_code(layers: &Layers, name: &str) -> Result<Answer> {
    let origin = format!("<frozen {name}>");
    for layer in layers.iter() {
        if let Some(module) = layer.archive.tables.module(&origin) {
            return code(&layer.archive, &module);
        }
    }
    Ok(Err(Miss::NotInArchive))
}

fn code(archive: &Mapped, module: &Module<'static>) -> Result<Answer> {
    for set in archive.tables.frozensets(module) {
        if !fill_frozenset(archive, set)? {
            return Ok(Err(Miss::Damaged));
        }
    }
    fault::point("frozensets_filled");
    let Some((code, _)) = module.code.and_then(|code| archive.object(code)) else {
        return Ok(Err(Miss::Damaged));
    };
    // SAFETY: inside a section of objects, which begin with a header.
    unsafe {
        if archived::is_code(code.cast().as_ptr()) {
            Ok(Ok(Object::from_borrowed(code.cast().as_ptr())))
        } else {
            Ok(Err(Miss::Damaged))
        }
    }
}

/// Gives a frozenset its hash table. Returns false if the archive is damaged.
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
    // SAFETY: the places are in writable sections, the caller holds the GIL and has not handed out what refers to the
    // set yet. That the first two are a frozenset and a tuple is what the writer wrote; the checksums, not this
    // function, tell whether it still stands there.
    unsafe {
        archived::fill_frozenset(
            object.cast().as_ptr(),
            elements.cast().as_ptr(),
            table.as_ptr(),
            slots,
        )
    }
}

fn stat(path: &str) -> Option<Stat> {
    rustix::fs::stat(Path::new(path)).ok()
}

/// Whether a file or directory has a modification time. A copy that keeps whole seconds only, as one that went through
/// the layers of a container image, is as good as for a `.pyc` file, which records no more.
fn is_from(stat: &Stat, mtime_ns: i64) -> bool {
    let Some(found) = modified_ns(stat) else {
        return false;
    };
    found == mtime_ns || found == mtime_ns - mtime_ns.rem_euclid(SECOND_NS)
}

const SECOND_NS: i64 = 1_000_000_000;

/// When a file was modified, in nanoseconds since the epoch.
pub fn modified_ns(stat: &Stat) -> Option<i64> {
    stat.st_mtime
        .checked_mul(SECOND_NS)?
        .checked_add(i64::try_from(stat.st_mtime_nsec).ok()?)
}
