//! Phase 1: walks the code objects and encodes the objects that they consist of.

use std::rc::Rc;

use archive_format::content_hash;
use rustc_hash::{FxHashMap, FxHashSet};

use super::{Interpreter, Module, Pattern, Touched};
use crate::cpython::archived;
use crate::cpython::encode::{self, Encoded, Reference};
use crate::cpython::object::{Kind, Object, Raised};
use crate::executable::Executable;
use crate::mapped::Mapped;
use crate::record::profile;

/// All objects of the archive. A [`Reference::Archive`] is an index into `nodes`.
pub struct Graph {
    pub nodes: Vec<Node>,
    /// The number of hot nodes, which come first: all objects of the modules that programs are known to load.
    pub hot_nodes: usize,
    pub modules: Vec<Root>,
    /// Extension modules that are linked into the interpreter, and source files that cannot be archived.
    pub without_code: Vec<Module>,
    /// Compiled patterns: the hash under which each is looked up, and the number of its tuple.
    pub patterns: Vec<(u64, u32)>,
    /// The tuple that contains the object, in an archive of one object.
    pub object: Option<u32>,
    /// Modules that cannot be archived: name and reason.
    pub skipped: Vec<(String, String)>,
}

/// An object of the archive.
pub struct Node {
    pub encoded: Rc<Encoded>,
    /// Whether this is a str that the archive's intern table must contain.
    pub interned: bool,
    /// Whether it is used only as a docstring, line table or similar, which a running program rarely reads.
    pub is_text: bool,
    pub heat: Heat,
}

/// How likely it is that a program that loads an object's module writes to the object.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Heat {
    /// Training runs wrote to it, except for `missing` of them.
    Trained { missing: usize },
    /// It belongs to the body of a module or class, which runs when the module is loaded.
    Body,
    /// It belongs to a function.
    Function,
}

/// A module, with the number of its code object.
pub struct Root {
    pub name: String,
    /// Path of the source file, or `<frozen NAME>`.
    pub origin: String,
    pub mtime_ns: i64,
    pub size: u64,
    pub content_hash: u64,
    /// Length of the marshalled code, as in a `.pyc` file, in bytes.
    pub marshalled_bytes: usize,
    /// Length of the objects that this module has added, in bytes.
    pub added_bytes: usize,
    pub code: u32,
    /// Numbers of the frozensets that the code can reach.
    pub frozensets: Vec<u32>,
}

/// The reason why an object cannot be in an archive.
enum Refusal {
    Type,
    Raised,
}

impl Refusal {
    fn reason(&self) -> &'static str {
        match self {
            Self::Type => "a constant of a type that cannot be archived",
            Self::Raised => "its code cannot be marshalled",
        }
    }
}

impl From<Raised> for Refusal {
    fn from(raised: Raised) -> Self {
        raised.clear();
        Self::Raised
    }
}

pub fn collect(
    modules: Vec<Module>,
    patterns: Vec<Pattern>,
    interpreter: &Interpreter,
    touched: &Touched,
) -> Graph {
    let mut collector = Collector::new(interpreter, touched);
    let mut places = Vec::new();
    for Pattern { hash, fields, .. } in patterns {
        if let Ok(reference @ Reference::Archive(number)) = collector.reference(&fields) {
            collector.mark_used(reference, Heat::Function);
            places.push((hash, number));
        }
    }
    let mut hot_nodes = collector.nodes.len();
    let mut roots = Vec::new();
    let mut without_code = Vec::new();
    let mut skipped = Vec::new();
    for module in modules {
        let Some(code) = &module.code else {
            without_code.push(module);
            continue;
        };
        let is_hot = module.is_hot;
        let before = collector.nodes.len();
        match collector.module(code) {
            Ok((code, marshalled_bytes)) => roots.push(Root {
                marshalled_bytes,
                added_bytes: collector.nodes[before..]
                    .iter()
                    .map(|node| node.encoded.bytes.len())
                    .sum(),
                origin: module.origin(),
                name: module.name,
                mtime_ns: module.mtime_ns,
                size: module.size,
                content_hash: module.content_hash,
                code,
                frozensets: collector.reachable_frozensets(code),
            }),
            Err(refusal) => skipped.push((module.name, refusal.reason().to_owned())),
        }
        if is_hot {
            hot_nodes = collector.nodes.len();
        }
    }
    Graph {
        hot_nodes,
        object: None,
        patterns: places,
        nodes: collector.nodes,
        modules: roots,
        without_code,
        skipped,
    }
}

/// The graph of one object, or an empty one.
pub fn collect_object(object: Option<&Object>, interpreter: &Interpreter) -> Result<Graph, String> {
    let untouched = Touched::default();
    let mut collector = Collector::new(interpreter, &untouched);
    let object = object.map(|object| collector.object(object));
    let object = object
        .transpose()
        .map_err(|refusal| refusal.reason().to_owned())?;
    Ok(Graph {
        hot_nodes: collector.nodes.len(),
        nodes: collector.nodes,
        object,
        modules: Vec::new(),
        without_code: Vec::new(),
        patterns: Vec::new(),
        skipped: Vec::new(),
    })
}

