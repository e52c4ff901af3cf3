//! The tables: the module catalog, the directory index, the intern table, the compiled patterns, the frozensets.
//!
//! Each look-up probes an open-addressing table directly in the mapped file, so the time to open an archive
//! does not depend on its size. Integers have the byte order of the machine; the facts in the header bind
//! a file to this order.

mod audit;

use std::cmp::Ordering;
use std::collections::HashMap;

use xxhash_rust::xxh3::xxh3_64;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::Rejection;

/// The hash of a key in the intern table and the catalogs. Unlike CPython's string hash, it does not
/// depend on the hash secret of the process.
pub fn content_hash(bytes: &[u8]) -> u64 {
    xxh3_64(bytes)
}

/// A run of records: offset in bytes from the start of the section, and number of records.
#[derive(Clone, Copy, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
struct Span {
    offset: u64,
    count: u64,
}

#[derive(Clone, Copy, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
struct Contents {
    text: Span,
    roots: Span,
    modules: Span,
    module_slots: Span,
    directories: Span,
    directory_slots: Span,
    entries: Span,
    intern_tags: Span,
    intern_slots: Span,
    pattern_slots: Span,
    frozensets: Span,
    frozenset_uses: Span,
    /// Memory offset of the object, in an archive of one object; [`NOTHING`] in other archives.
    object: u64,
}

/// UTF-8 text, as a byte range of the text table.
#[derive(Clone, Copy, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
struct Text {
    offset: u32,
    bytes: u32,
}

#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
struct ModuleRecord {
    origin: Text,
    name: Text,
    mtime_ns: i64,
    size: u64,
    content_hash: u64,
    code: u64,
    first_use: u32,
    uses: u32,
}

#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
struct DirectoryRecord {
    path: Text,
    mtime_ns: i64,
    listing: u64,
    first_entry: u32,
    entries: u32,
}

#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
struct EntryRecord {
    name: Text,
    /// Empty if only the file system can tell.
    file: Text,
    /// Index of the package's own directory, or [`NONE`].
    package: u32,
}

#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
struct Slot {
    /// High half of the hash. Most keys that do not match differ here.
    hash: u32,
    /// 0 if the slot is free. For an object, its memory offset divided by [`OBJECT_ALIGNMENT`]; for a record, its index
    /// plus 1.
    value: u32,
}

/// A frozenset whose hash table must be filled in before its first use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct FrozenSet {
    /// Memory offset of the set.
    pub object: u64,
    /// Memory offset of a tuple with the elements, in order of insertion.
    pub elements: u64,
    /// Memory offset of the space for its hash table.
    pub table: u64,
    /// Size of this space, in entries.
    pub slots: u64,
}

const NONE: u32 = u32::MAX;

impl Slot {
    /// Memory offset of the object.
    fn object(self) -> u64 {
        u64::from(self.value) * OBJECT_ALIGNMENT
    }
}

/// The alignment of all objects, in bytes. It is that of CPython's allocator.
pub const OBJECT_ALIGNMENT: u64 = 16;

/// A memory offset at which no object can lie: sections begin behind an unmapped page.
const NOTHING: u64 = 0;

/// A module of the catalog.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Module<'a> {
    /// Path of the source file or of the extension module, or `<frozen NAME>`.
    pub origin: &'a str,
    pub name: &'a str,
    /// Modification time of the file in nanoseconds since the epoch; 0 for a frozen module.
    pub mtime_ns: i64,
    /// Size of the file in bytes; 0 for a frozen module.
    pub size: u64,
    /// [`content_hash`] of the file; 0 for a frozen module, and if the hash is unknown.
    pub content_hash: u64,
    /// Memory offset of the code object; none for an extension module that is linked into the interpreter, and none for
    /// a source file that cannot be archived.
    pub code: Option<u64>,
    uses: (u32, u32),
}

/// A module that is added to the catalog. The fields are those of [`Module`].
#[derive(Debug, Clone, Copy)]
pub struct NewModule<'a> {
    pub name: &'a str,
    pub origin: &'a str,
    pub mtime_ns: i64,
    pub size: u64,
    pub content_hash: u64,
    pub code: Option<u64>,
}

/// A directory of the index.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Directory<'a> {
    pub path: &'a str,
    /// Modification time in nanoseconds since the epoch.
    pub mtime_ns: i64,
    /// A hash of the names that can be imported; 0 if unknown.
    pub listing: u64,
    first_entry: u32,
    entries: u32,
}

