//! Actions at signals. A process may be started with ignored signals.

use crate::system_call::{call, error_of};

/// Bytes of the kernel's set of signals.
pub const SIGNAL_SET_BYTES: u64 = 8;

/// The kernel's `struct sigaction`.
pub type SignalAction = [u64; 4];

/// Signals that the C library uses itself (glibc, sysdeps/unix/sysv/linux/internal-signals.h).
const INTERNAL: [u64; 2] = [32, 33];

/// The ignored signals, without those that the interpreter ignores by itself. Bit 0 is signal 1. None if the kernel
/// refuses to tell.
pub fn ignored_signals() -> Option<u64> {
    const SIG_IGN: u64 = 1;
    let own = [libc::SIGPIPE as u64, libc::SIGXFSZ as u64];
    let mut ignored = 0;
    for signal in 1..=64 {
        if INTERNAL.contains(&signal) {
            continue;
        }
        let action = action_of(signal)?;
        if action[0] == SIG_IGN && !own.contains(&signal) {
            ignored |= 1 << (signal - 1);
        }
    }
    Some(ignored)
}

/// Ignores signals, given as one bit each, as the kernel does after execve(2) for signals that were ignored before:
/// with no flags and no restorer function.
pub fn ignore_signals(signals: u64) {
    const IGNORED: SignalAction = [1, 0, 0, 0];
    for signal in (1..=64).filter(|signal| signals & 1 << (signal - 1) != 0) {
        set(signal, &IGNORED);
    }
}

/// Gives the internal signals their default actions. A process that was started by posix_spawn(3) ignores one of them,
/// and its images would, too.
pub fn reset_internal_signals() {
    for signal in INTERNAL {
        set(signal, &[0; 4]);
    }
}

fn set(signal: u64, action: &'static SignalAction) {
    let action = action.as_ptr() as u64;
    // SAFETY: the kernel only reads the constant, and nothing in this process depends on the old action.
    unsafe {
        call(
            libc::SYS_rt_sigaction as u64,
            &[signal, action, 0, SIGNAL_SET_BYTES, 0, 0],
        );
    }
}

pub fn action_of(signal: u64) -> Option<SignalAction> {
    let mut action = SignalAction::default();
    let place = action.as_mut_ptr() as u64;
    // SAFETY: the kernel only writes to `action`, which has the size of a `struct sigaction`.
    let result = unsafe {
        call(
            libc::SYS_rt_sigaction as u64,
            &[signal, 0, place, SIGNAL_SET_BYTES, 0, 0],
        )
    };
    error_of(result).is_none().then_some(action)
}
