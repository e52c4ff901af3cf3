//! The state that the kernel keeps for the frozen process, except its memory.

use rustix::mm::MremapFlags;

use crate::arguments::{Arguments, LAYOUT_WORDS};
use crate::bounds::RSEQ_BYTES;
use crate::format::Process;
use crate::signals::{SIGNAL_SET_BYTES, action_of};
use crate::steps::{Action, Steps};
use crate::system_call::{call, error_of};
use crate::{address, places};

/// The signature that the C library uses (glibc's sysdeps/unix/sysv/linux/rseq-internal.h).
const RSEQ_SIGNATURE: u64 = 0x5305_3053;
/// arch_prctl(2)
const ARCH_SET_FS: u64 = 0x1002;
const ARCH_GET_FS: u64 = 0x1003;

/// The most steps that [`add_steps`] adds, without those for signals and parts of the vdso.
pub const STEPS: usize = 40;

/// Makes the system calls of the steps in a way that changes nothing, because a filter (seccomp(2)) may refuse them.
///
/// # Errors
/// The name of a system call that is refused.
pub fn check(process: &Process) -> Result<(), &'static str> {
    let accepted = |name: &'static str, number: libc::c_long, arguments: [u64; 6]| {
        // SAFETY: each call passes a value that the kernel already has, or that the C library sets again at an ordinary
        // start.
        let result = unsafe { call(number as u64, &arguments) };
        match error_of(result) {
            None => Ok(()),
            Some(_) => Err(name),
        }
    };
    // The restored process needs brk(2) to grow its heap.
    accepted("brk", libc::SYS_brk, [0; 6])?;
    let mut thread_pointer = 0_u64;
    let place = &raw mut thread_pointer as u64;
    accepted(
        "arch_prctl",
        libc::SYS_arch_prctl,
        [ARCH_GET_FS, place, 0, 0, 0, 0],
    )?;
    accepted(
        "arch_prctl",
        libc::SYS_arch_prctl,
        [ARCH_SET_FS, thread_pointer, 0, 0, 0, 0],
    )?;
    let tid_address = process.tid_address;
    accepted(
        "set_tid_address",
        libc::SYS_set_tid_address,
        [tid_address, 0, 0, 0, 0, 0],
    )?;
    if process.alternate_stack.is_some() {
        let none = [0, libc::SS_DISABLE as u64, 0];
        let place = none.as_ptr() as u64;
        accepted("sigaltstack", libc::SYS_sigaltstack, [place, 0, 0, 0, 0, 0])?;
    }
    if let Some((signal, _)) = process.signals.first() {
        let action = action_of(*signal).ok_or("rt_sigaction")?;
        let place = action.as_ptr() as u64;
        let arguments = [*signal, place, 0, SIGNAL_SET_BYTES, 0, 0];
        accepted("rt_sigaction", libc::SYS_rt_sigaction, arguments)?;
    }
    Ok(())
}

/// Moves the vdso, which is at `vdso`, out of the way, and tells the kernel where the frozen process has its code, heap
/// and arguments.
///
/// # Errors
/// A text that says what the kernel refuses. Nothing has changed then.
pub fn take_leave(
    process: &Process,
    vdso: u64,
    layout: &[u64; LAYOUT_WORDS],
) -> Result<(), &'static str> {
    let parts = &process.vdso.parts;
    let move_back = |parts: &[(i64, u64)]| {
        for part in parts {
            move_part(places::VDSO, vdso, part);
        }
    };
    for (index, part) in parts.iter().enumerate() {
        if !move_part(vdso, places::VDSO, part) {
            move_back(&parts[..index]);
            return Err("the kernel refuses to move the vdso (mremap)");
        }
    }
    if !set_layout(layout) {
        move_back(parts);
        return Err("the kernel refuses to move the heap (prctl)");
    }
    Ok(())
}

