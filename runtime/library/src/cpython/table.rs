//! Vectors that do not use malloc(3).

use std::mem::ManuallyDrop;
use std::ops::{Deref, Range};
use std::ptr;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use memmap2::{MmapMut, RemapOptions};
use startup_image::PAGE;

const NO_MEMORY: &str = "there is no memory left";

/// The alignment of a table that [`pack`] has moved.
const PACKED_ALIGNMENT: usize = 16;

/// A vector in a mapping of its own, which is returned to the kernel. Memory from malloc() would stay in an image, and
/// would change where later allocations are placed.
pub struct Table<T: Copy> {
    start: *mut T,
    len: usize,
    /// The memory to which `start` points. None if the values are in memory shared with other tables ([`pack`]).
    memory: Option<MmapMut>,
}

impl<T: Copy> Table<T> {
    const FIRST: usize = 1 << 16;

    pub fn new() -> Self {
        Self {
            start: ptr::NonNull::dangling().as_ptr(),
            len: 0,
            memory: None,
        }
    }

    pub fn copy_of(values: &[T]) -> Self {
        let mut table = Self::new();
        table.reserve(values.len());
        // SAFETY: there is room for the values, in memory that only this table uses.
        unsafe { ptr::copy_nonoverlapping(values.as_ptr(), table.start, values.len()) };
        table.len = values.len();
        table
    }

    pub fn push(&mut self, value: T) {
        self.reserve(1);
        // SAFETY: there is room for one more value.
        unsafe { self.start.add(self.len).write(value) };
        self.len += 1;
    }

    pub fn pop(&mut self) -> Option<T> {
        self.len = self.len.checked_sub(1)?;
        // SAFETY: the value was written, since the length was not 0.
        Some(unsafe { self.start.add(self.len).read() })
    }

    fn reserve(&mut self, more: usize) {
        let needed = self.len + more;
        if needed > self.capacity() {
            self.grow(needed);
        }
    }

    fn capacity(&self) -> usize {
        let bytes = self.memory.as_ref().map_or(0, |memory| memory.len());
        bytes / size_of::<T>()
    }

    /// # Panics
    /// If the kernel provides no more memory.
    #[cold]
    fn grow(&mut self, needed: usize) {
        let bytes = needed.next_power_of_two() * size_of::<T>();
        let bytes = bytes.max(Self::FIRST);
        let former = self.memory.take();
        let mut memory = match (Kept::take(bytes), former) {
            (None, Some(mut former)) => {
                let may_move = RemapOptions::new().may_move(true);
                // SAFETY: `start`, the only pointer to this memory, is replaced below.
                unsafe { former.remap(bytes, may_move) }.expect(NO_MEMORY);
                former
            }
            (kept, former) => {
                let mut memory = kept.unwrap_or_else(|| new_memory(bytes));
                // SAFETY: the new memory is long enough and does not overlap the former one.
                unsafe {
                    ptr::copy_nonoverlapping(self.start, memory.as_mut_ptr().cast(), self.len);
                }
                Kept::give_back(former);
                memory
            }
        };
        self.start = memory.as_mut_ptr().cast();
        self.memory = Some(memory);
    }
}

fn new_memory(bytes: usize) -> MmapMut {
    MmapMut::map_anon(bytes).expect(NO_MEMORY)
}

impl<T: Copy> Default for Table<T> {
    fn default() -> Self {
        Self::new()
    }
}

/// A type whose value is 0 or false if all bytes are 0.
pub trait Zero: Copy {}
impl Zero for u32 {}
impl Zero for bool {}
impl Zero for (usize, u32) {}

impl<T: Zero> Table<T> {
    pub fn zeros(count: usize) -> Self {
        let mut table = Self::new();
        table.extend_with_zeros(count);
        table
    }

    pub fn extend_with_zeros(&mut self, count: usize) {
        self.reserve(count);
        if Kept::are_kept() {
            // SAFETY: there is room for `count` values, and zeros are valid values.
            unsafe { self.start.add(self.len).write_bytes(0, count) };
        }
        // New memory is zero, and tables of these types are never shortened.
        self.len += count;
    }
}

