//! Phase 1: walk the code objects and encode what they are made of.

use std::collections::HashMap;

use super::Module;
use crate::cpython::encode::{self, Encoded, Reference};
use crate::cpython::object::{Kind, Object, Raised};
use crate::fingerprint::Image;

/// All objects of the archive; a [`Reference::Archive`] is an index into `nodes`.
pub struct Graph {
    pub nodes: Vec<Node>,
    pub modules: Vec<Root>,
    /// Modules that cannot be archived: name and reason.
    pub skipped: Vec<(String, String)>,
}

/// An object of the archive.
pub struct Node {
    pub encoded: Encoded,
    /// A str that the archive's intern table must find.
    pub interned: bool,
    /// Used only as a docstring, line table or the like, which a running program hardly looks at.
    pub is_text: bool,
}

/// A module, with the number of its code object.
pub struct Root {
    pub name: String,
    /// Path of the source file, or `<frozen NAME>`.
    pub origin: String,
    pub mtime_ns: i64,
    pub size: u64,
    pub code: u32,
    /// Numbers of the frozensets that the code can reach.
    pub frozensets: Vec<u32>,
}

/// Why an object cannot be in an archive.
enum Refusal {
    Type,
    Raised,
}

impl From<Raised> for Refusal {
    fn from(raised: Raised) -> Self {
        raised.clear();
        Self::Raised
    }
}

pub fn collect(modules: Vec<Module>, image: &Image) -> Graph {
    let mut collector = Collector {
        image,
        nodes: Vec::new(),
        known: HashMap::new(),
        seen: HashMap::new(),
        alive: Vec::new(),
    };
    let mut roots = Vec::new();
    let mut skipped = Vec::new();
    for module in modules {
        match collector.module(&module.code) {
            Ok(code) => {
                let origin = module.source.clone();
                roots.push(Root {
                    origin: origin.unwrap_or_else(|| format!("<frozen {}>", module.name)),
                    name: module.name,
                    mtime_ns: module.mtime_ns,
                    size: module.size,
                    code,
                    frozensets: collector.reachable_frozensets(code),
                });
            }
            Err(Refusal::Type) => skipped.push((
                module.name,
                "a constant of a type that cannot be archived".into(),
            )),
            Err(Refusal::Raised) => {
                skipped.push((module.name, "its code cannot be marshalled".into()))
            }
        }
    }
    Graph {
        nodes: collector.nodes,
        modules: roots,
        skipped,
    }
}

struct Collector<'a> {
    image: &'a Image,
    nodes: Vec<Node>,
    /// Hash-consing: what is encoded alike is one object.
    known: HashMap<Encoded, u32>,
    /// Live objects that have been encoded, by address.
    seen: HashMap<usize, Reference>,
    /// Keeps those addresses taken.
    alive: Vec<Object>,
}

