//! Objects, which of them each refers to, and what can be reached from where.

use rustc_hash::{FxBuildHasher, FxHashMap};

use super::graph::{Found, Graph};
use super::heap::{self, Address};
use super::raw;
use super::table::Table;

/// Some objects of the heap: those that the collector tracks, in its order, and all that they refer to directly or by objects
/// that it does not track. Objects that a [`Graph`] knows come first, in its order, and are looked at only if they may have
/// changed; each other object is looked at once: they lie all over the memory.
pub struct Census {
    graph: Option<&'static Graph>,
    /// How many objects the graph knows.
    known: usize,
    /// Whether an object of the graph may have changed, and which of the lists of referents is its list then.
    is_changed: Table<bool>,
    changed: FxHashMap<u32, u32>,
    others: Table<Address>,
    numbers: Numbers,
    /// Where the lists of referents begin: those of objects that may have changed, and of the others.
    starts: Table<u32>,
    referents: Table<u32>,
    counts: Table<u32>,
    is_marked: Table<bool>,
}

impl Census {
    /// Of objects that are tracked.
    ///
    /// # Safety
    /// All are alive.
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
        // SAFETY: the caller knows that the objects are alive, and so is what they refer to.
        unsafe { census.finish() };
        census
    }

    /// Of those that a graph knows, some of which may have changed, and of others that are tracked.
    ///
    /// # Safety
    /// All are alive.
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
            // SAFETY: objects of the graph are immortal.
            unsafe { census.add_referents(graph.objects()[index as usize]) };
        }
        // SAFETY: the caller knows that the others are alive, and so is what they refer to.
        unsafe { census.finish() };
        census
    }

    /// Adds what the others refer to, until there are no more.
    ///
    /// # Safety
    /// They are alive.
    unsafe fn finish(&mut self) {
        let mut next = 0;
        while next < self.others.len() {
            // SAFETY: it is alive, since it is tracked or something refers to it.
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

    /// Adds the list of what an object refers to.
    ///
    /// # Safety
    /// It is alive.
    unsafe fn add_referents(&mut self, object: Address) {
        self.starts.push(self.referents.len() as u32);
        // SAFETY: the caller knows that the object is alive; it keeps alive what it refers to.
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
        // SAFETY: an object that is alive refers to it, so its type is readable.
        if unsafe { heap::is_leaf(object) } {
            return None;
        }
        self.index_of_other(object).or_else(|| {
            // It has its turn, too, unless it is tracked and of a list that was not given.
            // SAFETY: an object that is alive refers to it.
            let is_tracked = unsafe { raw::cds_glue_is_tracked(object) != 0 };
            (!is_tracked).then(|| self.add(object))
        })
    }

    /// Which one of them an object is.
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

    /// Whether an object is not one of the graph that is as it was.
    pub fn is_new(&self, index: usize) -> bool {
        index >= self.known || self.is_changed[index]
    }

    /// Whether it is one of the graph.
    pub fn is_known(&self, index: usize) -> bool {
        index < self.known
    }

    /// Objects are finalized in this order, which is the collector's.
    pub fn rank(&self, index: usize) -> usize {
        match self.graph {
            Some(graph) if index < self.known => graph.rank(index),
            _ => usize::MAX / 2 + index,
        }
    }

    /// How often each is referred to.
    pub fn counts(&self) -> &[u32] {
        &self.counts
    }

    /// Which of them one refers to.
    pub fn referents_of(&self, index: usize) -> &[u32] {
        let list = match self.graph {
            Some(graph) if !self.is_new(index) => return graph.referents_of(index),
            _ if index < self.known => self.changed[&(index as u32)] as usize,
            _ => self.changed.len() + index - self.known,
        };
        &self.referents[self.starts[list] as usize..self.starts[list + 1] as usize]
    }

    /// Objects that somebody holds who is not among them: C code, as a rule. An immortal object does not tell.
    pub fn held_from_outside(&self) -> impl Iterator<Item = Address> {
        self.held_besides(&[])
    }

    /// The same, where these references are known, too.
    pub fn held_besides(&self, known: &[Address]) -> impl Iterator<Item = Address> {
        let mut explained: FxHashMap<usize, isize> = FxHashMap::default();
        for object in known {
            *explained.entry(object.addr()).or_default() += 1;
        }
        let counted = self.others.iter().zip(self.counts[self.known..].iter());
        counted
            // SAFETY: they are alive.
            .filter(move |&(&object, &count)| unsafe {
                let known = explained.get(&object.addr()).copied().unwrap_or_default();
                !heap::is_immortal(object)
                    && raw::cds_glue_refcount(object) > count as isize + known
            })
            .map(|(&object, _)| object)
    }

    /// Marks objects, and all that can be reached from them.
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

    /// Those that are not marked: first those of the graph that are as they were, then the others in the collector's order.
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

    /// Those of the unmarked that nobody refers to, and then those that only they refer to: all that would die by its
    /// reference count.
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

    /// Marks one object; returns whether it was not marked.
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

/// The numbers of some addresses, at places that follow from these or the next that are free.
struct Numbers {
    /// Each address and its number; 0 where there is none.
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

    /// Where an address is, or would be.
    fn place(&self, address: usize) -> usize {
        // Their number is a power of two, and at least half of them are free.
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

    /// Adds the number of an object that has none.
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

/// A hash of numbers that are near each other: its upper half.
fn hash(number: u64) -> u64 {
    const ODD: u64 = 0x9e37_79b9_7f4a_7c15;
    number.wrapping_mul(ODD)
}
