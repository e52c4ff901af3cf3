//! The interpreter's entry point.
//!
//! The interpreter's file asks for no dynamic linker (`ld --no-dynamic-linker`), so the kernel starts this code first.
//! If a startup image fits, this code restores it, and no library has to be loaded. Otherwise it loads and enters the
//! [`dynamic_linker`], as the kernel would have done, and the interpreter starts in the ordinary way.
//!
//! When this code runs, nothing is relocated, and there is no C library and no thread pointer. So the launcher is
//! linked into an object of its own that may refer to no other symbols than the two that `xtask` allows.

#![cfg(target_arch = "x86_64")]
// Lints and editors build the crate with the standard library, because it has what unwinding needs.
#![cfg_attr(panic = "abort", no_std)]

mod dynamic_linker;
#[cfg(panic = "abort")]
mod heap;
#[macro_use]
#[cfg(panic = "abort")]
mod memory_functions;

use core::arch::global_asm;
use core::sync::atomic::{AtomicBool, AtomicPtr, Ordering};

use startup_image::restore::Request;
use startup_image::start::Start;
use startup_image::{background, system_call};

#[cfg(panic = "abort")]
define_memory_functions!("");

/// Bytes of `_PyCDS_refusal` (runtime/library/src/image/restored/refusal.rs).
const REFUSAL_BYTES: usize = 1024;

/// Bytes of `_PyCDS_entries` (runtime/library/src/cache.rs).
const ENTRIES_BYTES: usize = 2048;

unsafe extern "C" {
    /// Why the process is not restored: a text and a NUL. The last byte has a bit for each image that another one should
    /// take the place of.
    static mut _PyCDS_refusal: [u8; REFUSAL_BYTES];
    /// The entries of the cache that this process uses: that of its program and that of base images, each a path and a NUL.
    static mut _PyCDS_entries: [u8; ENTRIES_BYTES];
}

/// The address of the stack that the kernel has made.
static STACK: AtomicPtr<u64> = AtomicPtr::new(core::ptr::null_mut());

/// Whether a startup image is asked for.
static IS_ASKED_FOR: AtomicBool = AtomicBool::new(false);

// The kernel starts a program with zero in rdx. A dynamic linker that runs the program (`ld.so ./python`) passes the
// address of its destructor in rdx (System V ABI, x86-64, 3.4.1).
global_asm!(
    ".globl cds_start",
    "cds_start:",
    "test rdx, rdx",
    "jnz _start",
    "xor ebp, ebp",
    "mov rdi, rsp",
    "call {launch}",
    "ud2",
    launch = sym launch,
);

/// # Safety
/// The stack is as the kernel has made it, and the process has no other thread.
unsafe extern "C" fn launch(stack: *mut u64) -> ! {
    STACK.store(stack, Ordering::Relaxed);
    // SAFETY: the caller passes the stack that the kernel has made, and no other thread runs. All allocated values are
    // dropped before `release()`.
    unsafe {
        let start = Start::at(stack);
        if !background::is_asked_for(&start) {
            launch_image(&start);
        } else if !background::wait() {
            system_call::call(libc::SYS_exit_group as u64, &[0; 6]);
        }
        drop(start);
        #[cfg(panic = "abort")]
        heap::release();
        dynamic_linker::enter(stack)
    }
}

/// Restores an image if the start asks for one and it fits.
///
/// # Safety
/// The same as for [`launch`].
unsafe fn launch_image(start: &Start) {
    let Some(request) = Request::of(start) else {
        return;
    };
    IS_ASKED_FOR.store(true, Ordering::Relaxed);
    if let Some(entries) = &request.entries {
        let program = entries.program.as_deref().unwrap_or_default();
        let base = &entries.base[..];
        if program.len() + base.len() + 2 > ENTRIES_BYTES {
            return;
        }
        // SAFETY: no other thread runs. Both paths and a NUL behind each are shorter than the variable.
        unsafe {
            let place = (&raw mut _PyCDS_entries).cast::<u8>();
            place.copy_from(program.as_ptr(), program.len());
            let place = place.add(program.len() + 1);
            place.copy_from(base.as_ptr(), base.len());
        }
    }
    // SAFETY: no other thread runs, and only the kernel and `heap` have mapped memory.
    let refusals = unsafe { request.restore() };
    refuse(refusals.text.as_bytes(), refusals.lasting);
}

/// Stores the reason where the interpreter reads it.
fn refuse(reason: &[u8], lasting: u8) {
    let bytes = reason.len().min(REFUSAL_BYTES - 2);
    // SAFETY: no other thread runs, and at most `REFUSAL_BYTES - 2` bytes are copied, so that a NUL remains behind the
    // text.
    unsafe {
        let refusal = (&raw mut _PyCDS_refusal).cast::<u8>();
        refusal.copy_from(reason.as_ptr(), bytes);
        refusal.add(REFUSAL_BYTES - 1).write(lasting);
    };
}

/// After an error in this crate, for example without memory, the program starts in the ordinary way.
#[cfg(panic = "abort")]
#[panic_handler]
fn panic(_: &core::panic::PanicInfo) -> ! {
    if IS_ASKED_FOR.load(Ordering::Relaxed) {
        refuse(b"the startup image is not used: internal error", 0);
    }
    // SAFETY: `launch()` has stored the stack of the kernel, and restoring does not panic after it has changed the
    // process.
    unsafe { dynamic_linker::enter(STACK.load(Ordering::Relaxed)) }
}