/// What a directory has under a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Entry<'a> {
    /// The name is importable from this file, relative to the directory.
    Module { file: &'a str },
    /// The name is a package, importable from this file as long as its own directory is unchanged.
    Package {
        file: &'a str,
        directory: Directory<'a>,
    },
    /// Only the file system can tell.
    Unknown,
}

/// Collects the contents of the tables.
#[derive(Default)]
pub struct TablesBuilder {
    text: Vec<u8>,
    roots: Vec<Text>,
    text_places: HashMap<String, Text>,
    modules: Vec<ModuleRecord>,
    module_keys: Vec<u64>,
    directories: Vec<DirectoryRecord>,
    directory_keys: Vec<u64>,
    directory_index: HashMap<String, u32>,
    entries: Vec<EntryRecord>,
    interned: Vec<(u64, u32)>,
    patterns: Vec<(u64, u32)>,
    frozensets: Vec<FrozenSet>,
    frozenset_uses: Vec<u32>,
    object: u64,
}

impl TablesBuilder {
    pub fn new() -> Self {
        Self::default()
    }

    fn text(&mut self, text: &str) -> Text {
        if let Some(&place) = self.text_places.get(text) {
            return place;
        }
        let place = Text {
            offset: self.text.len() as u32,
            bytes: text.len() as u32,
        };
        self.text.extend_from_slice(text.as_bytes());
        self.text_places.insert(text.to_owned(), place);
        place
    }

    /// Adds a directory, such as `sys.prefix`, that is a prefix of paths in the tables and may be at another path
    /// when the archive is used. The order of the calls says which directory it is.
    pub fn root(&mut self, path: &str) {
        let text = self.text(path);
        self.roots.push(text);
    }

    /// Adds a module. Without code it is an extension module that is linked into the interpreter, or a source file that
    /// cannot be archived. `frozensets` has the indices of all sets that its code can reach ([`Self::frozenset`]
    /// returns them).
    pub fn module(&mut self, module: NewModule, frozensets: &[u32]) {
        let first_use = self.frozenset_uses.len() as u32;
        self.frozenset_uses.extend_from_slice(frozensets);
        let (origin, name) = (self.text(module.origin), self.text(module.name));
        self.module_keys
            .push(content_hash(module.origin.as_bytes()));
        self.modules.push(ModuleRecord {
            origin,
            name,
            mtime_ns: module.mtime_ns,
            size: module.size,
            content_hash: module.content_hash,
            code: module.code.unwrap_or(NOTHING),
            first_use,
            uses: frozensets.len() as u32,
        });
    }

    /// Adds a directory. The arguments are fields of [`Directory`]. All directories must be added before the first call of
    /// [`Self::entries`].
    pub fn directory(&mut self, path: &str, mtime_ns: i64, listing: u64) {
        let index = self.directories.len() as u32;
        let text = self.text(path);
        self.directory_index.insert(path.to_owned(), index);
        self.directory_keys.push(content_hash(path.as_bytes()));
        self.directories.push(DirectoryRecord {
            path: text,
            mtime_ns,
            listing,
            first_entry: 0,
            entries: 0,
        });
    }

    /// Adds the entries of a directory: each importable name with the file that it is imported from, relative to
    /// the directory, or `None` if only the file system can tell. If the directory of a package is not in the
    /// index, only the file system can tell about the package, too.
    pub fn entries(&mut self, path: &str, entries: &[(&str, Option<&str>)]) {
        let Some(&directory) = self.directory_index.get(path) else {
            return;
        };
        let mut sorted = entries.to_vec();
        sorted.sort_unstable_by_key(|(name, _)| name.as_bytes().to_vec());
        let first_entry = self.entries.len() as u32;
        for (name, file) in &sorted {
            let package_path = file
                .and_then(|f| f.rsplit_once('/'))
                .map(|(d, _)| join(path, d));
            let package = package_path
                .as_ref()
                .and_then(|p| self.directory_index.get(p))
                .copied();
            let file = if package_path.is_some() && package.is_none() {
                None
            } else {
                *file
            };
            let record = EntryRecord {
                name: self.text(name),
                file: self.text(file.unwrap_or("")),
                package: package.unwrap_or(NONE),
            };
            self.entries.push(record);
        }
        let record = &mut self.directories[directory as usize];
        record.first_entry = first_entry;
        record.entries = sorted.len() as u32;
    }

