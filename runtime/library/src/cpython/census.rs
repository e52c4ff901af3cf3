//! A set of objects, the references between them, and what can be reached from where.

use rustc_hash::{FxBuildHasher, FxHashMap};

use super::graph::{Found, Graph};
use super::heap::{self, Address};
use super::raw;
use super::table::Table;

/// Some objects of the heap: those that the collector tracks, in its order, and all untracked objects that can be
/// reached from them. Objects of a [`Graph`] come first, in its order, and are traversed only if they may have changed.
/// Each other object is traversed only once, because the objects are spread over the whole memory.
pub struct Census {
    graph: Option<&'static Graph>,
    /// The number of objects of the graph.
    known: usize,
    /// Whether an object of the graph may have changed; and for those, the index of its list of referents.
    is_changed: Table<bool>,
    changed: FxHashMap<u32, u32>,
    others: Table<Address>,
    numbers: Numbers,
    /// Where each list of referents begins: first the objects of the graph that may have changed, then the others.
    starts: Table<u32>,
    referents: Table<u32>,
    counts: Table<u32>,
    is_marked: Table<bool>,
}

impl Census {
    /// The census of tracked objects.
    ///
    /// # Safety
    /// All objects are alive.
    pub unsafe fn of(tracked: &[Address]) -> Self {
        let mut census = Self {
            graph: None,
            known: 0,
            is_changed: Table::new(),
            changed: FxHashMap::default(),
            others: Table::new(),
            numbers: Numbers::new(),
            starts: Table::new(),
            referents: Table::new(),
            counts: Table::new(),
            is_marked: Table::new(),
        };
        for &object in tracked {
            census.add(object);
        }
        // SAFETY: the caller passes live objects, and the objects that they refer to are alive.
        unsafe { census.finish() };
        census
    }

    /// The census of the objects of a graph, of which `changed` may have changed, and of other tracked objects.
    ///
    /// # Safety
    /// All objects are alive.
    pub unsafe fn since(graph: &'static Graph, changed: &[u32], tracked: &[Address]) -> Self {
        let known = graph.objects().len();
        let mut census = Self {
            graph: Some(graph),
            known,
            is_changed: Table::zeros(known),
            changed: FxHashMap::with_capacity_and_hasher(changed.len(), FxBuildHasher),
            others: Table::new(),
            numbers: Numbers::new(),
            starts: Table::new(),
            referents: Table::new(),
            counts: Table::copy_of(graph.counts()),
            is_marked: Table::zeros(known),
        };
        for &object in tracked {
            if graph.index(object).is_none() {
                census.add(object);
            }
        }
        for &index in changed {
            for &referent in graph.referents_of(index as usize) {
                census.counts.as_mut()[referent as usize] -= 1;
            }
            let list = census.starts.len() as u32;
            census.changed.insert(index, list);
            census.is_changed.as_mut()[index as usize] = true;
            // SAFETY: the objects of the graph are immortal.
            unsafe { census.add_referents(graph.objects()[index as usize]) };
        }
        // SAFETY: the caller passes live objects, and the objects that they refer to are alive.
        unsafe { census.finish() };
        census
    }

    /// Adds all objects that can be reached from the ones that are there.
    ///
    /// # Safety
    /// All objects are alive.
    unsafe fn finish(&mut self) {
        let mut next = 0;
        while next < self.others.len() {
            // SAFETY: the object is alive, since it is tracked or a live object refers to it.
            unsafe { self.add_referents(self.others[next]) };
            next += 1;
        }
        self.starts.push(self.referents.len() as u32);
    }

    fn add(&mut self, object: Address) -> usize {
        let index = self.len();
        self.numbers.insert(object, index);
        self.others.push(object);
        self.counts.push(0);
        self.is_marked.push(false);
        index
    }

