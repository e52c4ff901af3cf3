//! The heap as the garbage collector sees it: its lists, the references between objects, and which objects are reachable.

use std::collections::HashMap;
use std::ffi::{c_int, c_void};
use std::hash::{BuildHasherDefault, Hasher};
use std::ops::Deref;
use std::ptr;

use super::raw;

pub type Address = *mut raw::PyObject;

/// The collector's lists of objects. Those of the permanent one are never collected (`gc.freeze()`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Generations {
    /// The oldest first, which is the order in which objects would be found to be garbage.
    Collected,
    Permanent,
}

impl Generations {
    fn heads(self) -> impl Iterator<Item = *mut raw::PyGC_Head> {
        let last = raw::NUM_GENERATIONS as c_int;
        let indices = match self {
            Self::Collected => 0..last,
            Self::Permanent => last..last + 1,
        };
        // SAFETY: the GIL is held, and there is a list of each number.
        indices
            .rev()
            .map(|index| unsafe { raw::cds_glue_generation(index) })
    }

    /// The objects of the lists.
    pub fn objects(self) -> Table<Address> {
        let mut objects = Table::new();
        for head in self.heads() {
            // SAFETY: the list is a ring of headers, each of which is followed by its object; nothing changes it meanwhile.
            unsafe {
                let mut next = next(head);
                while next != head {
                    objects.push(next.add(1).cast());
                    next = self::next(next);
                }
            }
        }
        objects
    }
}

/// # Safety
/// The header is in a list.
unsafe fn next(header: *mut raw::PyGC_Head) -> *mut raw::PyGC_Head {
    // SAFETY: as promised.
    ptr::with_exposed_provenance_mut(unsafe { (*header)._gc_next })
}

/// # Safety
/// The header is in a list.
unsafe fn previous(header: *mut raw::PyGC_Head) -> *mut raw::PyGC_Head {
    // SAFETY: as promised; the lowest bits are flags.
    let word = unsafe { (*header)._gc_prev } & !FLAGS;
    ptr::with_exposed_provenance_mut(word)
}

/// The flags in `_gc_prev` (Include/internal/pycore_gc.h).
const FLAGS: usize = (1 << raw::_PyGC_PREV_SHIFT) - 1;

/// A list of objects that were taken out of the collector's lists, for as long as something is done with each of them.
/// Objects that die meanwhile leave it by themselves.
pub struct Ring(Box<raw::PyGC_Head>);

impl Ring {
    /// Takes objects out of the collector's lists.
    ///
    /// # Safety
    /// All are tracked, and none is twice among them.
    pub unsafe fn of(objects: impl IntoIterator<Item = Address>) -> Self {
        // SAFETY: two words, for which 0 is a value.
        let mut ring = Self(Box::new(unsafe { std::mem::zeroed() }));
        let head = ring.head();
        // SAFETY: makes a ring of one header.
        unsafe {
            (*head)._gc_next = head.expose_provenance();
            (*head)._gc_prev = head.expose_provenance();
            for object in objects {
                move_to(object, head);
            }
        }
        ring
    }

    fn head(&mut self) -> *mut raw::PyGC_Head {
        &raw mut *self.0
    }

    /// Moves each object back to the end of the oldest generation, and then does something with it, which may end its life
    /// or that of others.
    pub fn drain(&mut self, mut each: impl FnMut(Address)) {
        let head = self.head();
        // SAFETY: as for `objects()`; an object in the list is alive.
        unsafe {
            while next(head) != head {
                let object: Address = next(head).add(1).cast();
                move_to(object, raw::cds_glue_generation(OLDEST));
                each(object);
            }
        }
    }
}

impl Drop for Ring {
    fn drop(&mut self) {
        self.drain(|_| {});
    }
}

const OLDEST: c_int = raw::NUM_GENERATIONS as c_int - 1;