    /// Adds an interned string: its [`content_hash`] and memory offset.
    pub fn interned(&mut self, hash: u64, object: u64) {
        self.interned
            .push((hash, (object / OBJECT_ALIGNMENT) as u32));
    }

    /// Adds a compiled pattern: the hash it is looked up by, and the memory offset of its tuple.
    pub fn pattern(&mut self, hash: u64, object: u64) {
        self.patterns
            .push((hash, (object / OBJECT_ALIGNMENT) as u32));
    }

    /// Sets the memory offset of the object of an archive of one object.
    pub fn object(&mut self, offset: u64) {
        self.object = offset;
    }

    /// Adds a frozenset and returns its index.
    pub fn frozenset(&mut self, set: FrozenSet) -> u32 {
        self.frozensets.push(set);
        (self.frozensets.len() - 1) as u32
    }

    /// The tables section.
    pub fn finish(self) -> Vec<u8> {
        let mut bytes = vec![0; size_of::<Contents>()];
        let intern_slots = slots(&self.interned);
        let contents = Contents {
            module_slots: append(&mut bytes, &slots(&numbered(&self.module_keys))),
            directory_slots: append(&mut bytes, &slots(&numbered(&self.directory_keys))),
            intern_tags: append(&mut bytes, &tags(&intern_slots)),
            intern_slots: append(&mut bytes, &intern_slots),
            pattern_slots: append(&mut bytes, &slots(&self.patterns)),
            modules: append(&mut bytes, &self.modules),
            directories: append(&mut bytes, &self.directories),
            entries: append(&mut bytes, &self.entries),
            frozensets: append(&mut bytes, &self.frozensets),
            frozenset_uses: append(&mut bytes, &self.frozenset_uses),
            roots: append(&mut bytes, &self.roots),
            text: append(&mut bytes, &self.text),
            object: self.object,
        };
        bytes[..size_of::<Contents>()].copy_from_slice(contents.as_bytes());
        bytes
    }
}

/// The path of an entry as `importlib` builds it (`_path_join` in Lib/importlib/_bootstrap_external.py).
fn join(directory: &str, file: &str) -> String {
    format!(
        "{}/{file}",
        directory.strip_suffix('/').unwrap_or(directory)
    )
}

fn append<T: IntoBytes + Immutable>(bytes: &mut Vec<u8>, records: &[T]) -> Span {
    bytes.resize(bytes.len().next_multiple_of(8), 0);
    let span = Span {
        offset: bytes.len() as u64,
        count: records.len() as u64,
    };
    bytes.extend_from_slice(records.as_bytes());
    span
}

/// A power of two of at least 4/3 of the number of keys, so that every probe ends at a free slot.
fn slot_count(keys: usize) -> usize {
    (keys + keys / 3 + 1).next_power_of_two()
}

/// Keys of records with the values that their slots get: index plus 1.
fn numbered(keys: &[u64]) -> Vec<(u64, u32)> {
    keys.iter().copied().zip(1..).collect()
}

fn slots(keyed: &[(u64, u32)]) -> Vec<Slot> {
    let mut slots = vec![Slot { hash: 0, value: 0 }; slot_count(keyed.len())];
    let mask = slots.len() - 1;
    for &(hash, value) in keyed {
        let mut slot = hash as usize & mask;
        while slots[slot].value != 0 {
            slot = (slot + 1) & mask;
        }
        slots[slot] = Slot {
            hash: half(hash),
            value,
        };
    }
    slots
}

/// The tables of an archive, for look-ups.
#[derive(Clone, Copy)]
pub struct Tables<'a> {
    text: &'a [u8],
    roots: &'a [Text],
    modules: &'a [ModuleRecord],
    module_slots: &'a [Slot],
    directories: &'a [DirectoryRecord],
    directory_slots: &'a [Slot],
    entries: &'a [EntryRecord],
    intern_tags: &'a [u8],
    intern_slots: &'a [Slot],
    pattern_slots: &'a [Slot],
    frozensets: &'a [FrozenSet],
    frozenset_uses: &'a [u32],
    object: u64,
}

