//! Digests that are equal for equal code, whatever its address and whatever else is in the archive.

use std::collections::HashMap;

use archive_format::content_hash;

use super::objects::Objects;

/// Digests of the objects of an archive and of its lower layer. They are computed on demand.
pub struct Digests<'a, 'b> {
    objects: &'b Objects<'a>,
    lower: Option<&'b Objects<'a>>,
    known: HashMap<(Layer, usize), u64>,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash)]
enum Layer {
    This,
    Lower,
}

impl<'a, 'b> Digests<'a, 'b> {
    pub fn new(objects: &'b Objects<'a>, lower: Option<&'b Objects<'a>>) -> Self {
        Self {
            objects,
            lower,
            known: HashMap::new(),
        }
    }

    /// The digest of the object at a memory offset. None if there is no object.
    pub fn digest(&mut self, offset: u64) -> Option<u64> {
        let root = (Layer::This, self.objects.index(offset)?);
        // The referents of an object are digested before the object itself. In a damaged file, references can form a
        // cycle: the reference that closes the cycle is then digested as 0.
        let mut pending = vec![(root, false)];
        while let Some((object, is_expanded)) = pending.pop() {
            if is_expanded {
                let digest = self.combine(object);
                self.known.insert(object, digest);
            } else if let std::collections::hash_map::Entry::Vacant(free) = self.known.entry(object)
            {
                free.insert(0);
                pending.push((object, true));
                pending.extend(self.references(object).into_iter().map(|to| (to, false)));
            }
        }
        self.known.get(&root).copied()
    }

    fn layer(&self, layer: Layer) -> Option<&'b Objects<'a>> {
        match layer {
            Layer::This => Some(self.objects),
            Layer::Lower => self.lower,
        }
    }

    fn resolve(&self, layer: Layer, address: u64) -> Option<(Layer, usize)> {
        let within = |layer: Layer| {
            let objects = self.layer(layer)?;
            let index = objects.index(objects.archive.offset(address)?)?;
            Some((layer, index))
        };
        within(layer).or_else(|| within(Layer::Lower))
    }

    fn references(&self, (layer, index): (Layer, usize)) -> Vec<(Layer, usize)> {
        let Some(objects) = self.layer(layer) else {
            return Vec::new();
        };
        let place = &objects.places[index];
        let pointers = objects
            .stored(place)
            .map_or_else(Vec::new, |object| object.pointers());
        let elements = objects.elements(place.offset);
        pointers
            .iter()
            .filter_map(|pointer| self.resolve(layer, pointer.address))
            .chain(elements.and_then(|offset| Some((layer, objects.index(offset)?))))
            .collect()
    }

    /// The digest of an object whose referents already have their digests.
    fn combine(&self, (layer, index): (Layer, usize)) -> u64 {
        let found = self.layer(layer).and_then(|objects| {
            let place = &objects.places[index];
            Some((objects, place, objects.stored(place)?))
        });
        let Some((objects, place, object)) = found else {
            return 0;
        };
        let mut bytes = object.bytes().to_vec();
        if let Some(version) = object.version_place() {
            bytes[version].fill(0);
        }
        for pointer in object.pointers() {
            let to = self.resolve(layer, pointer.address);
            let digest = to.and_then(|to| self.known.get(&to)).copied();
            // A static object is identified by its distance from the anchor, which is the same in all processes of a
            // build.
            let digest = digest
                .unwrap_or_else(|| pointer.address.wrapping_sub(objects.archive.header.anchor));
            bytes[pointer.offset..pointer.offset + 8].copy_from_slice(&digest.to_ne_bytes());
        }
        let elements = objects
            .elements(place.offset)
            .and_then(|offset| objects.index(offset));
        if let Some(digest) = elements.and_then(|index| self.known.get(&(layer, index))) {
            bytes.extend_from_slice(&digest.to_ne_bytes());
        }
        bytes.extend_from_slice(object.kind.name().as_bytes());
        content_hash(&bytes)
    }
}
