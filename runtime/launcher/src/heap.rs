//! An allocator that frees nothing until [`release`] frees all: a launch takes less than a millisecond.

use core::alloc::{GlobalAlloc, Layout};
use core::ffi::c_void;
use core::ptr;
use core::sync::atomic::{AtomicUsize, Ordering};

use rustix::mm::{MapFlags, ProtFlags, mmap_anonymous, munmap};
use startup_image::places::HEAP;

struct Heap {
    /// The next free address; zero before the first allocation.
    next: AtomicUsize,
}

#[global_allocator]
static ALLOCATOR: Heap = Heap {
    next: AtomicUsize::new(0),
};

const BYTES: usize = (HEAP.end - HEAP.start) as usize;

fn start() -> *mut c_void {
    ptr::with_exposed_provenance_mut(HEAP.start as usize)
}

// SAFETY: each address is returned only once and lies in the mapping, and the process has only one thread.
unsafe impl GlobalAlloc for Heap {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let mut next = self.next.load(Ordering::Relaxed);
        if next == 0 {
            let flags = MapFlags::PRIVATE | MapFlags::NORESERVE | MapFlags::FIXED_NOREPLACE;
            // SAFETY: `MAP_FIXED_NOREPLACE` replaces no memory that is in use.
            let mapped = unsafe {
                mmap_anonymous(start(), BYTES, ProtFlags::READ | ProtFlags::WRITE, flags)
            };
            // A kernel before 4.17 treats the address as a hint.
            if !mapped.is_ok_and(|mapped| mapped == start()) {
                return ptr::null_mut();
            }
            next = HEAP.start as usize;
        }
        let taken = next.next_multiple_of(layout.align());
        match taken.checked_add(layout.size()) {
            Some(end) if end <= HEAP.end as usize => {
                self.next.store(end, Ordering::Relaxed);
                ptr::with_exposed_provenance_mut(taken)
            }
            _ => ptr::null_mut(),
        }
    }

    unsafe fn dealloc(&self, _memory: *mut u8, _layout: Layout) {}
}

/// Frees all memory.
///
/// # Safety
/// Nothing refers to memory of this allocator any more.
pub unsafe fn release() {
    if ALLOCATOR.next.swap(0, Ordering::Relaxed) != 0 {
        // SAFETY: the caller guarantees that nothing uses the memory. If the call fails, the memory stays mapped, which
        // does no harm.
        let _ = unsafe { munmap(start(), BYTES) };
    }
}