impl<'a> Tables<'a> {
    /// Finds the tables in their section, which must be aligned to 8 bytes.
    ///
    /// # Errors
    /// If a table does not lie in the section, or a slot table is not a power of two long.
    pub fn parse(section: &'a [u8]) -> Result<Self, Rejection> {
        let (contents, _) = Contents::ref_from_prefix(section)
            .map_err(|_| Rejection::Tables("they are too short"))?;
        let slots = |span: Span| {
            if span.count.is_power_of_two() {
                Ok(span)
            } else {
                Err(Rejection::Tables("a hash table has an impossible size"))
            }
        };
        if contents.intern_tags.count != contents.intern_slots.count {
            return Err(Rejection::Tables("the numbers of tags and slots differ"));
        }
        Ok(Self {
            text: records(section, contents.text)?,
            roots: records(section, contents.roots)?,
            modules: records(section, contents.modules)?,
            module_slots: records(section, slots(contents.module_slots)?)?,
            directories: records(section, contents.directories)?,
            directory_slots: records(section, slots(contents.directory_slots)?)?,
            entries: records(section, contents.entries)?,
            intern_tags: records(section, contents.intern_tags)?,
            intern_slots: records(section, slots(contents.intern_slots)?)?,
            pattern_slots: records(section, slots(contents.pattern_slots)?)?,
            frozensets: records(section, contents.frozensets)?,
            frozenset_uses: records(section, contents.frozenset_uses)?,
            object: contents.object,
        })
    }

    /// The roots, in the order in which they were added.
    pub fn roots(&self) -> impl Iterator<Item = &'a str> + use<'a> {
        let tables = *self;
        self.roots
            .iter()
            .map(move |root| tables.text_at(*root).unwrap_or_default())
    }

    /// The module whose source file is `origin`, or the frozen module whose origin is `<frozen NAME>`.
    pub fn module(&self, origin: &str) -> Option<Module<'a>> {
        let found = |slot: Slot| {
            let record = self.modules.get((slot.value - 1) as usize)?;
            self.module_at(record)
                .filter(|module| module.origin == origin)
        };
        candidates(self.module_slots, content_hash(origin.as_bytes())).find_map(found)
    }

    /// All modules, in the order in which they were added.
    pub fn modules(&self) -> impl Iterator<Item = Module<'a>> + use<'a> {
        let tables = *self;
        self.modules
            .iter()
            .filter_map(move |record| tables.module_at(record))
    }

    /// The directory with this path.
    pub fn directory(&self, path: &str) -> Option<Directory<'a>> {
        let found = |slot: Slot| {
            self.directory_at(slot.value - 1)
                .filter(|directory| directory.path == path)
        };
        candidates(self.directory_slots, content_hash(path.as_bytes())).find_map(found)
    }

    /// All directories.
    pub fn directories(&self) -> impl Iterator<Item = Directory<'a>> + use<'a> {
        let tables = *self;
        (0..self.directories.len() as u32).filter_map(move |index| tables.directory_at(index))
    }

    /// What a directory has under a name; `None` if it has nothing.
    pub fn entry(&self, directory: Directory<'a>, name: &str) -> Option<Entry<'a>> {
        let first = directory.first_entry as usize;
        let last = first.checked_add(directory.entries as usize);
        let Some(entries) = last.and_then(|last| self.entries.get(first..last)) else {
            return Some(Entry::Unknown);
        };
        let order = |entry: &EntryRecord| match self.text_at(entry.name) {
            Some(text) => text.as_bytes().cmp(name.as_bytes()),
            None => Ordering::Less,
        };
        let entry = &entries[entries.binary_search_by(order).ok()?];
        Some(match self.text_at(entry.file) {
            None | Some("") => Entry::Unknown,
            Some(file) if entry.package == NONE => Entry::Module { file },
            Some(file) => match self.directory_at(entry.package) {
                Some(directory) => Entry::Package { file, directory },
                None => Entry::Unknown,
            },
        })
    }

    /// Memory offsets of the interned strings that may have this content hash.
    pub fn interned(&self, hash: u64) -> impl Iterator<Item = u64> + use<'a> {
        let (tags, slots) = (self.intern_tags, self.intern_slots);
        let mask = slots.len() - 1;
        (0..slots.len())
            .map(move |step| (hash as usize).wrapping_add(step) & mask)
            .take_while(|&index| tags[index] != 0)
            .filter(move |&index| tags[index] == tag(half(hash)))
            .map(|index| slots[index])
            .filter(move |slot| slot.hash == half(hash))
            .map(Slot::object)
    }

    /// Memory offsets of all interned strings.
    pub fn all_interned(&self) -> impl Iterator<Item = u64> + use<'a> {
        let taken = self.intern_slots.iter().filter(|slot| slot.value != 0);
        taken.copied().map(Slot::object)
    }

    /// Memory offsets of the tuples of all compiled patterns.
    pub fn all_patterns(&self) -> impl Iterator<Item = u64> + use<'a> {
        let taken = self.pattern_slots.iter().filter(|slot| slot.value != 0);
        taken.copied().map(Slot::object)
    }

    /// All frozensets. A set that is an element of another set comes before it.
    pub fn all_frozensets(&self) -> impl Iterator<Item = FrozenSet> + use<'a> {
        self.frozensets.iter().copied()
    }

    /// Memory offset of the object of an archive of one object.
    pub fn object(&self) -> Option<u64> {
        (self.object != NOTHING).then_some(self.object)
    }

    /// Memory offsets of the tuples of the compiled patterns that may have this hash.
    pub fn patterns(&self, hash: u64) -> impl Iterator<Item = u64> + use<'a> {
        candidates(self.pattern_slots, hash).map(Slot::object)
    }

    /// The frozensets that a module's code can reach.
    pub fn frozensets(&self, module: &Module<'a>) -> impl Iterator<Item = FrozenSet> + use<'a> {
        let (first, count) = (module.uses.0 as usize, module.uses.1 as usize);
        let uses = first
            .checked_add(count)
            .and_then(|last| self.frozenset_uses.get(first..last));
        let frozensets = self.frozensets;
        uses.unwrap_or(&[])
            .iter()
            .filter_map(|&index| frozensets.get(index as usize))
            .copied()
    }

    fn text_at(&self, text: Text) -> Option<&'a str> {
        let start = text.offset as usize;
        let bytes = self
            .text
            .get(start..start.checked_add(text.bytes as usize)?)?;
        std::str::from_utf8(bytes).ok()
    }

    fn module_at(&self, record: &ModuleRecord) -> Option<Module<'a>> {
        Some(Module {
            origin: self.text_at(record.origin)?,
            name: self.text_at(record.name)?,
            mtime_ns: record.mtime_ns,
            size: record.size,
            content_hash: record.content_hash,
            code: (record.code != NOTHING).then_some(record.code),
            uses: (record.first_use, record.uses),
        })
    }

    fn directory_at(&self, index: u32) -> Option<Directory<'a>> {
        let record = self.directories.get(index as usize)?;
        Some(Directory {
            path: self.text_at(record.path)?,
            mtime_ns: record.mtime_ns,
            listing: record.listing,
            first_entry: record.first_entry,
            entries: record.entries,
        })
    }
}

