//! The immortal objects of an image and the references between them, recorded when the objects were made immortal. At
//! the end of a process, only those objects are traversed again that may refer to other objects now: an object with a
//! part in a page that was written, unless the 64-bit hash of its parts is unchanged. Most objects in written pages
//! have not changed, and following their references takes longer than hashing.

mod recording;

use std::ffi::{c_int, c_void};
use std::io;
use std::iter;
use std::ops::Range;
use std::slice;
use std::sync::OnceLock;

use xxhash_rust::xxh3::xxh3_64_with_seed;

use super::heap::{self, Address};
use super::object::Object;
use super::raw;
use super::table::{Pack, Table};
use crate::kernel::page_map::PageMap;

const PAGE: usize = 1 << 12;

static GRAPH: OnceLock<Graph> = OnceLock::new();

/// The objects, sorted by address.
pub struct Graph {
    objects: Table<Address>,
    /// For each object: its position in the collector's order.
    ranks: Table<u32>,
    numbers: Numbers,
    /// For each object: the index in `referents` at which its referents begin.
    starts: Table<u32>,
    referents: Table<u32>,
    counts: Table<u32>,
    /// For each object: the hash of its parts, if the parts are known.
    hashes: Table<u64>,
    /// A class defined in Python. Objects of any type with the same traverse function are traversed in the same way.
    class: Address,
    places: Places,
    /// Objects for which a change cannot be detected, or which refer to a mortal object.
    varying: Table<u32>,
    /// The memory that holds all these tables.
    memory: Range<u64>,
}

// SAFETY: nothing writes to it after it was stored in `GRAPH`.
unsafe impl Sync for Graph {}
// SAFETY: nothing writes to it after it was stored in `GRAPH`, and it uses the addresses only as numbers.
unsafe impl Send for Graph {}

impl Graph {
    /// The graph of the image.
    pub fn get() -> Option<&'static Self> {
        GRAPH.get()
    }

    pub fn objects(&self) -> &[Address] {
        &self.objects
    }

    /// What the graph knows of an object, found by the address alone.
    pub fn find(&self, object: Address) -> Found {
        self.numbers.find(object)
    }

    /// The number of an object in the graph.
    pub fn index(&self, object: Address) -> Option<usize> {
        match self.find(object) {
            Found::Object(index) => Some(index),
            Found::Leaf | Found::Nothing => None,
        }
    }

    /// The position of an object in the collector's order.
    pub fn rank(&self, index: usize) -> usize {
        self.ranks[index] as usize
    }

    /// The numbers of the objects to which this object referred when the graph was recorded.
    pub fn referents_of(&self, index: usize) -> &[u32] {
        &self.referents[self.starts[index] as usize..self.starts[index + 1] as usize]
    }

    /// For each object: how many recorded references lead to it.
    pub fn counts(&self) -> &[u32] {
        &self.counts
    }

    /// The objects that may have other referents than recorded. Only valid in a restored process: there, a page that
    /// was not written since is still a page of a file.
    ///
    /// # Errors
    /// Fails if the kernel does not tell which pages were written.
    pub fn changed(&self) -> io::Result<Table<u32>> {
        let mut written = Table::new();
        self.places.add_written(&mut written)?;
        let mut changed: Table<u32> = self.varying.iter().copied().collect();
        changed.extend(unique(&mut written).filter(|&number| {
            let number = number as usize;
            // SAFETY: an immortal object is alive.
            let hash = unsafe { self.parts_of(self.objects[number], &mut |_| {}) };
            hash != Some(self.hashes[number])
        }));
        Ok(unique(&mut changed).collect())
    }

    /// Calls `each` with each page that holds a part of the object: memory that must be written before the object can
    /// refer to another one. Returns a hash of these parts, if they are known. If the hash is equal, the object has not
    /// changed.
    ///
    /// # Safety
    /// The object is alive.
    unsafe fn parts_of(&self, object: Address, each: &mut impl FnMut(usize)) -> Option<u64> {
        let mut hash = 0;
        // SAFETY: the object is alive, `self.class` is a class, and the parts of an object are readable.
        let is_known = unsafe {
            pieces_of(object, self.class.cast(), &mut |start, bytes| {
                let first = start.addr() / PAGE;
                let last = (start.addr() + bytes.max(1) - 1) / PAGE;
                (first..=last).for_each(&mut *each);
                if bytes > 0 {
                    hash = xxh3_64_with_seed(slice::from_raw_parts(start, bytes), hash);
                }
            })
        };
        is_known.then_some(hash)
    }

    /// Compares all objects that are not in `changed` with the record.
    ///
    /// # Panics
    /// Panics if one of them has changed.
    pub fn verify(&self, changed: &[u32]) {
        for (&object, number) in self.objects.iter().zip(0..) {
            if changed.binary_search(&number).is_ok() {
                continue;
            }
            let mut expected = self.referents_of(number as usize).iter();
            // SAFETY: the object is immortal, and the objects that it refers to are alive.
            let is_same = unsafe {
                let mut is_same = true;
                heap::referents(object, &mut |referent| {
                    is_same &= match self.find(referent) {
                        Found::Object(index) => expected.next() == Some(&(index as u32)),
                        Found::Leaf => true,
                        Found::Nothing => refers_to_none(referent),
                    };
                });
                is_same && expected.next().is_none()
            };
            // SAFETY: an immortal object is alive.
            let object = unsafe { Object::from_borrowed(object) };
            assert!(
                is_same,
                "an object of type {} has changed unnoticed",
                object.type_name()
            );
        }
    }

    /// The memory of its tables.
    pub fn memory(&self) -> Range<u64> {
        self.memory.clone()
    }

    fn tables(&mut self) -> [&mut dyn Pack; 13] {
        let Self {
            objects,
            ranks,
            numbers,
            starts,
            referents,
            counts,
            hashes,
            class: _,
            places,
            varying,
            memory: _,
        } = self;
        [
            objects,
            ranks,
            &mut numbers.blocks,
            &mut numbers.slots,
            &mut numbers.firsts,
            starts,
            referents,
            counts,
            hashes,
            &mut places.pages,
            &mut places.starts,
            &mut places.objects,
            varying,
        ]
    }
}