    /// Appends the list of the object's referents.
    ///
    /// # Safety
    /// The object is alive.
    unsafe fn add_referents(&mut self, object: Address) {
        self.starts.push(self.referents.len() as u32);
        // SAFETY: the caller passes a live object, which keeps its referents alive.
        unsafe {
            heap::referents(object, &mut |referent| {
                if let Some(index) = self.index_of_referent(referent) {
                    self.counts.as_mut()[index] += 1;
                    self.referents.push(index as u32);
                }
            });
        }
    }

    /// # Safety
    /// The object is alive.
    unsafe fn index_of_referent(&mut self, object: Address) -> Option<usize> {
        match self
            .graph
            .map_or(Found::Nothing, |graph| graph.find(object))
        {
            Found::Object(index) => return Some(index),
            Found::Leaf => return None,
            Found::Nothing => {}
        }
        // SAFETY: a live object refers to this object, so its type is readable.
        if unsafe { heap::is_leaf(object) } {
            return None;
        }
        self.index_of_other(object).or_else(|| {
            // A tracked object without a number is in a list that was not given to the census. An untracked one is
            // added. SAFETY: a live object refers to this object.
            let is_tracked = unsafe { raw::cds_glue_is_tracked(object) != 0 };
            (!is_tracked).then(|| self.add(object))
        })
    }

    /// The index of an object.
    pub fn index(&self, object: Address) -> Option<usize> {
        let known = self.graph.and_then(|graph| graph.index(object));
        known.or_else(|| self.index_of_other(object))
    }

    fn index_of_other(&self, object: Address) -> Option<usize> {
        self.numbers.get(object)
    }

    pub fn len(&self) -> usize {
        self.known + self.others.len()
    }

    pub fn object(&self, index: usize) -> Address {
        match self.graph {
            Some(graph) if index < self.known => graph.objects()[index],
            _ => self.others[index - self.known],
        }
    }

    /// Whether an object is not in the graph, or may have changed since.
    pub fn is_new(&self, index: usize) -> bool {
        index >= self.known || self.is_changed[index]
    }

    /// Whether an object is in the graph.
    pub fn is_known(&self, index: usize) -> bool {
        index < self.known
    }

    /// The position of an object in the collector's order, in which objects are finalized.
    pub fn rank(&self, index: usize) -> usize {
        match self.graph {
            Some(graph) if index < self.known => graph.rank(index),
            _ => usize::MAX / 2 + index,
        }
    }

    /// For each object: how many references of the census lead to it.
    pub fn counts(&self) -> &[u32] {
        &self.counts
    }

    /// The indices of an object's referents.
    pub fn referents_of(&self, index: usize) -> &[u32] {
        let list = match self.graph {
            Some(graph) if !self.is_new(index) => return graph.referents_of(index),
            _ if index < self.known => self.changed[&(index as u32)] as usize,
            _ => self.changed.len() + index - self.known,
        };
        &self.referents[self.starts[list] as usize..self.starts[list + 1] as usize]
    }

    /// Objects with references from outside of the census, usually from C code. The reference count of an immortal
    /// object does not show them.
    pub fn held_from_outside(&self) -> impl Iterator<Item = Address> {
        self.held_besides(&[])
    }

    /// The same, where the references to `known` also count as explained.
    pub fn held_besides(&self, known: &[Address]) -> impl Iterator<Item = Address> {
        let mut explained: FxHashMap<usize, isize> = FxHashMap::default();
        for object in known {
            *explained.entry(object.addr()).or_default() += 1;
        }
        let counted = self.others.iter().zip(self.counts[self.known..].iter());
        counted
            // SAFETY: the objects are alive.
            .filter(move |&(&object, &count)| unsafe {
                let known = explained.get(&object.addr()).copied().unwrap_or_default();
                !heap::is_immortal(object)
                    && raw::cds_glue_refcount(object) > count as isize + known
            })
            .map(|(&object, _)| object)
    }