/// Moves an object to the end of a list.
///
/// # Safety
/// It is tracked.
unsafe fn move_to(object: Address, head: *mut raw::PyGC_Head) {
    // SAFETY: as promised, it has a header that is in a list; its neighbours and those at the list's end have one, too.
    unsafe {
        let header = object.cast::<raw::PyGC_Head>().sub(1);
        let (before, after) = (previous(header), next(header));
        link(before, after);
        link(previous(head), header);
        link(header, head);
    }
}

/// # Safety
/// Both are headers.
unsafe fn link(first: *mut raw::PyGC_Head, second: *mut raw::PyGC_Head) {
    // SAFETY: as promised.
    unsafe {
        (*first)._gc_next = second.expose_provenance();
        let flags = (*second)._gc_prev & FLAGS;
        (*second)._gc_prev = first.expose_provenance() | flags;
    }
}

/// Has objects of the permanent generation be collected again, as the oldest, in their order.
///
/// # Safety
/// All are tracked.
pub unsafe fn unfreeze(objects: impl IntoIterator<Item = Address>) {
    for object in objects {
        // SAFETY: as promised; there is such a list.
        unsafe { move_to(object, raw::cds_glue_generation(OLDEST)) };
    }
}

/// Calls a function with each object that another one refers to, as far as the collector knows.
///
/// # Safety
/// The object is alive, and the function runs no Python code.
pub unsafe fn referents<F: FnMut(Address)>(object: Address, each: &mut F) {
    // SAFETY: as promised.
    unsafe {
        raw::cds_glue_traverse(object, Some(visit::<F>), ptr::from_mut(each).cast());
    }
}

/// The same for the constants and names of an object, if it is code.
///
/// # Safety
/// As for [`referents`].
pub unsafe fn parts_of_code<F: FnMut(Address)>(object: Address, each: &mut F) {
    // SAFETY: as promised.
    unsafe {
        if ptr::eq((*object).ob_type, &raw const raw::PyCode_Type) {
            let each = ptr::from_mut(each).cast();
            raw::cds_glue_traverse_code(object.cast(), Some(visit::<F>), each);
        }
    }
}

unsafe extern "C" fn visit<F: FnMut(Address)>(object: Address, each: *mut c_void) -> c_int {
    if !object.is_null() {
        // SAFETY: it is the function that was given, which nobody else uses meanwhile.
        unsafe { (*each.cast::<F>())(object) };
    }
    0
}

/// Whether an object is of a type whose objects refer to no others and whose end does nothing: text and numbers.
///
/// # Safety
/// The object is alive.
pub unsafe fn is_leaf(object: Address) -> bool {
    // SAFETY: as promised.
    let kind = unsafe { (*object).ob_type };
    [
        &raw const raw::PyUnicode_Type,
        &raw const raw::PyLong_Type,
        &raw const raw::PyBytes_Type,
        &raw const raw::PyFloat_Type,
        &raw const raw::PyCode_Type,
    ]
    .iter()
    .any(|&leaf| ptr::eq(leaf, kind))
}

/// # Safety
/// The object is alive.
pub unsafe fn is_immortal(object: Address) -> bool {
    // SAFETY: as promised.
    unsafe { raw::cds_glue_is_immortal(object) != 0 }
}

/// Objects, which of them each refers to, and what can be reached from where. It looks at each object once: they lie all over
/// the memory.
pub struct Census {
    indices: Shadow,
    objects: Table<Address>,
    /// Where the referents of each object begin.
    starts: Table<u32>,
    referents: Table<u32>,
    counts: Table<u32>,
    is_marked: Table<bool>,
    tracked: usize,
}

impl Census {
    /// Of objects that are tracked, and all that they refer to directly or by objects that are not.
    ///
    /// # Safety
    /// All are alive.
    pub unsafe fn of(tracked: &[Address]) -> Self {
        let mut census = Self {
            indices: Shadow::new(),
            objects: Table::new(),
            starts: Table::new(),
            referents: Table::new(),
            counts: Table::new(),
            is_marked: Table::new(),
            tracked: tracked.len(),
        };
        for &object in tracked {
            census.add(object);
        }
        let mut next = 0;
        while next < census.objects.len() {
            let object = census.objects[next];
            next += 1;
            census.starts.push(census.referents.len() as u32);
            // SAFETY: it is alive, since it is tracked or something refers to it.
            unsafe {
                referents(object, &mut |referent| {
                    if let Some(index) = census.index_of_referent(referent) {
                        census.counts.as_mut()[index] += 1;
                        census.referents.push(index as u32);
                    }
                });
            }
        }
        census.starts.push(census.referents.len() as u32);
        census
    }