fn move_part(from: u64, to: u64, (distance, bytes): &(i64, u64)) -> bool {
    let from = address(from.wrapping_add_signed(*distance));
    let to = address(to.wrapping_add_signed(*distance));
    let bytes = *bytes as usize;
    // SAFETY: only the C library calls the code in the vdso, and this process has none yet. Nothing else is mapped at
    // the destination.
    unsafe { rustix::mm::mremap_fixed(from, bytes, bytes, MremapFlags::MAYMOVE, to).is_ok() }
}

/// After this call, the heap must not grow or shrink until the frozen process continues.
fn set_layout(layout: &[u64; LAYOUT_WORDS]) -> bool {
    const PR_SET_MM: u64 = 35;
    const PR_SET_MM_MAP: u64 = 14;
    let (address, bytes) = (layout.as_ptr() as u64, size_of_val(layout) as u64);
    // SAFETY: the kernel only stores the addresses.
    let result = unsafe {
        call(
            libc::SYS_prctl as u64,
            &[PR_SET_MM, PR_SET_MM_MAP, address, bytes, 0, 0],
        )
    };
    error_of(result).is_none()
}

/// Adds the steps that follow when the memory is that of the frozen process.
pub fn add_steps(process: &Process, arguments: &Arguments, ignored: u64, steps: &mut Steps) {
    for (distance, bytes) in &process.vdso.parts {
        let from = places::VDSO.wrapping_add_signed(*distance);
        let to = process.vdso.address.wrapping_add_signed(*distance);
        let flags = (libc::MREMAP_MAYMOVE | libc::MREMAP_FIXED) as u64;
        steps.must(libc::SYS_mremap, [from, *bytes, *bytes, flags, to, 0]);
    }
    steps.must(
        libc::SYS_arch_prctl,
        [ARCH_SET_FS, process.fs_base, 0, 0, 0, 0],
    );
    steps.must(
        libc::SYS_set_tid_address,
        [process.tid_address, 0, 0, 0, 0, 0],
    );
    steps.add(Action::Store32, [process.tid_address, 0, 0, 0, 0, 0]);
    let (head, length) = process.robust_list;
    steps.may(libc::SYS_set_robust_list, [head, length, 0, 0, 0, 0]);
    if let Some(area) = process.rseq {
        // cpu_id_start, cpu_id, rseq_cs, flags (linux/rseq.h)
        for (offset, value) in [(0, 0), (4, u32::MAX), (8, 0), (12, 0), (16, 0)] {
            let arguments = [area + offset, u64::from(value), 0, 0, 0, 0];
            steps.add(Action::Write32, arguments);
        }
        steps.may(libc::SYS_rseq, [area, RSEQ_BYTES, 0, RSEQ_SIGNATURE, 0, 0]);
    }
    if let Some(stack) = &process.alternate_stack {
        let address = stack.as_ptr() as u64;
        steps.must(libc::SYS_sigaltstack, [address, 0, 0, 0, 0, 0]);
    }
    for (signal, action) in &process.signals {
        if ignored & 1 << (signal - 1) != 0 {
            // A signal that is ignored when a process starts stays ignored (nohup, `&` in a shell).
            continue;
        }
        let action = action.as_ptr() as u64;
        let arguments = [*signal, action, 0, SIGNAL_SET_BYTES, 0, 0];
        steps.must(libc::SYS_rt_sigaction, arguments);
    }
    for (place, value) in arguments.moved(process) {
        steps.add(Action::Write64, [place, value, 0, 0, 0, 0]);
    }
    // The fields of a `Restored`, in their order.
    let words = [
        arguments.argc,
        arguments.argv,
        arguments.envp,
        ignored,
        arguments.image.0,
        arguments.image.1,
        arguments.entry.0,
        arguments.entry.1,
        arguments.refusal.0,
        arguments.refusal.1,
        arguments.lasting,
    ];
    for (word, offset) in words.into_iter().zip((0..).step_by(size_of::<u64>())) {
        let address = process.restored + offset;
        steps.add(Action::Write64, [address, word, 0, 0, 0, 0]);
    }
}
