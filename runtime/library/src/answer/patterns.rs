//! Compiled regular expressions.
//!
//! `re` compiles patterns with Python code. The result, which are the arguments of `_sre.compile()`, depends only on
//! the pattern, the flags and the modules of `re`. An archive contains it for the patterns that a traced run has
//! compiled. `_sre.compile()` creates the pattern object from it and checks its arguments.

use std::sync::atomic::{AtomicBool, Ordering};

use archive_format::content_hash;

use crate::cpython::archived;
use crate::cpython::object::{Kind, Object, Result};
use crate::fault;
use crate::layers::Layers;
use crate::mapped::Mapped;

/// `(pattern, flags, …)`: the key, and the arguments of `_sre.compile()` after the pattern: flags, code, number of
/// groups, items of the group index, index of groups.
pub const FIELDS: usize = 7;

/// Whether the archived patterns are what `re` would compile.
#[derive(Default)]
pub struct Compiler {
    is_other: AtomicBool,
}

impl Compiler {
    /// Checks the code that a module gets; None if the code is not from an archive. The archived patterns were compiled
    /// by the modules of `re` in the lowest layer.
    pub fn loaded(&self, name: &str, code: Option<&Object>, layers: &Layers) {
        if name.starts_with("re.") && !is_in_lowest(code, layers) {
            self.is_other.store(true, Ordering::Relaxed);
        }
    }

    fn is_the_archived(&self, function: &Object, layers: &Layers) -> bool {
        !self.is_other.load(Ordering::Relaxed)
            && is_in_lowest(function.function_code().as_ref(), layers)
    }
}

fn is_in_lowest(code: Option<&Object>, layers: &Layers) -> bool {
    code.zip(layers.iter().last())
        .is_some_and(|(code, layer)| layer.archive.requested_address(code.address()).is_some())
}

/// A pattern in the form in which `re` stores it in its cache: only an exact str or bytes, with flags that are an int.
pub struct Key {
    pub pattern: Object,
    pub flags: Object,
}

impl Key {
    /// From `(type, pattern, flags)`.
    pub fn new(key: &Object) -> Result<Option<Self>> {
        let Ok([_, pattern, flags]) = <[Object; 3]>::try_from(key.to_items()?) else {
            return Ok(None);
        };
        let is_plain = matches!(pattern.kind(), Some(Kind::Str | Kind::Bytes))
            && flags.kind() == Some(Kind::Int);
        Ok(is_plain.then_some(Self { pattern, flags }))
    }

    /// The hash in the table of patterns. None if the flags do not fit into 64 bits.
    pub fn hash(&self) -> Option<u64> {
        let flags = match self.flags.to_i64() {
            Ok(flags) => flags as u64,
            Err(raised) => {
                raised.clear();
                return None;
            }
        };
        let (kind, characters) = match self.pattern.kind()? {
            // SAFETY: the object is an exact str.
            Kind::Str => (0, unsafe { archived::characters(&self.pattern) }),
            // SAFETY: the object is an exact bytes object.
            Kind::Bytes => (1, unsafe { self.pattern.bytes() }),
            _ => return None,
        };
        Some(content_hash(characters).wrapping_add(flags << 1 | kind))
    }

    fn is(&self, pattern: &Object, flags: &Object) -> bool {
        pattern.kind() == self.pattern.kind()
            && flags.kind() == Some(Kind::Int)
            && pattern.equals(&self.pattern)
            && flags.equals(&self.flags)
    }
}

/// Returns the pattern object, if the pattern is archived and was compiled by the same code as that of `function`,
/// which is `re`'s compiler. `sre` is the module `_sre`.
pub fn find(
    layers: &Layers,
    compiler: &Compiler,
    key: &Key,
    function: &Object,
    sre: &Object,
) -> Result<Option<Object>> {
    if !compiler.is_the_archived(function, layers) {
        return Ok(None);
    }
    let Some(hash) = key.hash() else {
        return Ok(None);
    };
    let found = layers
        .iter()
        .find_map(|layer| arguments(&layer.archive, hash, key));
    let Some([flags, code, groups, items, names]) = found else {
        return Ok(None);
    };
    let arguments = vec![
        key.pattern.clone(),
        flags,
        code.to_list()?,
        groups,
        items.to_dict()?,
        names,
    ];
    fault::point("pattern_found");
    sre.attribute(c"compile")?.call(arguments).map(Some)
}

/// Whether an archive contains a pattern.
pub fn is_in(archive: &Mapped, key: &Key) -> bool {
    key.hash()
        .is_some_and(|hash| arguments(archive, hash, key).is_some())
}

fn arguments(archive: &Mapped, hash: u64, key: &Key) -> Option<[Object; FIELDS - 2]> {
    let candidates = archive.tables.patterns(hash);
    candidates
        .filter_map(|offset| archive.object(offset))
        .find_map(|(candidate, room)| {
            // SAFETY: `room` bytes from this address on are mapped.
            let fields = unsafe { archived::tuple_items(candidate, room) }?;
            let [pattern, flags, rest @ ..] = <[Object; FIELDS]>::try_from(fields).ok()?;
            key.is(&pattern, &flags).then_some(rest)
        })
}
