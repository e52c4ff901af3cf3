//! Which system calls create a name in a directory, and which of their arguments give the path.

use std::ffi::{c_int, c_long};

/// The directory descriptor and the address of the path, for a system call that may create a path. `word` reads a word
/// of the calling process.
pub fn made_by(
    number: c_long,
    arguments: [u64; 6],
    word: impl FnOnce(u64) -> u64,
) -> Option<(u64, u64)> {
    let here = libc::AT_FDCWD as u64;
    let [first, second, third, fourth, ..] = arguments;
    let creates = |flags: u64| flags as c_int & libc::O_CREAT != 0;
    match number {
        libc::SYS_open => creates(second).then_some((here, first)),
        libc::SYS_openat => creates(third).then_some((first, second)),
        // The flags are the first word of `struct open_how`.
        libc::SYS_openat2 => creates(word(third)).then_some((first, second)),
        libc::SYS_creat | libc::SYS_mkdir | libc::SYS_mknod => Some((here, first)),
        libc::SYS_mkdirat | libc::SYS_mknodat => Some((first, second)),
        libc::SYS_symlink | libc::SYS_link | libc::SYS_rename => Some((here, second)),
        libc::SYS_symlinkat => Some((second, third)),
        libc::SYS_linkat | libc::SYS_renameat | libc::SYS_renameat2 => Some((third, fourth)),
        _ => None,
    }
}