/// Special values of `numbers`; no object has one of these as its number.
const LEAF: u32 = u32::MAX;
const MORTAL: u32 = u32::MAX - 1;

/// Whether an object refers to no other object that the collector can see.
///
/// # Safety
/// The object is alive.
unsafe fn refers_to_none(object: Address) -> bool {
    // SAFETY: the caller passes a live object, so its type is readable.
    unsafe { heap::is_leaf(object) || raw::cds_glue_is_gc(object) == 0 }
}

/// Calls `each` with the start and the size in bytes of each piece of memory that holds references of the object.
/// Returns whether these pieces are known.
///
/// # Safety
/// The object is alive, and `class` is a class defined in Python.
unsafe fn pieces_of<F: FnMut(*const u8, usize)>(
    object: Address,
    class: *mut raw::PyTypeObject,
    each: &mut F,
) -> bool {
    unsafe extern "C" fn visit<F: FnMut(*const u8, usize)>(
        start: *const c_void,
        bytes: usize,
        each: *mut c_void,
    ) {
        // SAFETY: `each` is the function that was passed below, and nothing else uses it meanwhile.
        unsafe { (*each.cast::<F>())(start.cast(), bytes) };
    }
    // SAFETY: the object is alive, and `visit` is called with the function that is passed here.
    let is_known: c_int = unsafe {
        raw::cds_glue_pieces(
            object,
            class,
            Some(visit::<F>),
            std::ptr::from_mut(each).cast(),
        )
    };
    is_known != 0
}

/// Sorts numbers and removes duplicates.
fn unique(numbers: &mut Table<u32>) -> impl Iterator<Item = u32> {
    numbers.as_mut().sort_unstable();
    let mut last = MORTAL;
    let numbers = numbers.iter().copied();
    numbers.filter(move |&number| std::mem::replace(&mut last, number) != number)
}

/// What the graph knows of an object.
pub enum Found {
    /// The object has this number.
    Object(usize),
    /// The object is immortal and refers to no other object.
    Leaf,
    Nothing,
}

/// Finds the number of an object by its address.
#[derive(Default)]
struct Numbers {
    /// A hash table with open addressing. For each block of addresses that has objects: the number of the block + 1,
    /// and the index of the block among these.
    blocks: Table<(usize, u32)>,
    /// For each place in these blocks where an object can begin: the ordinal of the object in its page, from 1 on.
    slots: Table<u8>,
    /// For each page: how many objects lie before it.
    firsts: Table<u32>,
}

impl Numbers {
    const BLOCK: usize = 1 << 20;
    /// No two objects begin within this number of bytes. An object with a number has a collector header of this size,
    /// and its own header.
    const SMALLEST: usize = 16;
    /// Marks an object that refers to no other object.
    const LEAF: u8 = u8::MAX;
    const SLOTS: usize = Self::BLOCK / Self::SMALLEST;
    const PAGES: usize = Self::BLOCK / PAGE;