    /// Marks objects, and all objects that can be reached from them.
    pub fn mark(&mut self, roots: impl IntoIterator<Item = Address>) {
        let mut pending = Table::new();
        for root in roots {
            if let Some(index) = self.index(root) {
                pending.push(index as u32);
            }
        }
        while let Some(index) = pending.pop() {
            let index = index as usize;
            if !std::mem::replace(&mut self.is_marked.as_mut()[index], true) {
                let referents = self.referents_of(index).iter().copied();
                pending.extend(referents.filter(|&referent| !self.is_marked[referent as usize]));
            }
        }
    }

    /// The unmarked objects: first the unchanged objects of the graph, then the others in the collector's order.
    pub fn unmarked(&self) -> Table<usize> {
        let (mut known, mut new) = (Table::new(), Table::new());
        for index in (0..self.len()).filter(|&index| !self.is_marked[index]) {
            let list = if self.is_new(index) {
                &mut new
            } else {
                &mut known
            };
            list.push(index);
        }
        new.as_mut().sort_unstable_by_key(|&index| self.rank(index));
        known.extend(new.iter().copied());
        known
    }

    /// The unmarked objects to which no object refers, and then those to which only these refer: all objects that would
    /// die because their reference count reaches 0.
    pub fn unreferenced(&self) -> Table<usize> {
        let mut counts = Table::copy_of(&self.counts);
        let indices = 0..self.len();
        let mut found: Table<usize> = indices
            .filter(|&index| counts[index] == 0 && !self.is_marked[index])
            .collect();
        found
            .as_mut()
            .sort_unstable_by_key(|&index| self.rank(index));
        let mut next = 0;
        while next < found.len() {
            for &referent in self.referents_of(found[next]) {
                let referent = referent as usize;
                counts.as_mut()[referent] -= 1;
                if counts[referent] == 0 && !self.is_marked[referent] {
                    found.push(referent);
                }
            }
            next += 1;
        }
        found
    }

    /// Marks one object. Returns whether it was unmarked before.
    pub fn mark_alone(&mut self, object: Address) -> bool {
        let index = self.index(object);
        index.is_some_and(|index| !std::mem::replace(&mut self.is_marked.as_mut()[index], true))
    }

    pub fn is_index_marked(&self, index: usize) -> bool {
        self.is_marked[index]
    }

    pub fn is_marked(&self, object: Address) -> bool {
        let index = self.index(object);
        index.is_some_and(|index| self.is_marked[index])
    }
}

/// The numbers of some addresses: a hash table with open addressing.
struct Numbers {
    /// Each address and its number; the address is 0 in an empty place.
    places: Table<(usize, u32)>,
    count: usize,
}

impl Numbers {
    const FEWEST: usize = 1 << 12;

    fn new() -> Self {
        Self {
            places: Table::zeros(Self::FEWEST),
            count: 0,
        }
    }

    /// The index in `places` that an address has, or would have.
    fn place(&self, address: usize) -> usize {
        // The length is a power of two, and at least half of the places are empty, so the search ends.
        let mask = self.places.len() - 1;
        let mut place = (hash(address as u64) >> 32) as usize & mask;
        while ![0, address].contains(&self.places[place].0) {
            place = (place + 1) & mask;
        }
        place
    }

    fn get(&self, object: Address) -> Option<usize> {
        let (address, number) = self.places[self.place(object.addr())];
        (address != 0).then_some(number as usize)
    }

    /// Adds an object that is not in the table.
    fn insert(&mut self, object: Address, number: usize) {
        self.count += 1;
        if 2 * self.count > self.places.len() {
            let more = Table::zeros(2 * self.places.len());
            let old = std::mem::replace(&mut self.places, more);
            for &(address, number) in old.iter().filter(|(address, _)| *address != 0) {
                let place = self.place(address);
                self.places.as_mut()[place] = (address, number);
            }
        }
        let place = self.place(object.addr());
        self.places.as_mut()[place] = (object.addr(), number as u32);
    }
}

/// A hash for numbers that are close to each other. Its upper half is used.
fn hash(number: u64) -> u64 {
    const ODD: u64 = 0x9e37_79b9_7f4a_7c15;
    number.wrapping_mul(ODD)
}