    fn add(&mut self, object: Address) -> usize {
        let index = self.objects.len();
        *self.indices.slot(object) = index as u32 + 1;
        self.objects.push(object);
        self.counts.push(0);
        self.is_marked.push(false);
        index
    }

    /// # Safety
    /// The object is alive.
    unsafe fn index_of_referent(&mut self, object: Address) -> Option<usize> {
        let slot = self.indices.slot(object);
        match *slot {
            0 => {
                // SAFETY: as promised.
                unsafe {
                    if is_leaf(object) {
                        *slot = Shadow::LEAF;
                        return None;
                    }
                    // It has its turn, too, unless it is tracked and of a list that was not given.
                    (raw::cds_glue_is_tracked(object) == 0).then(|| self.add(object))
                }
            }
            Shadow::LEAF => None,
            index => Some(index as usize - 1),
        }
    }

    /// Which one of them an object is.
    pub fn index(&mut self, object: Address) -> Option<usize> {
        match *self.indices.slot(object) {
            0 | Shadow::LEAF => None,
            index => Some(index as usize - 1),
        }
    }

    /// All objects: those that are tracked first, in their order.
    pub fn objects(&self) -> &[Address] {
        &self.objects
    }

    /// Those of them that are tracked.
    pub fn tracked(&self) -> &[Address] {
        &self.objects[..self.tracked]
    }

    /// How often each is referred to.
    pub fn counts(&self) -> &[u32] {
        &self.counts
    }

    /// Which of them one refers to.
    pub fn referents_of(&self, index: usize) -> &[u32] {
        &self.referents[self.starts[index] as usize..self.starts[index + 1] as usize]
    }

    /// Objects that somebody holds who is not among them: C code, as a rule. An immortal object does not tell.
    pub fn held_from_outside(&self) -> impl Iterator<Item = Address> {
        let counted = self.objects.iter().zip(self.counts.iter());
        counted
            // SAFETY: they are alive.
            .filter(|&(&object, &count)| unsafe {
                !is_immortal(object) && raw::cds_glue_refcount(object) > count as isize
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
                pending.extend(self.referents_of(index).iter().copied());
            }
        }
    }

    /// Those that are not marked.
    pub fn unmarked(&self) -> Table<usize> {
        let indices = 0..self.objects.len();
        indices.filter(|&index| !self.is_marked[index]).collect()
    }

    /// Those of the unmarked that nobody refers to, and then those that only they refer to: all that would die by its
    /// reference count.
    pub fn unreferenced(&mut self) -> Table<usize> {
        let mut counts: Table<u32> = self.counts.iter().copied().collect();
        let indices = 0..self.objects.len();
        let mut found: Table<usize> = indices
            .filter(|&index| counts[index] == 0 && !self.is_marked[index])
            .collect();
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

    pub fn is_marked(&mut self, object: Address) -> bool {
        let index = self.index(object);
        index.is_some_and(|index| self.is_marked[index])
    }
}

/// A number for each address, 0 at first, in memory that takes as much as there are objects near each other.
struct Shadow {
    /// Where the numbers of each block of addresses begin.
    blocks: HashMap<usize, usize, BuildHasherDefault<Multiplied>>,
    last: (usize, usize),
    slots: Table<u32>,
}

impl Shadow {
    /// That of an object which is none of them and refers to none.
    const LEAF: u32 = u32::MAX;
    const BLOCK: usize = 1 << 20;
    /// No two objects begin in so many bytes.
    const SMALLEST: usize = 16;

    fn new() -> Self {
        Self {
            blocks: HashMap::default(),
            last: (usize::MAX, 0),
            slots: Table::new(),
        }
    }

