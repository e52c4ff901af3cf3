//! Addresses that restoring needs. The new process and the frozen process have nothing else there.

use core::ops::Range;

/// The arguments and the environment of the new process. The restored process keeps them.
pub const STRINGS: u64 = 0x0100_0000_0000;

/// Memory that is needed until the frozen process continues.
pub const HEAP: Range<u64> = STRINGS + (1 << 28)..STRINGS + (1 << 28) + (64 << 20);

/// Where the vdso is while the memory is replaced.
pub const VDSO: u64 = STRINGS + (1 << 30);

/// All of these.
pub const ALL: Range<u64> = STRINGS..STRINGS + (2 << 30);
