//! Memory that is only taken, and given back as a whole: a launch takes less than a millisecond.

use core::alloc::{GlobalAlloc, Layout};
use core::ffi::c_void;
use core::ptr;
use core::sync::atomic::{AtomicUsize, Ordering};

use rustix::mm::{MapFlags, ProtFlags, mmap_anonymous, munmap};
use startup_image::places::HEAP;

struct Heap {
    /// The next free address; zero before anything was taken.
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

// SAFETY: addresses are given out once, inside of what is mapped; there is one thread.
unsafe impl GlobalAlloc for Heap {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let mut next = self.next.load(Ordering::Relaxed);
        if next == 0 {
            let flags = MapFlags::PRIVATE | MapFlags::NORESERVE | MapFlags::FIXED_NOREPLACE;
            // SAFETY: takes no address that is in use.
            let mapped = unsafe {
                mmap_anonymous(start(), BYTES, ProtFlags::READ | ProtFlags::WRITE, flags)
            };
            // A kernel before 4.17 takes the address for a wish.
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

/// Gives all of it back.
///
/// # Safety
/// Nobody has anything of it any more.
pub unsafe fn release() {
    if ALLOCATOR.next.swap(0, Ordering::Relaxed) != 0 {
        // SAFETY: the caller knows that nobody uses it any more. A failure leaves it mapped, which harms nobody.
        let _ = unsafe { munmap(start(), BYTES) };
    }
}
