//! Phase 3: the bytes of the file are produced.

use std::collections::{BTreeMap, HashMap};

use archive_format::{
    Archive, BitmapBuilder, Freshness, FrozenSet, NewModule, SectionKind, TablesBuilder,
    content_hash,
};

use super::collect::{Graph, Root};
use super::layout::Plan;
use super::{Directory, Interpreter};
use crate::cpython::anchor;
use crate::cpython::encode::{self, Encoded, Reference};
use crate::cpython::object::Kind;

/// A summary of what was written.
pub struct Summary {
    pub modules: usize,
    /// Number of modules that are left out because the lower layer contains them.
    pub shared: usize,
    /// Number of compiled regular expressions.
    pub patterns: usize,
    /// Number of extension modules that are linked into the interpreter.
    pub extensions: usize,
    pub directories: usize,
    pub bytes: usize,
    /// Number of objects by type.
    pub objects: BTreeMap<&'static str, usize>,
    /// Bytes by section, without padding.
    pub sections: BTreeMap<&'static str, usize>,
    /// Modules that could not be archived: name and reason.
    pub skipped: Vec<(String, String)>,
    pub sizes: Vec<Sizes>,
}

/// Sizes of a module in bytes, as a `.pyc` file and in the archive.
pub struct Sizes {
    pub name: String,
    pub pyc: usize,
    /// The bytes that the module added to the archive. Objects that an earlier module already has do not count.
    pub archive: usize,
}

/// Length of the header of a `.pyc` file (PEP 552).
const PYC_HEADER_BYTES: usize = 16;

pub fn emit(
    graph: &Graph,
    plan: &Plan,
    directories: &[Directory],
    freshness: Freshness,
    interpreter: &Interpreter,
) -> (Vec<u8>, Summary) {
    let base = interpreter.base;
    let versions_below = interpreter.lower.map_or(0, |lower| lower.header.code_count);
    let (objects, relocations, code_count) = objects(graph, plan, base, versions_below);
    let tables = tables(graph, plan, directories, interpreter.roots);

    let mut by_type = BTreeMap::new();
    for node in &graph.nodes {
        *by_type.entry(node.encoded.kind.name()).or_default() += 1;
    }
    let mut sections: BTreeMap<_, _> = plan
        .lengths
        .iter()
        .map(|length| (length.kind.name(), length.bytes as usize))
        .collect();
    sections.insert(SectionKind::Tables.name(), tables.len());
    sections.insert(SectionKind::Relocations.name(), relocations.len());

    let archive = Archive {
        requested_base: base,
        anchor: anchor(),
        code_count,
        freshness,
        facts: interpreter.facts,
        layout: plan.layout.clone(),
        objects,
        tables,
        relocations,
    };
    let file = archive.encode();
    let summary = Summary {
        modules: graph.modules.len(),
        shared: 0,
        patterns: graph.patterns.len(),
        extensions: graph.without_code.len(),
        directories: directories.len(),
        bytes: file.len(),
        objects: by_type,
        sections,
        skipped: graph.skipped.clone(),
        sizes: graph.modules.iter().map(sizes).collect(),
    };
    (file, summary)
}

fn sizes(module: &Root) -> Sizes {
    Sizes {
        name: module.name.clone(),
        pyc: PYC_HEADER_BYTES + module.marshalled_bytes,
        archive: module.added_bytes,
    }
}

/// The sections of objects, the relocation bitmap, and the number of code objects.
fn objects(
    graph: &Graph,
    plan: &Plan,
    base: u64,
    versions_below: u32,
) -> (Vec<Vec<u8>>, Vec<u8>, u32) {
    let mut sections: Vec<Vec<u8>> = plan
        .lengths
        .iter()
        .map(|length| vec![0; length.bytes as usize])
        .collect();
    let mut relocations = BitmapBuilder::new(plan.layout.mapped_bytes());
    let mut code_count = 0;
    for (number, node) in graph.nodes.iter().enumerate() {
        let mut encoded = Encoded::clone(&node.encoded);
        if node.interned {
            encode::mark_interned(&mut encoded);
        }
        if encoded.kind == Kind::Code {
            code_count += 1;
            // When such an archive is loaded, the interpreter has already assigned versions. With 0, it assigns one to
            // this code, too.
            let version = match graph.object {
                Some(_) => 0,
                None => versions_below + code_count,
            };
            encode::set_code_version(&mut encoded, version);
        }
        let (section, offset) = plan.places[number];
        let start = offset - encoded.head as u64;
        for (place, to) in &encoded.pointers {
            let address = match to {
                Reference::Interpreter(address) | Reference::Lower(address) => *address,
                Reference::Archive(number) => base + plan.memory_offset(*number),
            };
            encoded.bytes[*place..place + 8].copy_from_slice(&address.to_ne_bytes());
            relocations.mark(plan.layout.memory_offset(section) + start + *place as u64);
        }
        let start = start as usize;
        sections[section as usize][start..start + encoded.bytes.len()]
            .copy_from_slice(&encoded.bytes);
    }
    (sections, relocations.finish(), code_count)
}

fn tables(graph: &Graph, plan: &Plan, directories: &[Directory], roots: &[String]) -> Vec<u8> {
    let mut tables = TablesBuilder::new();
    for root in roots {
        tables.root(root);
    }
    let mut frozensets = HashMap::new();
    for (number, node) in graph.nodes.iter().enumerate() {
        let number = number as u32;
        if node.interned {
            tables.interned(
                content_hash(encode::characters(&node.encoded)),
                plan.memory_offset(number),
            );
        }
        if let Some(Reference::Archive(elements)) = node.encoded.elements {
            let object = plan.memory_offset(number);
            let (room, slots) = encode::frozenset_room(&node.encoded);
            let set = FrozenSet {
                object,
                elements: plan.memory_offset(elements),
                // The table of such a set lies inside the object.
                table: if slots == 0 {
                    object
                } else {
                    object + room as u64
                },
                slots: slots as u64,
            };
            frozensets.insert(number, tables.frozenset(set));
        }
    }
    for module in &graph.modules {
        let sets: Vec<u32> = module
            .frozensets
            .iter()
            .filter_map(|number| frozensets.get(number))
            .copied()
            .collect();
        let new = NewModule {
            name: &module.name,
            origin: &module.origin,
            mtime_ns: module.mtime_ns,
            size: module.size,
            content_hash: module.content_hash,
            code: Some(plan.memory_offset(module.code)),
        };
        tables.module(new, &sets);
    }
    if let Some(number) = graph.object {
        tables.object(plan.memory_offset(number));
    }
    for &(hash, number) in &graph.patterns {
        tables.pattern(hash, plan.memory_offset(number));
    }
    for module in &graph.without_code {
        let new = NewModule {
            name: &module.name,
            origin: &module.origin(),
            mtime_ns: module.mtime_ns,
            size: module.size,
            content_hash: module.content_hash,
            code: None,
        };
        tables.module(new, &[]);
    }
    for directory in directories {
        tables.directory(&directory.path, directory.mtime_ns, directory.listing);
    }
    for directory in directories {
        let entries: Vec<(&str, Option<&str>)> = directory
            .entries
            .iter()
            .map(|(name, file)| (name.as_str(), file.as_deref()))
            .collect();
        tables.entries(&directory.path, &entries);
    }
    tables.finish()
}
