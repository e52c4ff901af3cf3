//! Addresses that restoring needs, in the new process as in the frozen one: far from everything else.

use core::ops::Range;

/// The arguments and the environment of the new process, which stay.
pub const STRINGS: u64 = 0x0100_0000_0000;

/// Whatever is needed until the frozen process goes on.
pub const HEAP: Range<u64> = STRINGS + (1 << 28)..STRINGS + (1 << 28) + (64 << 20);

/// Where the kernel's own code waits while the memory changes.
pub const VDSO: u64 = STRINGS + (1 << 30);

/// All of these.
pub const ALL: Range<u64> = STRINGS..STRINGS + (2 << 30);
