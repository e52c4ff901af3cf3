//! System calls without a C library.

use core::arch::asm;

use rustix::io::Errno;

/// A system call (syscall(2)).
///
/// # Safety
/// What the system call requires.
#[inline(always)]
pub unsafe fn call(number: u64, arguments: &[u64; 6]) -> u64 {
    let result: u64;
    // SAFETY: all registers that the kernel changes are declared, and the caller knows the effect of the call.
    unsafe {
        asm!(
            "syscall",
            inlateout("rax") number => result,
            in("rdi") arguments[0],
            in("rsi") arguments[1],
            in("rdx") arguments[2],
            in("r10") arguments[3],
            in("r8") arguments[4],
            in("r9") arguments[5],
            lateout("rcx") _,
            lateout("r11") _,
            options(nostack),
        );
    }
    result
}

/// The error that a system call has returned (syscall(2)).
#[inline(always)]
pub fn error_of(result: u64) -> Option<Errno> {
    const MOST_ERRNO: i64 = 4095;
    let result = result as i64;
    (-MOST_ERRNO..0)
        .contains(&result)
        .then(|| Errno::from_raw_os_error(-result as i32))
}