    /// `objects` is sorted by address.
    fn of(objects: &[Address]) -> Self {
        let same_block =
            |a: &Address, b: &Address| a.addr() / Self::BLOCK == b.addr() / Self::BLOCK;
        let blocks = objects.chunk_by(same_block).count();
        let mut numbers = Self {
            blocks: iter::repeat_n((0, 0), (4 * blocks).next_power_of_two()).collect(),
            slots: iter::repeat_n(0, blocks * Self::SLOTS).collect(),
            firsts: iter::repeat_n(0, blocks * Self::PAGES).collect(),
        };
        let mut before = 0;
        for (block, objects) in objects.chunk_by(same_block).enumerate() {
            let number = objects[0].addr() / Self::BLOCK;
            let place = numbers.place(number);
            numbers.blocks.as_mut()[place] = (number + 1, block as u32);
            for objects in objects.chunk_by(|a, b| a.addr() / PAGE == b.addr() / PAGE) {
                let page = block * Self::PAGES + objects[0].addr() / PAGE % Self::PAGES;
                numbers.firsts.as_mut()[page] = before;
                before += objects.len() as u32;
                for (object, ordinal) in objects.iter().zip(1..Self::LEAF) {
                    let slot = block * Self::SLOTS + object.addr() / Self::SMALLEST % Self::SLOTS;
                    numbers.slots.as_mut()[slot] = ordinal;
                }
            }
        }
        numbers
    }

    /// The index in `blocks` that a block has, or would have.
    fn place(&self, number: usize) -> usize {
        // The length is a power of two, and greater than the number of blocks in use, so the search ends.
        let mask = self.blocks.len() - 1;
        let mut place = number & mask;
        while ![0, number + 1].contains(&self.blocks[place].0) {
            place = (place + 1) & mask;
        }
        place
    }

    /// The block of an address, and the index of the address in `slots`.
    fn slot(&self, address: usize) -> Option<(usize, usize)> {
        let (number, block) = self.blocks[self.place(address / Self::BLOCK)];
        let block = block as usize;
        let slot = block * Self::SLOTS + address / Self::SMALLEST % Self::SLOTS;
        (number != 0).then_some((block, slot))
    }

    /// Marks an object that has no number, if an object that has one lies in the same block.
    fn add_leaf(&mut self, object: Address) {
        if let Some((_, slot)) = self.slot(object.addr()) {
            self.slots.as_mut()[slot] = Self::LEAF;
        }
    }

    fn find(&self, object: Address) -> Found {
        let address = object.addr();
        let Some((block, slot)) = self.slot(address) else {
            return Found::Nothing;
        };
        match self.slots[slot] {
            0 => Found::Nothing,
            Self::LEAF => Found::Leaf,
            ordinal => {
                let before = self.firsts[block * Self::PAGES + address / PAGE % Self::PAGES];
                Found::Object(before as usize + usize::from(ordinal) - 1)
            }
        }
    }
}

/// For each page: the objects that have a part in it.
#[derive(Default)]
struct Places {
    pages: Table<usize>,
    /// For each page: the index in `objects` at which its objects begin.
    starts: Table<u32>,
    objects: Table<u32>,
}

impl Places {
    /// Pages with gaps smaller than this are read from the page map together.
    const GAP: usize = 64;

    fn of(mut places: Table<(usize, u32)>) -> Self {
        places.as_mut().sort_unstable();
        let mut new = Self::default();
        for &(page, object) in places.iter() {
            if new.pages.last() != Some(&page) {
                new.pages.push(page);
                new.starts.push(new.objects.len() as u32);
            }
            new.objects.push(object);
        }
        new.starts.push(new.objects.len() as u32);
        new
    }

    fn add_written(&self, found: &mut Table<u32>) -> io::Result<()> {
        let kernel = PageMap::of_process("self")?;
        let mut index = 0;
        for pages in self
            .pages
            .chunk_by(|before, next| next - before < Self::GAP)
        {
            let (first, last) = (pages[0], pages[pages.len() - 1]);
            let flags = kernel.flags((first * PAGE) as u64, ((last + 1) * PAGE) as u64)?;
            for page in pages {
                if flags[page - first].is_anonymous() {
                    let objects = self.starts[index] as usize..self.starts[index + 1] as usize;
                    found.extend(self.objects[objects].iter().copied());
                }
                index += 1;
            }
        }
        Ok(())
    }
}
