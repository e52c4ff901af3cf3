//! Vectors that malloc(3) knows nothing of.

use std::ops::{Deref, Range};
use std::ptr;

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

    /// Where it is.
    pub fn memory(&self) -> Range<u64> {
        let start = self.start.addr() as u64;
        start..start + self.bytes() as u64
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