impl<T: Copy> Deref for Table<T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        // SAFETY: `len` values were written, or are zero.
        unsafe { std::slice::from_raw_parts(self.start, self.len) }
    }
}

impl<T: Copy> AsMut<[T]> for Table<T> {
    fn as_mut(&mut self) -> &mut [T] {
        // SAFETY: as above; the table is borrowed mutably.
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
        Kept::give_back(self.memory.take());
    }
}

/// A table of any element type that can be moved into memory which it shares with other tables.
pub trait Pack {
    /// The number of bytes that the values need there.
    fn packed_bytes(&self) -> usize;

    /// Moves the values to `start`.
    ///
    /// # Safety
    /// [`Pack::packed_bytes`] bytes from `start` on are writable, and nothing else uses them, now or later.
    unsafe fn move_to(&mut self, start: *mut u8);
}

/// Moves tables that no longer change into one mapping: an image then has one region for all of them instead of two for
/// each. Returns the address range of the mapping.
pub fn pack(tables: &mut [&mut dyn Pack]) -> Range<u64> {
    let bytes: usize = tables.iter().map(|table| table.packed_bytes()).sum();
    let bytes = bytes.max(1).next_multiple_of(PAGE as usize);
    // The memory is never unmapped, since it is not known when the last of the tables is dropped.
    let mut memory = ManuallyDrop::new(new_memory(bytes));
    let mut used = 0;
    for table in tables {
        let bytes = table.packed_bytes();
        // SAFETY: the memory has room for all tables one after the other, and nothing else uses it.
        unsafe { table.move_to(memory.as_mut_ptr().add(used)) };
        used += bytes;
    }
    let start = memory.as_ptr().addr() as u64;
    start..start + bytes as u64
}

impl<T: Copy> Pack for Table<T> {
    fn packed_bytes(&self) -> usize {
        const { assert!(align_of::<T>() <= PACKED_ALIGNMENT) };
        (self.len * size_of::<T>()).next_multiple_of(PACKED_ALIGNMENT)
    }

    unsafe fn move_to(&mut self, start: *mut u8) {
        let (start, len): (*mut T, usize) = (start.cast(), self.len);
        // SAFETY: the caller provides enough memory, which nothing else uses.
        unsafe { ptr::copy_nonoverlapping(self.start, start, len) };
        *self = Self {
            start,
            len,
            memory: None,
        };
    }
}

/// While this exists, the memory of dropped tables is kept for new tables: overwriting old pages is faster than having
/// the kernel make new ones. No image may be taken during this time.
pub struct Kept;

static IS_KEPT: AtomicBool = AtomicBool::new(false);
static KEPT: Mutex<Vec<MmapMut>> = Mutex::new(Vec::new());

impl Kept {
    pub fn begin() -> Self {
        IS_KEPT.store(true, Ordering::Relaxed);
        Self
    }

    fn are_kept() -> bool {
        IS_KEPT.load(Ordering::Relaxed)
    }

    /// Keeps memory for later tables, or unmaps it.
    fn give_back(memory: Option<MmapMut>) {
        if Self::are_kept()
            && let Ok(mut kept) = KEPT.lock()
        {
            kept.extend(memory);
        }
    }

    /// Takes the smallest kept memory that is large enough.
    fn take(bytes: usize) -> Option<MmapMut> {
        if !Self::are_kept() {
            return None;
        }
        let mut kept = KEPT.lock().ok()?;
        let large_enough = kept.iter().enumerate();
        let large_enough = large_enough.filter(|(_, memory)| memory.len() >= bytes);
        let (index, _) = large_enough.min_by_key(|(_, memory)| memory.len())?;
        Some(kept.swap_remove(index))
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        IS_KEPT.store(false, Ordering::Relaxed);
        drop(KEPT.lock().map(|mut kept| std::mem::take(&mut *kept)));
    }
}
