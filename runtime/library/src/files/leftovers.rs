//! Files that a writer leaves behind if it is killed before it gives them their names. The next writer removes them.
//!
//! A writer holds a lock on its file (flock(2)), which is released when the writer ends. A process that gets the lock
//! knows that the file has no writer.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;

use rustix::fs::{FlockOperation, flock};
use tempfile::Builder;

const PREFIX: &str = ".cds-";
/// The number of random letters and digits after the prefix.
const RANDOM: usize = 16;

/// Makes temporary names for files.
pub fn names() -> Builder<'static, 'static> {
    let mut names = Builder::new();
    names.prefix(PREFIX).rand_bytes(RANDOM);
    names
}

/// Keeps other writers from removing a file as long as it is open. Returns false if the file system has no locks; then
/// no writer removes such files either.
pub fn keep(file: &File) -> bool {
    flock(file, FlockOperation::NonBlockingLockExclusive).is_ok()
}

/// Removes files that killed writers of this user have left in a directory. Errors are ignored.
pub fn remove(directory: &Path) {
    let Ok(entries) = fs::read_dir(directory) else {
        return;
    };
    for entry in entries.flatten() {
        if is_temporary(&entry.file_name()) && is_left(&entry.path()) {
            // Another writer may have removed the file already.
            let _ = fs::remove_file(entry.path());
        }
    }
}

fn is_temporary(name: &OsStr) -> bool {
    let random = name.as_bytes().strip_prefix(PREFIX.as_bytes());
    random.is_some_and(|random| {
        random.len() == RANDOM && random.iter().all(u8::is_ascii_alphanumeric)
    })
}

fn is_left(path: &Path) -> bool {
    let mut options = File::options();
    options.read(true).write(true);
    options.custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK | libc::O_NOCTTY);
    let Ok(file) = options.open(path) else {
        return false;
    };
    let own = rustix::process::geteuid().as_raw();
    let is_own = file
        .metadata()
        .is_ok_and(|status| status.is_file() && status.uid() == own);
    is_own && keep(&file)
}
