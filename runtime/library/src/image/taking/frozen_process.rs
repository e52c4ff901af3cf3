//! What the kernel keeps for the process whose memory is written, and where the C library has what each process has of its own.

use std::io::{self, Error};

use startup_image::format::{Process, Vdso};
use startup_image::trampoline::{self, Context};

use super::memory_dump::Memory;
use super::memory_map::Mapping;
use super::threads::thread_pointer;
use crate::image::restored::start::RESTORED;

/// Where the frozen process has its registers, for those that are restored.
static mut CONTEXT: Context = Context::EMPTY;

/// Saves the registers, and stops this process; returns in those that are restored.
///
/// # Safety
/// There are no other threads.
pub unsafe fn freeze() {
    // SAFETY: nobody else uses the variable.
    unsafe { trampoline::freeze(&raw mut CONTEXT) };
}

/// What the kernel knows of a frozen child, most of which it has from its parent.
///
/// # Errors
/// The kernel does not tell, or the child has not frozen itself.
pub fn of<'a>(
    child: i32,
    mappings: &[Mapping],
    memory: &Memory,
    vdso_bytes: &'a [u8],
) -> io::Result<Process<'a>> {
    const PR_GET_TID_ADDRESS: i32 = 40;
    let missing = || Error::other("/proc/PID/stat is not understood");
    let stat = std::fs::read_to_string(format!("/proc/{child}/stat"))?;
    let fields: Vec<&str> = stat
        .rsplit(')')
        .next()
        .ok_or_else(missing)?
        .split_whitespace()
        .collect();
    // Fields are counted from 1, and the third is the first behind the name (proc(5)).
    let field = |number: usize| -> io::Result<u64> {
        fields
            .get(number - 3)
            .and_then(|field| field.parse().ok())
            .ok_or_else(missing)
    };
    let named = |name: &str| mappings.iter().find(|mapping| mapping.name == name);
    let start_heap = field(47)?;
    let vdso = named("[vdso]").ok_or_else(|| Error::other("there is no vdso"))?;
    let parts = mappings
        .iter()
        .filter(|mapping| mapping.name.starts_with("[vvar") || mapping.name == "[vdso]");
    let mut tid_address = 0_u64;
    let (mut head, mut length) = (0_u64, 0_u64);
    // SAFETY: all of these only ask.
    unsafe {
        if libc::prctl(PR_GET_TID_ADDRESS, &raw mut tid_address) != 0 {
            return Err(Error::other(
                "the kernel does not tell where threads have their ids (CONFIG_CHECKPOINT_RESTORE)",
            ));
        }
        libc::syscall(libc::SYS_get_robust_list, 0, &raw mut head, &raw mut length);
    }
    const SS_DISABLE: u64 = libc::SS_DISABLE as u64;
    let mut stack = [0, SS_DISABLE, 0];
    // SAFETY: asks for a `stack_t`, which has three words; forked processes have the same.
    unsafe { libc::syscall(libc::SYS_sigaltstack, 0, stack.as_mut_ptr()) };
    let signals = (1..=64_u64).filter_map(|signal| {
        let mut action = [0_u64; 4];
        // SAFETY: asks for the kernel's `struct sigaction`, which has four words.
        let result =
            unsafe { libc::syscall(libc::SYS_rt_sigaction, signal, 0, action.as_mut_ptr(), 8) };
        (result == 0 && action[..2] != [0, 0]).then_some((signal, action))
    });
    // The frozen thread's registers say how much of the stack it needs; all of it is kept.
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

/// Kinds and places of the values of the auxiliary vector, which lies on the stack of a process behind its arguments and its
/// environment.
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

/// Where the C library registered its restartable sequences (`__rseq_offset`, glibc 2.35), if the kernel let it.
fn own_rseq() -> Option<u64> {
    // SAFETY: the symbols are constants of the C library; the area is a part of the thread's control block, and its
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
