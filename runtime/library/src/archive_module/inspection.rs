//! `inspect()` and `verify()`: inspect a file.

use std::collections::BTreeMap;
use std::path::Path;

use archive_format::{COMMAND, Tables, content_hash};

use super::object_walk::value_object;
use super::opened::{damaged, disabled, here, open, raised};
use crate::cpython::object::{Exception, Object, Raised, Result};
use crate::files::listing;
use crate::inspect::digest::Digests;
use crate::inspect::objects::{Objects, Place};
use crate::inspect::ownership::Ownership;
use crate::inspect::stored_archive::StoredArchive;
use crate::inspect::{self, Here};
use crate::reader::{self, Candidate};
use crate::{fingerprint, runtime};

/// The greatest number of shared constants that are reported.
const SHARED_TOLD: usize = 20;

type Items = Vec<(&'static str, Object)>;

pub fn inspect([path]: [Object; 1]) -> Result<Object> {
    let archive = open(Path::new(path.to_str()?))?;
    let here = here()?;
    let lower = inspect::lower_layer(&archive);
    let tables = archive
        .tables()
        .map_err(|error| damaged(&error.to_string()))?;
    let objects = inspect::objects(&archive, &here);
    let lower_objects = lower
        .as_ref()
        .and_then(|lower| inspect::objects(lower, &here));
    let decoded = objects.as_ref().map(|objects| Decoded {
        ownership: Ownership::find(objects, &tables),
        digests: Digests::new(objects, lower_objects.as_ref()),
        objects,
    });
    let mut items = about_file(&archive, lower.as_ref(), &here)?;
    items.extend(about_tables(&tables)?);
    items.extend(about_objects(decoded.as_ref())?);
    items.push(("modules", modules(&archive, &tables, decoded)?));
    Object::dict(items)
}

/// Maps a file as a start does, looks up everything in it, and unmaps it.
///
/// # Errors
/// `OSError` or `ValueError` with the reason why a start would not use the file.
pub fn dry_run([path]: [Object; 1]) -> Result<Object> {
    let path = Path::new(path.to_str()?);
    let here = here()?;
    let candidate = Candidate::open(path).map_err(raised)?;
    let layers = &runtime::current().ok_or_else(disabled)?.layers;
    let lower = layers.standard.as_ref().map(|layer| &layer.archive);
    let lower = lower.filter(|_| fingerprint::has_lower_layer(&candidate.header));
    let facts = fingerprint::facts(
        here.config,
        here.executable,
        lower.map(|lower| &lower.header),
    );
    let archive = candidate
        .map(&facts.unwrap_or_default(), here.executable, lower, false)
        .map_err(raised)?;
    // SAFETY: the archive was mapped only for this call.
    Object::int(unsafe { reader::dry_run(archive) } as i64)
}

pub fn command_of([path]: [Object; 1]) -> Result<Object> {
    let (_, header) = reader::open_untrusted(Path::new(path.to_str()?)).map_err(raised)?;
    let command = COMMAND.trim_end_matches('=');
    Object::str(header.fact(command).unwrap_or_default())
}

/// What is known only of an archive that this build of the interpreter has written.
struct Decoded<'a, 'b> {
    objects: &'b Objects<'a>,
    ownership: Ownership,
    digests: Digests<'a, 'b>,
}

fn about_file(
    archive: &StoredArchive,
    lower: Option<&StoredArchive>,
    here: &Here,
) -> Result<Items> {
    let header = &archive.header;
    let mismatches = inspect::mismatches(archive, lower, here);
    let mismatches = mismatches
        .iter()
        .map(|fact| Object::tuple(strings([&fact.key, &fact.archive, &fact.here])?));
    let facts = header.facts.lines().filter_map(|line| line.split_once('='));
    let facts: Vec<_> = facts
        .map(|(key, value)| Ok((key, Object::str(value)?)))
        .collect::<Result<_>>()?;
    let is_layer = fingerprint::has_lower_layer(header);
    Ok(vec![
        ("bytes", Object::int(archive.file_bytes as i64)?),
        ("format", Object::int(i64::from(archive_format::VERSION))?),
        ("identity", Object::str(&fingerprint::identity(header))?),
        ("address", Object::int(header.requested_base as i64)?),
        ("mapped_bytes", Object::int(header.mapped_bytes as i64)?),
        ("code_objects", Object::int(i64::from(header.code_count))?),
        ("is_layer", Object::bool(is_layer)),
        ("freshness", Object::str(header.freshness.name())?),
        ("facts", Object::dict(facts)?),
        ("mismatches", list(mismatches)?),
        ("sections", sections(archive)?),
    ])
}

fn about_tables(tables: &Tables) -> Result<Items> {
    let directories = tables.directories().map(|directory| {
        Object::tuple(vec![
            Object::str(directory.path)?,
            Object::int(directory.mtime_ns)?,
            Object::str(&format!("{:016x}", directory.listing))?,
        ])
    });
    Ok(vec![
        ("directories", list(directories)?),
        ("interned", length(tables.all_interned())?),
        ("patterns", length(tables.all_patterns())?),
    ])
}

fn about_objects(decoded: Option<&Decoded>) -> Result<Items> {
    let places = decoded.map_or(&[][..], |decoded| &decoded.objects.places);
    let (shared, shared_bytes) = match decoded {
        Some(decoded) => (
            shared(decoded.objects, &decoded.ownership)?,
            decoded.ownership.shared_bytes(decoded.objects),
        ),
        None => (Object::list([])?, 0),
    };
    Ok(vec![
        ("objects", object_counts(places)?),
        ("shared", shared),
        ("shared_bytes", Object::int(shared_bytes as i64)?),
    ])
}

fn modules(
    archive: &StoredArchive,
    tables: &Tables,
    mut decoded: Option<Decoded>,
) -> Result<Object> {
    list(tables.modules().enumerate().map(|(index, module)| {
        let own_bytes = decoded
            .as_ref()
            .map(|decoded| decoded.ownership.own_bytes[index] as i64);
        let digest = module
            .code
            .and_then(|code| decoded.as_mut()?.digests.digest(code));
        let digest = digest.map(|digest| Object::str(&format!("{digest:016x}")));
        let hash = format!("{:016x}", module.content_hash);
        Object::dict([
            ("name", Object::str(module.name)?),
            ("origin", Object::str(module.origin)?),
            ("mtime_ns", Object::int(module.mtime_ns)?),
            ("size", Object::int(module.size as i64)?),
            ("content_hash", Object::str(&hash)?),
            (
                "address",
                optional(module.code.map(|code| archive.address(code) as i64))?,
            ),
            ("own_bytes", optional(own_bytes)?),
            ("digest", digest.unwrap_or_else(|| Ok(Object::none()))?),
        ])
    }))
}

pub fn verify([path]: [Object; 1]) -> Result<Object> {
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
    // Only with the right lower layer and interpreter are the targets of its pointers known.
    if mismatches.is_empty()
        && let Some(objects) = inspect::objects(&archive, &here)
    {
        let lower_objects = lower
            .as_ref()
            .and_then(|lower| inspect::objects(lower, &here));
        faults.extend(inspect::verify::objects(
            &objects,
            lower_objects.as_ref(),
            here.executable,
        ));
    }
    Object::list(strings(faults.iter().map(String::as_str))?)
}

pub fn hash_file([path]: [Object; 1]) -> Result<Object> {
    let contents = std::fs::read(path.to_str()?)
        .map_err(|error| Raised::new(Exception::Os, &error.to_string()))?;
    Object::str(&format!("{:016x}", content_hash(&contents)))
}

pub fn hash_listing([path]: [Object; 1]) -> Result<Object> {
    let hash = listing::hash(path.to_str()?).unwrap_or_default();
    Object::str(&format!("{hash:016x}"))
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
fn object_counts(places: &[Place]) -> Result<Object> {
    let mut counts = BTreeMap::new();
    for place in places {
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

/// The constants that save the most bytes by being stored only once.
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
                Object::int(objects.archive.address(place.offset) as i64)?,
            ),
            ("type", Object::str(place.kind.name())?),
            ("bytes", Object::int(place.bytes as i64)?),
            ("modules", Object::int(i64::from(ownership.users[index]))?),
            ("value", value_object(value)?),
        ])
    }))
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

fn length<T>(items: impl Iterator<Item = T>) -> Result<Object> {
    Object::int(items.count() as i64)
}

fn optional(value: Option<i64>) -> Result<Object> {
    value.map_or_else(|| Ok(Object::none()), Object::int)
}