impl Collector<'_> {
    /// Adds a module's code and returns its number.
    fn module(&mut self, code: &Object) -> Result<u32, Refusal> {
        // Going through marshal gives code that has never run: not specialised, not instrumented.
        let code = Object::unmarshal(&code.marshal()?)?;
        match self.reference(&code)? {
            Reference::Archive(number) if code.kind() == Some(Kind::Code) => Ok(number),
            _ => Err(Refusal::Type),
        }
    }

    fn reference(&mut self, object: &Object) -> Result<Reference, Refusal> {
        let address = object.as_ptr() as usize;
        if self.image.contains(address as u64) {
            return Ok(Reference::Interpreter(address as u64));
        }
        if let Some(&reference) = self.seen.get(&address) {
            return Ok(reference);
        }
        let mut interned = false;
        let encoded = match object.kind().ok_or(Refusal::Type)? {
            Kind::Int => encode::int(object),
            Kind::Float => encode::float(object),
            Kind::Complex => encode::complex(object),
            Kind::Bytes => encode::bytes(object),
            Kind::Str => {
                interned = encode::is_interned(object);
                encode::string(object)
            }
            Kind::Tuple => {
                let items = object.to_items()?;
                let items: Result<Vec<_>, _> =
                    items.iter().map(|item| self.reference(item)).collect();
                encode::tuple(&items?)
            }
            Kind::FrozenSet => self.frozenset(object)?,
            Kind::Code => self.code(object)?,
        };
        let number = match self.known.get(&encoded) {
            Some(&number) => number,
            None => {
                let number = self.nodes.len() as u32;
                // Code objects are told apart: what a run writes into one must not show in another.
                if encoded.kind != Kind::Code {
                    self.known.insert(encoded.clone(), number);
                }
                self.nodes.push(Node {
                    encoded,
                    interned: false,
                    is_text: true,
                });
                number
            }
        };
        self.nodes[number as usize].interned |= interned;
        let reference = Reference::Archive(number);
        self.seen.insert(address, reference);
        self.alive.push(object.clone());
        Ok(reference)
    }

    fn code(&mut self, object: &Object) -> Result<Encoded, Refusal> {
        let docstring = encode::docstring_index(object)?;
        let parts = encode::code_parts(object);
        let constants = parts.consts.to_items()?;
        let references = parts.try_map(|part| self.reference(&part))?;
        for (index, constant) in constants.iter().enumerate() {
            if docstring != Some(index) {
                let reference = self.reference(constant)?;
                self.mark_used(reference);
            }
        }
        let names = [references.names, references.localsplusnames];
        for used in [references.filename, references.name, references.qualname]
            .into_iter()
            .chain(names)
        {
            self.mark_used(used);
        }
        Ok(encode::code(object, &references))
    }

    /// Marks a constant, and what it contains, as more than text.
    fn mark_used(&mut self, reference: Reference) {
        let Reference::Archive(number) = reference else {
            return;
        };
        let node = &mut self.nodes[number as usize];
        node.is_text = false;
        if matches!(node.encoded.kind, Kind::Tuple | Kind::FrozenSet) {
            let inner = node
                .encoded
                .pointers
                .iter()
                .map(|(_, to)| *to)
                .chain(node.encoded.elements);
            for reference in inner.collect::<Vec<_>>() {
                self.mark_used(reference);
            }
        }
    }

    /// Elements are inserted in the order in which marshal writes them: sorted by their marshalled form
    /// (`w_complex_object` in Python/marshal.c), so that the set iterates as it does when unmarshalled.
    fn frozenset(&mut self, object: &Object) -> Result<Encoded, Refusal> {
        let mut keyed = Vec::new();
        for element in object.to_items()? {
            keyed.push((element.marshal()?, element));
        }
        keyed.sort_by(|a, b| a.0.cmp(&b.0));
        let elements = Object::tuple(keyed.into_iter().map(|(_, element)| element).collect())?;
        let built = Object::frozenset(&elements)?;
        match self.reference(&elements)? {
            elements @ Reference::Archive(_) => Ok(encode::frozenset(&built, elements)),
            // The empty tuple. No constant is an empty frozenset (Python/flowgraph.c folds none).
            Reference::Interpreter(_) => Err(Refusal::Type),
        }
    }

    fn reachable_frozensets(&self, root: u32) -> Vec<u32> {
        let mut found = Vec::new();
        let mut visited = std::collections::HashSet::new();
        let mut pending = vec![root];
        while let Some(number) = pending.pop() {
            if !visited.insert(number) {
                continue;
            }
            let encoded = &self.nodes[number as usize].encoded;
            if encoded.kind == Kind::FrozenSet {
                found.push(number);
            }
            let references = encoded
                .pointers
                .iter()
                .map(|(_, to)| *to)
                .chain(encoded.elements);
            pending.extend(references.filter_map(|to| match to {
                Reference::Archive(number) => Some(number),
                Reference::Interpreter(_) => None,
            }));
        }
        // A set that contains a frozenset hashes it, so inner sets come first: they have lower numbers.
        found.sort_unstable();
        found
    }
}
