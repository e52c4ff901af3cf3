//! Files that writers leave if they are killed before they could give them their names: the next writer removes them.
//!
//! A writer holds a lock on its file (flock(2)), which ends with it; whoever gets the lock knows that nobody writes.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;

use rustix::fs::{FlockOperation, flock};
use tempfile::Builder;

const PREFIX: &str = ".cds-";
/// How many letters and digits follow.
const RANDOM: usize = 16;

/// Names for files that have none yet.
pub fn names() -> Builder<'static, 'static> {
    let mut names = Builder::new();
    names.prefix(PREFIX).rand_bytes(RANDOM);
    names
}

/// Has other writers leave a file alone for as long as it is open. Returns false where files cannot be locked; nobody
/// removes any there.
pub fn keep(file: &File) -> bool {
    flock(file, FlockOperation::NonBlockingLockExclusive).is_ok()
}

/// Removes what killed writers of this user have left in a directory, as far as that is possible.
pub fn remove(directory: &Path) {
    let Ok(entries) = fs::read_dir(directory) else {
        return;
    };
    for entry in entries.flatten() {
        if is_temporary(&entry.file_name()) && is_left(&entry.path()) {
            // Another writer may have done it.
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