    fn slot(&mut self, object: Address) -> &mut u32 {
        let address = object.addr();
        let block = address / Self::BLOCK;
        if self.last.0 != block {
            let slots = &mut self.slots;
            let start = self.blocks.entry(block).or_insert_with(|| {
                let start = slots.len();
                slots.extend_with_zeros(Self::BLOCK / Self::SMALLEST);
                start
            });
            self.last = (block, *start);
        }
        &mut self.slots.as_mut()[self.last.1 + address % Self::BLOCK / Self::SMALLEST]
    }
}

/// A hash of numbers that are near each other.
#[derive(Default)]
struct Multiplied(u64);

impl Hasher for Multiplied {
    fn write(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            self.write_usize(usize::from(byte));
        }
    }

    fn write_usize(&mut self, number: usize) {
        const ODD: u64 = 0x9e37_79b9_7f4a_7c15;
        self.0 = (self.0 ^ number as u64).wrapping_mul(ODD);
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

/// A vector in memory of its own, which is given back to the kernel: what malloc() has once given out stays in an image,
/// and changes how it goes on there.
pub struct Table<T: Copy> {
    start: *mut T,
    len: usize,
    capacity: usize,
}

impl<T: Copy> Table<T> {
    const FIRST: usize = 1 << 16;

    pub fn new() -> Self {
        Self {
            start: ptr::NonNull::dangling().as_ptr(),
            len: 0,
            capacity: 0,
        }
    }

    pub fn push(&mut self, value: T) {
        self.reserve(1);
        // SAFETY: there is room for one more.
        unsafe { self.start.add(self.len).write(value) };
        self.len += 1;
    }

    pub fn pop(&mut self) -> Option<T> {
        self.len = self.len.checked_sub(1)?;
        // SAFETY: there was one.
        Some(unsafe { self.start.add(self.len).read() })
    }

    fn reserve(&mut self, more: usize) {
        let needed = self.len + more;
        if needed <= self.capacity {
            return;
        }
        let (old, new) = (self.bytes(), needed.next_power_of_two() * size_of::<T>());
        let new = new.max(Self::FIRST);
        // SAFETY: makes a new mapping, or moves the one that nobody but this table knows.
        let start = unsafe {
            if old == 0 {
                let protection = libc::PROT_READ | libc::PROT_WRITE;
                let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
                libc::mmap(ptr::null_mut(), new, protection, flags, -1, 0)
            } else {
                libc::mremap(self.start.cast(), old, new, libc::MREMAP_MAYMOVE)
            }
        };
        assert!(start != libc::MAP_FAILED, "there is no memory left");
        self.start = start.cast();
        self.capacity = new / size_of::<T>();
    }

    fn bytes(&self) -> usize {
        self.capacity * size_of::<T>()
    }
}

impl Table<u32> {
    pub fn extend_with_zeros(&mut self, count: usize) {
        self.reserve(count);
        // New memory is zero, and only these tables are never made shorter.
        self.len += count;
    }
}

impl<T: Copy> Deref for Table<T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        // SAFETY: so many values were written, or are zero.
        unsafe { std::slice::from_raw_parts(self.start, self.len) }
    }
}

impl<T: Copy> AsMut<[T]> for Table<T> {
    fn as_mut(&mut self) -> &mut [T] {
        // SAFETY: as above.
        unsafe { std::slice::from_raw_parts_mut(self.start, self.len) }
    }
}

impl<T: Copy> FromIterator<T> for Table<T> {
    fn from_iter<I: IntoIterator<Item = T>>(values: I) -> Self {
        let mut table = Self::new();
        table.extend(values);
        table
    }
}

impl<T: Copy> Extend<T> for Table<T> {
    fn extend<I: IntoIterator<Item = T>>(&mut self, values: I) {
        for value in values {
            self.push(value);
        }
    }
}

impl<T: Copy> Drop for Table<T> {
    fn drop(&mut self) {
        if self.capacity > 0 {
            // SAFETY: it is the table's own mapping.
            unsafe { libc::munmap(self.start.cast(), self.bytes()) };
        }
    }
}
