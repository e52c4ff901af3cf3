//! The interpreter's entry point.
//!
//! The interpreter's file asks for no dynamic linker (`ld --no-dynamic-linker`), so that the kernel starts this code at
//! once. If a startup image fits, it takes the process's place, and neither the C library nor any other has to be
//! loaded. Otherwise the [`dynamic_linker`] is loaded and entered, as the kernel would have done it, and the interpreter
//! starts as usual.
//!
//! Nothing is relocated yet, there is no C library and no thread pointer: this is made into an object of its own that
//! may refer to no other symbols than the two that `xtask` knows of.

#![cfg(target_arch = "x86_64")]
// Lints and editors build it with the standard library, since that has what unwinding needs.
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

#[cfg(panic = "abort")]
define_memory_functions!("");

/// Bytes of `_PyCDS_refusal` (runtime/library/src/image/restored/refusal.rs).
const REFUSAL_BYTES: usize = 1024;

unsafe extern "C" {
    /// Why the process is not restored: text, and a NUL; the last byte says whether no process would be.
    static mut _PyCDS_refusal: [u8; REFUSAL_BYTES];
}

/// What the kernel has put on the stack.
static STACK: AtomicPtr<u64> = AtomicPtr::new(core::ptr::null_mut());

/// Whether a startup image is asked for.
static IS_ASKED_FOR: AtomicBool = AtomicBool::new(false);

// The kernel starts a program with zero in rdx, a dynamic linker that has been asked to run it (`ld.so ./python`) with
// the address of its destructor (System V ABI, x86-64, 3.4.1).
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
/// The stack is as the kernel has made it, and nothing else runs.
unsafe extern "C" fn launch(stack: *mut u64) -> ! {
    STACK.store(stack, Ordering::Relaxed);
    // SAFETY: the caller passes the stack that the kernel has made, and nothing else runs; all that is allocated is
    // dropped before the process goes on.
    unsafe {
        launch_image(&Start::at(stack));
        #[cfg(panic = "abort")]
        heap::release();
        dynamic_linker::enter(stack)
    }
}

/// Restores an image, if one is asked for and fits.
///
/// # Safety
/// That of [`launch`].
unsafe fn launch_image(start: &Start) {
    let Some(request) = Request::of(start) else {
        return;
    };
    IS_ASKED_FOR.store(true, Ordering::Relaxed);
    // SAFETY: nothing else runs, as for `launch()`.
    if let Some(refusal) = unsafe { request.restore() } {
        refuse(refusal.text.as_bytes(), refusal.is_of_everybody);
    }
}

/// Tells the interpreter.
fn refuse(reason: &[u8], is_of_everybody: bool) {
    let bytes = reason.len().min(REFUSAL_BYTES - 2);
    // SAFETY: nothing else runs, and what is not written stays zero.
    unsafe {
        let refusal = (&raw mut _PyCDS_refusal).cast::<u8>();
        refusal.copy_from(reason.as_ptr(), bytes);
        refusal
            .add(REFUSAL_BYTES - 1)
            .write(u8::from(is_of_everybody));
    };
}

/// An error in here, as there is without memory, costs the image and not the start.
#[cfg(panic = "abort")]
#[panic_handler]
fn panic(_: &core::panic::PanicInfo) -> ! {
    if IS_ASKED_FOR.load(Ordering::Relaxed) {
        refuse(b"the startup image is not used: internal error", false);
    }
    // SAFETY: restoring does not panic once it has changed something.
    unsafe { dynamic_linker::enter(STACK.load(Ordering::Relaxed)) }
}
