//! Phase 2: each object gets a section and a memory offset.
//!
//! Objects are grouped by who writes to them. In a section, the objects of modules that programs are known to load come
//! first: they are the hot part. In each part, the objects that a training run wrote to come first, then those that
//! loading a module writes to: few pages contain such objects, and the others stay clean. The remaining order is the
//! one in which the objects were found, so that the objects of a module are close together.

use std::ops::Range;

use archive_format::{Layout, Length, OBJECT_ALIGNMENT, PAGE, SectionKind};

use super::collect::{Graph, Heat, Node};
use crate::cpython::encode;
use crate::cpython::object::Kind;

/// The section and offset of every object.
pub struct Plan {
    pub layout: Layout,
    /// For each object: its section and its offset in it. The GC header lies before this offset.
    pub places: Vec<(SectionKind, u64)>,
    /// Length of each section of objects, in the order of the layout.
    pub lengths: Vec<Length>,
}

impl Plan {
    /// Memory offset of an object.
    pub fn memory_offset(&self, number: u32) -> u64 {
        let (section, offset) = self.places[number as usize];
        self.layout.memory_offset(section) + offset
    }
}

pub fn plan(graph: &Graph) -> Plan {
    let object_sections = SectionKind::ALL
        .into_iter()
        .filter(|kind| kind.has_objects());
    let mut lengths: Vec<Length> = object_sections
        .map(|kind| Length {
            kind,
            bytes: 0,
            hot_bytes: 0,
        })
        .collect();
    let mut places = vec![(SectionKind::Constants, 0); graph.nodes.len()];
    let mut place = |numbers: Range<usize>, lengths: &mut [Length]| {
        let mut order = Vec::from_iter(numbers);
        order.sort_by_key(|&number| graph.nodes[number].heat);
        for number in order {
            let node = &graph.nodes[number];
            let kind = section(node);
            let length = &mut lengths[kind as usize].bytes;
            let object = (*length + node.encoded.head as u64).next_multiple_of(OBJECT_ALIGNMENT);
            *length = object + (node.encoded.bytes.len() - node.encoded.head) as u64;
            places[number] = (kind, object);
        }
    };
    place(0..graph.hot_nodes, &mut lengths);
    for length in &mut lengths {
        length.bytes = length.bytes.next_multiple_of(PAGE);
        length.hot_bytes = length.bytes;
    }
    place(graph.hot_nodes..graph.nodes.len(), &mut lengths);
    Plan {
        layout: Layout::new(&lengths),
        places,
        lengths,
    }
}

fn section(node: &Node) -> SectionKind {
    let is_trained = matches!(node.heat, Heat::Trained { .. });
    let is_text = node.is_text && !node.interned && !is_trained;
    match node.encoded.kind {
        Kind::Int | Kind::Float | Kind::Complex | Kind::Tuple => SectionKind::Constants,
        Kind::Str | Kind::Bytes if is_text && !encode::has_utf8_cache(&node.encoded) => {
            SectionKind::Text
        }
        Kind::Str | Kind::Bytes | Kind::FrozenSet => SectionKind::Lazy,
        Kind::Code => SectionKind::Code,
    }
}