/// A copy of the object as the interpreter would create it: code that has never run, and the shared objects for single
/// bytes.
fn as_made(object: &Object) -> Result<Object, Raised> {
    let items = || {
        object
            .to_items()?
            .iter()
            .map(as_made)
            .collect::<Result<_, _>>()
    };
    match object.kind() {
        Some(Kind::Code) => Object::unmarshal(&object.marshal()?),
        Some(Kind::Tuple) => Object::tuple(items()?),
        Some(Kind::FrozenSet) => Object::frozenset(&Object::tuple(items()?)?),
        // SAFETY: the object is a bytes object.
        Some(Kind::Bytes) => Object::from_bytes(unsafe { object.bytes() }),
        _ => Ok(object.clone()),
    }
}

struct Collector<'a> {
    executable: &'a Executable,
    lower: Option<&'a Mapped>,
    /// What training runs wrote to.
    touched: &'a Touched,
    nodes: Vec<Node>,
    /// Hash-consing: objects with equal encodings are one object.
    known: FxHashMap<Rc<Encoded>, u32>,
    /// Live objects that have been encoded, by address.
    seen: FxHashMap<u64, Reference>,
    /// Keeps the objects of `seen` alive, so that their addresses are not reused.
    alive: Vec<Object>,
}

impl<'a> Collector<'a> {
    fn new(interpreter: &Interpreter<'a>, touched: &'a Touched) -> Self {
        Self {
            executable: interpreter.executable,
            lower: interpreter.lower,
            touched,
            nodes: Vec::new(),
            known: FxHashMap::default(),
            seen: FxHashMap::default(),
            alive: Vec::new(),
        }
    }

    /// Adds an object inside a tuple, and returns the number of the tuple.
    fn object(&mut self, object: &Object) -> Result<u32, Refusal> {
        let tuple = Object::tuple(vec![as_made(object)?])?;
        match self.reference(&tuple)? {
            reference @ Reference::Archive(number) => {
                self.mark_used(reference, Heat::Function);
                Ok(number)
            }
            _ => Err(Refusal::Type),
        }
    }

    /// The requested address of the lower layer's interned string with the same characters, if there is one. Only one
    /// layer may have it.
    fn interned_in_lower(&self, object: &Object) -> Option<u64> {
        let lower = self.lower?;
        // SAFETY: the object is an exact str, because it has a kind.
        let hash = content_hash(unsafe { archived::characters(object) });
        let mut candidates = lower.tables.interned(hash);
        let found = candidates.find_map(|offset| {
            let (candidate, room) = lower.object(offset)?;
            // SAFETY: `room` bytes from this address on are mapped, and the object is an exact str.
            unsafe { archived::same_string(candidate, room, object) }
        })?;
        lower.requested_address(found.address())
    }

    /// Adds a module's code. Returns its number, and its length when it is marshalled.
    fn module(&mut self, code: &Object) -> Result<(u32, usize), Refusal> {
        // Marshalling and unmarshalling produces code that has never run: it is neither specialized nor instrumented.
        let marshalled = code.marshal()?;
        let code = Object::unmarshal(&marshalled)?;
        match self.reference(&code)? {
            Reference::Archive(number) if code.kind() == Some(Kind::Code) => {
                Ok((number, marshalled.len()))
            }
            _ => Err(Refusal::Type),
        }
    }

    fn reference(&mut self, object: &Object) -> Result<Reference, Refusal> {
        let address = object.address();
        if self.executable.contains(address) {
            return Ok(Reference::Interpreter(address));
        }
        if let Some(&reference) = self.seen.get(&address) {
            return Ok(reference);
        }
        let in_lower = self.lower;
        if let Some(address) = in_lower.and_then(|lower| lower.requested_address(address)) {
            return Ok(Reference::Lower(address));
        }
        let is_string = object.kind() == Some(Kind::Str);
        let in_lower = is_string.then(|| self.interned_in_lower(object));
        let interned = is_string && encode::is_interned(object);
        let reference = match in_lower.flatten() {
            Some(address) => Reference::Lower(address),
            None => {
                let encoded = self.encode(object)?;
                let known = self.known.get(&encoded).copied();
                Reference::Archive(known.unwrap_or_else(|| self.add(encoded)))
            }
        };
        if let Reference::Archive(number) = reference {
            let heat = self.heat(object);
            let node = &mut self.nodes[number as usize];
            node.interned |= interned;
            node.heat = node.heat.min(heat);
        }
        self.seen.insert(address, reference);
        self.alive.push(object.clone());
        Ok(reference)
    }

