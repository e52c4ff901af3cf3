//! The immortal objects of an image and the references between them, recorded when they were made immortal. At the end
//! of a process only those are looked at again that may refer to others since: those with a part in a page that was
//! written, unless a hash of their parts (of 64 bits) is what it was. Most objects in such pages have not changed, and
//! following their references takes longer.

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

/// Objects, in the order of their addresses.
pub struct Graph {
    objects: Table<Address>,
    /// Their places in the order of the collector.
    ranks: Table<u32>,
    numbers: Numbers,
    /// Where the referents of each object begin.
    starts: Table<u32>,
    referents: Table<u32>,
    counts: Table<u32>,
    /// The hash of the parts of each, if these are known.
    hashes: Table<u64>,
    /// That has all objects of classes which are defined in Python traversed as its own are.
    class: Address,
    places: Places,
    /// Objects of which nobody knows when they change, or which refer to one that is mortal.
    varying: Table<u32>,
    /// Where all these tables are.
    memory: Range<u64>,
}

// SAFETY: nobody writes to it once it is there.
unsafe impl Sync for Graph {}
// SAFETY: nobody writes to it once it is there; the addresses are numbers to it.
unsafe impl Send for Graph {}

impl Graph {
    /// That of the image.
    pub fn get() -> Option<&'static Self> {
        GRAPH.get()
    }

    pub fn objects(&self) -> &[Address] {
        &self.objects
    }

    /// What is known of an object, by its address alone.
    pub fn find(&self, object: Address) -> Found {
        self.numbers.find(object)
    }

    /// Which one of them an object is.
    pub fn index(&self, object: Address) -> Option<usize> {
        match self.find(object) {
            Found::Object(index) => Some(index),
            Found::Leaf | Found::Nothing => None,
        }
    }

    /// The place of an object in the order of the collector.
    pub fn rank(&self, index: usize) -> usize {
        self.ranks[index] as usize
    }

    /// Which of them one referred to.
    pub fn referents_of(&self, index: usize) -> &[u32] {
        &self.referents[self.starts[index] as usize..self.starts[index + 1] as usize]
    }

    /// How often they referred to each.
    pub fn counts(&self) -> &[u32] {
        &self.counts
    }

    /// The objects that may refer to others than they did. For a restored process: pages that nobody has written to since are
    /// those of files.
    ///
    /// # Errors
    /// If the kernel does not say which pages were written.
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

    /// Calls a function with the pages of the parts of an object, which are written when it comes to refer to others. Returns a
    /// hash of these parts, if they are known: with the same, it is as it was.
    ///
    /// # Safety
    /// The object is alive.
    unsafe fn parts_of(&self, object: Address, each: &mut impl FnMut(usize)) -> Option<u64> {
        let mut hash = 0;
        // SAFETY: the object is alive, and this is a class; the parts of an object can be read.
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

    /// Looks at all objects that should be as they were.
    ///
    /// # Panics
    /// If one is not.
    pub fn verify(&self, changed: &[u32]) {
        for (&object, number) in self.objects.iter().zip(0..) {
            if changed.binary_search(&number).is_ok() {
                continue;
            }
            let mut expected = self.referents_of(number as usize).iter();
            // SAFETY: it is immortal, and what it refers to is alive.
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
            // SAFETY: an immortal object stays alive.
            let object = unsafe { Object::from_borrowed(object) };
            assert!(
                is_same,
                "an object has changed unnoticed: a {}",
                object.type_name()
            );
        }
    }

    /// Where its tables are.
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

/// No object has these numbers.
const LEAF: u32 = u32::MAX;
const MORTAL: u32 = u32::MAX - 1;

/// Whether an object refers to no others, as far as the collector knows.
///
/// # Safety
/// It is alive.
unsafe fn refers_to_none(object: Address) -> bool {
    // SAFETY: the caller knows that the object is alive, so its type is readable.
    unsafe { heap::is_leaf(object) || raw::cds_glue_is_gc(object) == 0 }
}

/// Calls a function with the pieces of memory from which an object refers to others: where each begins, and how many
/// bytes it has. Returns whether these are known.
///
/// # Safety
/// The object is alive, and the class is one that is defined in Python.
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
        // SAFETY: it is the function that was given, which nobody else uses meanwhile.
        unsafe { (*each.cast::<F>())(start.cast(), bytes) };
    }
    // SAFETY: the object is alive, and the function that is called back is the one that is passed.
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

/// Sorts numbers, and leaves out those that come a second time.
fn unique(numbers: &mut Table<u32>) -> impl Iterator<Item = u32> {
    numbers.as_mut().sort_unstable();
    let mut last = MORTAL;
    let numbers = numbers.iter().copied();
    numbers.filter(move |&number| std::mem::replace(&mut last, number) != number)
}

/// What is known of an object.
pub enum Found {
    /// It is the one with this number.
    Object(usize),
    /// It is immortal, and refers to no others.
    Leaf,
    Nothing,
}

/// Finds the number of an object by its address.
#[derive(Default)]
struct Numbers {
    /// For each block of addresses, at a place that follows from its number or the next that is free: the number + 1, and which
    /// of the blocks with objects it is.
    blocks: Table<(usize, u32)>,
    /// For each place in these blocks where an object can begin: the how manieth object of its page it is, from 1 on.
    slots: Table<u8>,
    /// For each page: how many objects come before.
    firsts: Table<u32>,
}

impl Numbers {
    const BLOCK: usize = 1 << 20;
    /// No two objects begin in so many bytes. Those with a number have the collector's header of as many, and their own.
    const SMALLEST: usize = 16;
    /// For an object that refers to no others.
    const LEAF: u8 = u8::MAX;
    const SLOTS: usize = Self::BLOCK / Self::SMALLEST;
    const PAGES: usize = Self::BLOCK / PAGE;

    /// Of objects in the order of their addresses.
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

    /// Where a block is, or would be.
    fn place(&self, number: usize) -> usize {
        // Their number is a power of two, and there are more than are used.
        let mask = self.blocks.len() - 1;
        let mut place = number & mask;
        while ![0, number + 1].contains(&self.blocks[place].0) {
            place = (place + 1) & mask;
        }
        place
    }

    /// The block of an address, and its place in that.
    fn slot(&self, address: usize) -> Option<(usize, usize)> {
        let (number, block) = self.blocks[self.place(address / Self::BLOCK)];
        let block = block as usize;
        let slot = block * Self::SLOTS + address / Self::SMALLEST % Self::SLOTS;
        (number != 0).then_some((block, slot))
    }

    /// Notes an object that has no number, if it lies near one that has.
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

/// The objects that have a part in each page.
#[derive(Default)]
struct Places {
    pages: Table<usize>,
    /// Where the objects of each page begin.
    starts: Table<u32>,
    objects: Table<u32>,
}

impl Places {
    /// Pages that are so near to each other are asked for at once.
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
