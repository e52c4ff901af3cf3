//! Vectors that malloc(3) knows nothing of.

use std::ops::{Deref, Range};
use std::ptr;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use startup_image::PAGE;

/// Where a table begins that [`pack`] has moved is a multiple of this.
const PACKED_ALIGNMENT: usize = 16;

/// A vector in memory of its own, which is given back to the kernel: what malloc() has once given out stays in an image,
/// and changes how it goes on there.
pub struct Table<T: Copy> {
    start: *mut T,
    len: usize,
    /// 0 if the memory is not its own ([`pack`]).
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

    pub fn copy_of(values: &[T]) -> Self {
        let mut table = Self::new();
        table.reserve(values.len());
        // SAFETY: there is room for them, in memory that nobody else has.
        unsafe { ptr::copy_nonoverlapping(values.as_ptr(), table.start, values.len()) };
        table.len = values.len();
        table
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
        if needed > self.capacity {
            self.grow(needed);
        }
    }

    #[cold]
    fn grow(&mut self, needed: usize) {
        let (old, new) = (self.bytes(), needed.next_power_of_two() * size_of::<T>());
        let new = new.max(Self::FIRST);
        let mapping = match Kept::take(new) {
            Some(kept) => kept,
            None if old == 0 => Mapping::new(new),
            None => {
                // SAFETY: moves a mapping that nobody but this table knows.
                let start =
                    unsafe { libc::mremap(self.start.cast(), old, new, libc::MREMAP_MAYMOVE) };
                assert!(start != libc::MAP_FAILED, "there is no memory left");
                self.start = start.cast();
                self.capacity = new / size_of::<T>();
                return;
            }
        };
        let start: *mut T = mapping.start.cast();
        // SAFETY: this memory is long enough, and nobody else has it.
        unsafe { ptr::copy_nonoverlapping(self.start, start, self.len) };
        let former = std::mem::replace(&mut self.start, start);
        Mapping::give_back(former.cast(), old);
        self.capacity = mapping.bytes / size_of::<T>();
    }

    fn bytes(&self) -> usize {
        self.capacity * size_of::<T>()
    }
}

impl<T: Copy> Default for Table<T> {
    fn default() -> Self {
        Self::new()
    }
}

/// What is 0, or false, if all of its bytes are 0.
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
            // SAFETY: there is room for so many, for which zeros are values.
            unsafe { self.start.add(self.len).write_bytes(0, count) };
        }
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
        Mapping::give_back(self.start.cast(), self.bytes());
    }
}

/// A table of any kind that can be moved into memory which it shares with others.
pub trait Pack {
    /// What its values need there.
    fn packed_bytes(&self) -> usize;

    /// Moves the values.
    ///
    /// # Safety
    /// So many bytes from `start` on are writable, and nobody else has them, now or later.
    unsafe fn move_to(&mut self, start: *mut u8);
}

/// Moves tables that stay as they are into one mapping, which is never given back: an image has one region for all, not
/// two for each. Returns where it is.
pub fn pack(tables: &mut [&mut dyn Pack]) -> Range<u64> {
    let bytes: usize = tables.iter().map(|table| table.packed_bytes()).sum();
    let mapping = Mapping::new(bytes.max(1).next_multiple_of(PAGE as usize));
    let mut used = 0;
    for table in tables {
        let bytes = table.packed_bytes();
        // SAFETY: the mapping has room for all of them, one behind the other, and nobody else has it.
        unsafe { table.move_to(mapping.start.add(used)) };
        used += bytes;
    }
    let start = mapping.start.addr() as u64;
    start..start + mapping.bytes as u64
}

impl<T: Copy> Pack for Table<T> {
    fn packed_bytes(&self) -> usize {
        const { assert!(align_of::<T>() <= PACKED_ALIGNMENT) };
        (self.len * size_of::<T>()).next_multiple_of(PACKED_ALIGNMENT)
    }

    unsafe fn move_to(&mut self, start: *mut u8) {
        let (start, len): (*mut T, usize) = (start.cast(), self.len);
        // SAFETY: the caller has so much memory, which nobody else has.
        unsafe { ptr::copy_nonoverlapping(self.start, start, len) };
        *self = Self {
            start,
            len,
            capacity: 0,
        };
    }
}

/// Memory of a table, or of several.
struct Mapping {
    start: *mut u8,
    bytes: usize,
}

// SAFETY: nobody else has it.
unsafe impl Send for Mapping {}

impl Mapping {
    fn new(bytes: usize) -> Self {
        let protection = libc::PROT_READ | libc::PROT_WRITE;
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
        // SAFETY: takes no address that is in use.
        let start = unsafe { libc::mmap(ptr::null_mut(), bytes, protection, flags, -1, 0) };
        assert!(start != libc::MAP_FAILED, "there is no memory left");
        let start = start.cast();
        Self { start, bytes }
    }

    /// `bytes` is zero if there is none.
    fn give_back(start: *mut u8, bytes: usize) {
        if bytes == 0 || Kept::put(Self { start, bytes }) {
            return;
        }
        // SAFETY: it is a mapping of a table that has no use for it any more.
        unsafe { libc::munmap(start.cast(), bytes) };
    }
}

/// While there is one, memory of tables is kept for others: to have the kernel make pages takes longer than to look at
/// what was in them. No image may be taken meanwhile.
pub struct Kept;

static IS_KEPT: AtomicBool = AtomicBool::new(false);
static KEPT: Mutex<Vec<Mapping>> = Mutex::new(Vec::new());

impl Kept {
    pub fn begin() -> Self {
        IS_KEPT.store(true, Ordering::Relaxed);
        Self
    }

    fn are_kept() -> bool {
        IS_KEPT.load(Ordering::Relaxed)
    }

    fn put(mapping: Mapping) -> bool {
        if !Self::are_kept() {
            return false;
        }
        let Ok(mut kept) = KEPT.lock() else {
            return false;
        };
        kept.push(mapping);
        true
    }

    /// The smallest that is large enough.
    fn take(bytes: usize) -> Option<Mapping> {
        if !Self::are_kept() {
            return None;
        }
        let mut kept = KEPT.lock().ok()?;
        let large_enough = kept.iter().enumerate();
        let large_enough = large_enough.filter(|(_, mapping)| mapping.bytes >= bytes);
        let (index, _) = large_enough.min_by_key(|(_, mapping)| mapping.bytes)?;
        Some(kept.swap_remove(index))
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        IS_KEPT.store(false, Ordering::Relaxed);
        let kept = KEPT.lock().map(|mut kept| std::mem::take(&mut *kept));
        for Mapping { start, bytes } in kept.unwrap_or_default() {
            Mapping::give_back(start, bytes);
        }
    }
}