fn records<T: FromBytes + Immutable + KnownLayout>(
    section: &[u8],
    span: Span,
) -> Result<&[T], Rejection> {
    let outside = Rejection::Tables("a table lies outside its section");
    let start = usize::try_from(span.offset).ok();
    let count = usize::try_from(span.count).ok();
    let (Some(bytes), Some(count)) = (start.and_then(|s| section.get(s..)), count) else {
        return Err(outside);
    };
    <[T]>::ref_from_prefix_with_elems(bytes, count)
        .map(|(records, _)| records)
        .map_err(|_| outside)
}

/// The half of a hash that slots contain. The other half is the index of the first slot to look at.
fn half(hash: u64) -> u32 {
    (hash >> 32) as u32
}

/// The tag of a slot: one byte that rules out most slots that do not match. Most strings that a program interns are not
/// in the archive, and a table of bytes lets a look-up find that out on few pages. 0 is the tag of free slots.
fn tag(half: u32) -> u8 {
    ((half >> 24) as u8).max(1)
}

fn tags(slots: &[Slot]) -> Vec<u8> {
    let tag = |slot: &Slot| if slot.value == 0 { 0 } else { tag(slot.hash) };
    slots.iter().map(tag).collect()
}

/// The slots that may belong to a hash.
fn candidates(slots: &[Slot], hash: u64) -> impl Iterator<Item = Slot> {
    let mask = slots.len() - 1;
    (0..slots.len())
        .map(move |step| slots[(hash as usize).wrapping_add(step) & mask])
        .take_while(|slot| slot.value != 0)
        .filter(move |slot| slot.hash == half(hash))
}
