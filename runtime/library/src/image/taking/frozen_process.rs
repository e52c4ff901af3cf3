//! The attributes that the kernel keeps for the frozen process, and the places of per-process data of the C library.

use std::io::{self, Error};

use startup_image::format::{Process, Vdso};
use startup_image::trampoline::{self, Context};

use super::memory_dump::Memory;
use super::memory_map::Mapping;
use super::threads::thread_pointer;
use crate::image::restored::start::RESTORED;

/// The saved registers of the frozen process. Restored processes continue with them.
static mut CONTEXT: Context = Context::EMPTY;

/// Saves the registers and stops this process. Returns in the restored processes.
///
/// # Safety
/// There are no other threads.
pub unsafe fn freeze() {
    // SAFETY: this is the only thread, and only this function writes to the variable.
    unsafe { trampoline::freeze(&raw mut CONTEXT) };
}

/// The attributes of a frozen child. Most of them are read from this process, from which the child has inherited them.
///
/// # Errors
/// The kernel does not report an attribute, or the child has not saved its registers.
pub fn of<'a>(
    child: i32,
    mappings: &[Mapping],
    memory: &Memory,
    vdso_bytes: &'a [u8],
) -> io::Result<Process<'a>> {
    const PR_GET_TID_ADDRESS: i32 = 40;
    let missing = || Error::other("cannot parse /proc/PID/stat");
    let stat = std::fs::read_to_string(format!("/proc/{child}/stat"))?;
    let fields: Vec<&str> = stat
        .rsplit(')')
        .next()
        .ok_or_else(missing)?
        .split_whitespace()
        .collect();
    // Fields are counted from 1. The third field is the first one after the name (proc(5)).
    let field = |number: usize| -> io::Result<u64> {
        fields
            .get(number - 3)
            .and_then(|field| field.parse().ok())
            .ok_or_else(missing)
    };
    let named = |name: &str| mappings.iter().find(|mapping| mapping.name == name);
    let start_heap = field(47)?;
    let vdso = named("[vdso]").ok_or_else(|| Error::other("the process has no vdso"))?;
    let parts = mappings
        .iter()
        .filter(|mapping| mapping.name.starts_with("[vvar") || mapping.name == "[vdso]");
    let mut tid_address = 0_u64;
    let (mut head, mut length) = (0_u64, 0_u64);
    // SAFETY: the calls only read kernel state, and write to local variables of the right size.
    unsafe {
        if libc::prctl(PR_GET_TID_ADDRESS, &raw mut tid_address) != 0 {
            return Err(Error::other(
                "the kernel does not report where thread ids are (no CONFIG_CHECKPOINT_RESTORE)",
            ));
        }
        libc::syscall(libc::SYS_get_robust_list, 0, &raw mut head, &raw mut length);
    }
    const SS_DISABLE: u64 = libc::SS_DISABLE as u64;
    let mut stack = [0, SS_DISABLE, 0];
    // SAFETY: the kernel writes a `stack_t`, which has three words, to `stack`. The child has inherited the same
    // values.
    unsafe { libc::syscall(libc::SYS_sigaltstack, 0, stack.as_mut_ptr()) };
    let signals = (1..=64_u64).filter_map(|signal| {
        let mut action = [0_u64; 4];
        // SAFETY: the kernel writes its `struct sigaction`, which has four words, to `action`.
        let result =
            unsafe { libc::syscall(libc::SYS_rt_sigaction, signal, 0, action.as_mut_ptr(), 8) };
        (result == 0 && action[..2] != [0, 0]).then_some((signal, action))
    });
    // The image keeps the whole stack, so the saved stack pointer is not needed here. This only checks the registers.
    let context = memory.read(&raw const CONTEXT as u64, size_of::<Context>() as u64)?;
    if context.iter().all(|&byte| byte == 0) {
        return Err(Error::other("the child did not save its registers"));
    }
    Ok(Process {
        fs_base: thread_pointer(),
        tid_address,
        robust_list: (head, length),
        rseq: own_rseq(),
        code: (field(26)?, field(27)?),
        data: (field(45)?, field(46)?),
        heap: (
            start_heap,
            named("[heap]").map_or(start_heap, |heap| heap.end),
        ),
        start_stack: field(28)?,
        auxiliary: auxiliary(memory, field(28)?)?,
        vdso: Vdso {
            address: vdso.start,
            bytes: vdso_bytes,
            parts: parts
                .map(|part| {
                    (
                        part.start.wrapping_sub(vdso.start) as i64,
                        part.end - part.start,
                    )
                })
                .collect(),
        },
        alternate_stack: (stack[1] & SS_DISABLE == 0).then(|| Box::new(stack)),
        signals: signals.collect(),
        context: &raw const CONTEXT as u64,
        restored: &raw const RESTORED as u64,
    })
}

/// The kinds and addresses of the values of the auxiliary vector. The vector is on the stack, after the arguments and
/// the environment.
fn auxiliary(memory: &Memory, start_stack: u64) -> io::Result<Vec<(u64, u64)>> {
    const WORD: u64 = size_of::<u64>() as u64;
    let word = |place: u64| -> io::Result<u64> {
        let bytes = memory.read(place, WORD)?;
        Ok(bytes.try_into().map_or(0, u64::from_ne_bytes))
    };
    let mut place = start_stack + (word(start_stack)? + 2) * WORD;
    while word(place)? != 0 {
        place += WORD;
    }
    let mut values = Vec::new();
    loop {
        place += WORD;
        match word(place)? {
            libc::AT_NULL => return Ok(values),
            kind => values.push((kind, place + WORD)),
        }
        place += WORD;
    }
}

/// The address at which the C library has registered its restartable sequences (`__rseq_offset`, glibc 2.35); none if
/// the kernel has refused it.
fn own_rseq() -> Option<u64> {
    // SAFETY: the symbols are constants of the C library. The area is a part of the control block of this thread. Its
    // second word says whether it is registered (linux/rseq.h).
    unsafe {
        let offset = libc::dlsym(libc::RTLD_DEFAULT, c"__rseq_offset".as_ptr()).cast::<isize>();
        let size = libc::dlsym(libc::RTLD_DEFAULT, c"__rseq_size".as_ptr()).cast::<u32>();
        if offset.is_null() || size.is_null() || *size == 0 {
            return None;
        }
        let area = thread_pointer().wrapping_add_signed(*offset as i64);
        let processor = (area as *const i32).add(1).read_volatile();
        (processor >= 0).then_some(area)
    }
}
