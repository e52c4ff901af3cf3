//! The last steps of the new process and the first of the frozen process: system calls that replace the memory of the
//! process.
//!
//! Meanwhile there is no heap, no C library, no thread pointer and no data section. The steps and the stack lie in
//! [`places::HEAP`], and the code lies in the program's text, which both processes have in common.

use core::arch::{asm, global_asm};

use crate::steps::{Action, Step};
use crate::system_call::{call, error_of};
use crate::{bounds, places};

/// Registers of the frozen thread that a function must preserve (System V ABI, x86-64).
#[repr(C)]
pub struct Context {
    /// rbx, rbp, r12 to r15, rsp, rip; then mxcsr and the x87 control word.
    words: [u64; 9],
}

const _: () = assert!(size_of::<Context>() as u64 == bounds::CONTEXT_BYTES);

impl Context {
    /// A context before [`freeze`] has written it.
    pub const EMPTY: Self = Self { words: [0; 9] };
}

// `cds_image_freeze(context)` saves the registers and stops the process. It returns once, in the restored process.
// `cds_image_thaw(context, start, bytes)` makes it return. First it unmaps the memory that the steps were in.
global_asm!(
    ".globl cds_image_freeze",
    "cds_image_freeze:",
    "mov [rdi], rbx",
    "mov [rdi + 8], rbp",
    "mov [rdi + 16], r12",
    "mov [rdi + 24], r13",
    "mov [rdi + 32], r14",
    "mov [rdi + 40], r15",
    "lea rax, [rsp + 8]",
    "mov [rdi + 48], rax",
    "mov rax, [rsp]",
    "mov [rdi + 56], rax",
    "stmxcsr [rdi + 64]",
    "fnstcw [rdi + 68]",
    "2:",
    "mov eax, {getpid}",
    "syscall",
    "mov edi, eax",
    "mov esi, {stop}",
    "mov eax, {kill}",
    "syscall",
    "jmp 2b",
    ".globl cds_image_thaw",
    "cds_image_thaw:",
    "mov rbx, rdi",
    "mov rdi, rsi",
    "mov rsi, rdx",
    "mov eax, {munmap}",
    "syscall",
    "mov rdi, rbx",
    "ldmxcsr [rdi + 64]",
    "fldcw [rdi + 68]",
    "mov rbx, [rdi]",
    "mov rbp, [rdi + 8]",
    "mov r12, [rdi + 16]",
    "mov r13, [rdi + 24]",
    "mov r14, [rdi + 32]",
    "mov r15, [rdi + 40]",
    "mov rsp, [rdi + 48]",
    "jmp [rdi + 56]",
    munmap = const libc::SYS_munmap,
    getpid = const libc::SYS_getpid,
    kill = const libc::SYS_kill,
    stop = const libc::SIGSTOP,
);

unsafe extern "C" {
    fn cds_image_freeze(context: *mut Context);
    fn cds_image_thaw(context: u64, start: u64, bytes: u64) -> !;
}

/// Stops the process, which never continues. The call returns in each process that is restored from its memory.
///
/// # Safety
/// The process has no other thread, and no other code uses the context.
#[inline(never)]
pub unsafe fn freeze(context: *mut Context) {
    // SAFETY: the context can be written to, and the code restores all registers that the ABI wants preserved.
    unsafe { cds_image_freeze(context) }
}

/// Executes the steps on another stack and continues as the frozen process. After the steps, its [`Context`] is at the
/// address `context`.
///
/// # Safety
/// The steps replace the memory of this process by that of the frozen process, except the steps, the stack and the
/// program's text. Steps and stack lie in [`places::HEAP`], and nothing there is needed afterwards.
pub unsafe fn jump(steps: &[Step], context: u64, stack_top: u64) -> ! {
    // SAFETY: the caller passes a stack that nothing uses, and `follow` does not return.
    unsafe {
        asm!(
            "mov rsp, {stack}",
            "xor ebp, ebp",
            "call {follow}",
            "ud2",
            stack = in(reg) stack_top,
            follow = sym follow,
            in("rdi") steps.as_ptr(),
            in("rsi") steps.len(),
            in("rdx") context,
            options(noreturn),
        )
    }
}

unsafe extern "C" fn follow(steps: *const Step, count: usize, context: u64) -> ! {
    let mut last = 0;
    let mut index = 0;
    while index < count {
        // SAFETY: there are `count` steps, and `index` is lower.
        let step = unsafe { &*steps.add(index) };
        let arguments = &step.arguments;
        match step.action {
            Action::Must(number) | Action::MustReturn(number) | Action::May(number) => {
                // SAFETY: the caller of `jump` guarantees that the steps turn this memory into that of the frozen
                // process.
                last = unsafe { call(number, arguments) };
                let is_refused = match step.action {
                    Action::Must(_) => error_of(last).is_some(),
                    Action::MustReturn(_) => last != arguments[5],
                    _ => false,
                };
                if is_refused {
                    give_up();
                }
            }
            // SAFETY: the addresses are those of variables of the frozen process.
            Action::Write32 => unsafe {
                (arguments[0] as *mut u32).write_volatile(arguments[1] as u32);
            },
            // SAFETY: as above.
            Action::Write64 => unsafe {
                (arguments[0] as *mut u64).write_volatile(arguments[1]);
            },
            // SAFETY: as above.
            Action::Store32 => unsafe { (arguments[0] as *mut u32).write_volatile(last as u32) },
        }
        index += 1;
    }
    let heap = places::HEAP;
    // SAFETY: the memory is now that of the frozen process, and the registers in the context belong to it.
    unsafe { cds_image_thaw(context, heap.start, heap.end - heap.start) }
}

/// Ends the process: at this point neither this process nor the frozen process is complete.
fn give_up() -> ! {
    const MESSAGE: &[u8] = b"cds: the kernel refused a step of restoring the startup image\n";
    let text = [2, MESSAGE.as_ptr() as u64, MESSAGE.len() as u64, 0, 0, 0];
    // SAFETY: the text is a constant in the program's file, which stays mapped.
    unsafe {
        call(libc::SYS_write as u64, &text);
        loop {
            call(libc::SYS_exit_group as u64, &[70, 0, 0, 0, 0, 0]);
        }
    }
}