    /// The heat of an object, without knowing what uses it.
    fn heat(&self, object: &Object) -> Heat {
        let key = match object.kind() {
            Some(Kind::Str) => profile::string_key(object),
            Some(Kind::Bytes) => profile::bytes_key(object),
            Some(Kind::Code) => profile::code_key(object),
            _ => return Heat::Function,
        };
        match self.touched.missing(key) {
            Some(missing) => Heat::Trained { missing },
            None if object.kind() == Some(Kind::Code) && !encode::is_function(object) => Heat::Body,
            None => Heat::Function,
        }
    }

    fn add(&mut self, encoded: Encoded) -> u32 {
        let number = self.nodes.len() as u32;
        let encoded = Rc::new(encoded);
        // Equal code objects are not merged: what a run writes into one must not appear in another.
        if encoded.kind != Kind::Code {
            self.known.insert(Rc::clone(&encoded), number);
        }
        self.nodes.push(Node {
            encoded,
            interned: false,
            is_text: true,
            heat: Heat::Function,
        });
        number
    }

    fn encode(&mut self, object: &Object) -> Result<Encoded, Refusal> {
        Ok(match object.kind().ok_or(Refusal::Type)? {
            Kind::Int => encode::int(object),
            Kind::Float => encode::float(object),
            Kind::Complex => encode::complex(object),
            Kind::Bytes => encode::bytes(object),
            Kind::Str => encode::string(object),
            Kind::Tuple => {
                let items = object.to_items()?;
                let items: Result<Vec<_>, _> =
                    items.iter().map(|item| self.reference(item)).collect();
                encode::tuple(&items?)
            }
            Kind::FrozenSet => self.frozenset(object)?,
            Kind::Code => self.code(object)?,
        })
    }

    fn code(&mut self, object: &Object) -> Result<Encoded, Refusal> {
        let docstring = encode::docstring_index(object)?;
        let heat = if encode::is_function(object) {
            Heat::Function
        } else {
            Heat::Body
        };
        let parts = encode::code_parts(object);
        let constants = parts.consts.to_items()?;
        let references = parts.try_map(|part| self.reference(&part))?;
        for (index, constant) in constants.iter().enumerate() {
            if docstring != Some(index) && constant.kind() != Some(Kind::Code) {
                let reference = self.reference(constant)?;
                self.mark_used(reference, heat);
            }
        }
        self.mark_used(references.names, heat);
        for used in [
            references.filename,
            references.name,
            references.qualname,
            references.localsplusnames,
        ] {
            self.mark_used(used, Heat::Function);
        }
        Ok(encode::code(object, &references))
    }

    /// Marks a constant and its contents as used for more than text.
    fn mark_used(&mut self, reference: Reference, heat: Heat) {
        let Reference::Archive(number) = reference else {
            return;
        };
        let node = &mut self.nodes[number as usize];
        node.is_text = false;
        node.heat = node.heat.min(heat);
        if matches!(node.encoded.kind, Kind::Tuple | Kind::FrozenSet) {
            let inner = node
                .encoded
                .pointers
                .iter()
                .map(|(_, to)| *to)
                .chain(node.encoded.elements);
            for reference in inner.collect::<Vec<_>>() {
                self.mark_used(reference, heat);
            }
        }
    }

    /// Elements are inserted in the order in which marshal writes them: sorted by their marshalled form
    /// (`w_complex_object` in Python/marshal.c). So the set iterates in the same order as an unmarshalled one.
    fn frozenset(&mut self, object: &Object) -> Result<Encoded, Refusal> {
        let mut keyed = Vec::new();
        for element in object.to_items()? {
            keyed.push((element.marshal()?, element));
        }
        keyed.sort_by(|a, b| a.0.cmp(&b.0));
        let sorted = Object::tuple(keyed.into_iter().map(|(_, element)| element).collect())?;
        let built = Object::frozenset(&sorted)?;
        match self.reference(&sorted)? {
            elements @ Reference::Archive(_) => Ok(encode::frozenset(&built, elements)),
            // This is the empty tuple, or a tuple of the lower layer. The table of frozensets can only refer to a tuple
            // of this archive, so the tuple is stored here, too.
            Reference::Lower(_) | Reference::Interpreter(_) => {
                let elements = self.encode(&sorted)?;
                let elements = Reference::Archive(self.add(elements));
                Ok(encode::frozenset(&built, elements))
            }
        }
    }

    fn reachable_frozensets(&self, root: u32) -> Vec<u32> {
        let mut found = Vec::new();
        let mut visited = FxHashSet::default();
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
                Reference::Interpreter(_) | Reference::Lower(_) => None,
            }));
        }
        // Filling a set that contains a frozenset hashes the inner one, so inner sets come first: they have lower
        // numbers.
        found.sort_unstable();
        found
    }
}
