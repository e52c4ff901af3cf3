//! The cache of this user: the entry that this process uses, and whether its program was started before.

use std::ffi::OsStr;
use std::fs::{self, DirBuilder};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};

use startup_image::{pace, seen};

const BYTES: usize = 2048;

/// Two paths with a NUL behind each: the entry of the program, and that of base images. Both are empty if this process
/// does not use the cache. The launcher (runtime/launcher/src/lib.rs) writes them before anything else runs.
#[unsafe(no_mangle)]
#[allow(non_upper_case_globals)]
pub static mut _PyCDS_entries: [u8; BYTES] = [0; BYTES];

/// The entries that this process uses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entries {
    /// The entry of the program.
    pub program: PathBuf,
    /// Whether this is the entry of base images: the program comes from standard input.
    pub is_base: bool,
    /// The entry of base images, if it is another one and the process may need such an image.
    pub base: Option<PathBuf>,
}

/// The entries that this process uses; none if it does not use the cache.
pub fn current() -> Option<Entries> {
    // SAFETY: only the launcher writes to the variable, and has finished.
    let bytes = unsafe { (&raw const _PyCDS_entries).read() };
    let mut paths = bytes.split(|&byte| byte == 0);
    let mut path = || Some(PathBuf::from(OsStr::from_bytes(paths.next()?)));
    let (program, base) = (path()?, path()?);
    if base.as_os_str().is_empty() {
        None
    } else if program.as_os_str().is_empty() {
        Some(Entries {
            program: base,
            is_base: true,
            base: None,
        })
    } else {
        Some(Entries {
            program,
            is_base: false,
            base: Some(base),
        })
    }
}

/// The file of which a process that builds in the cache has a lock: only one process at a time does. `entry` is any entry
/// of the cache.
pub fn building(entry: &Path) -> PathBuf {
    let cache = entry.parent().and_then(Path::parent);
    cache.unwrap_or(entry).join("building")
}

/// Whether the program was started before, and its entry exists or could be created. Otherwise notes that it was
/// started: a program that is started only once leaves nothing else.
pub fn is_known(entry: &Path) -> bool {
    if entry.is_dir() {
        return true;
    }
    let Some((directory, name)) = entry.parent().zip(entry.file_name()) else {
        return false;
    };
    let is_seen = || seen::note(directory.as_os_str().as_bytes(), name.as_bytes()) == Ok(true);
    is_there(directory) && is_local(directory) && is_seen() && create(entry)
}

/// Notes that a program was started without an image of its own. Returns whether one may be taken.
pub fn is_image_due(entry: &Path) -> bool {
    pace::is_due(entry.as_os_str().as_bytes())
}

/// Creates a directory of the cache, unless it exists, and the directories that it lies in.
fn is_there(directory: &Path) -> bool {
    directory.is_dir()
        || directory
            .parent()
            .is_some_and(|parent| is_there_for_us(parent) && create(directory))
}

/// The same, for a directory in which this user may create a directory for the cache: it must belong to the user. With
/// sudo(8), HOME can be the directory of somebody else.
fn is_there_for_us(directory: &Path) -> bool {
    let user = rustix::process::geteuid().as_raw();
    match fs::metadata(directory) {
        Ok(status) => status.is_dir() && status.uid() == user,
        Err(_) => is_there(directory),
    }
}

fn create(directory: &Path) -> bool {
    DirBuilder::new().mode(0o700).create(directory).is_ok() || directory.is_dir()
}

/// Whether a directory is on a file system of this machine: with others, the locks and times that the cache relies on
/// are those of several machines.
fn is_local(directory: &Path) -> bool {
    // linux/magic.h; ZFS and bcachefs have theirs in their own sources.
    const LOCAL: [u32; 9] = [
        0xef53,      // ext2, ext3, ext4
        0x5846_5342, // XFS
        0x9123_683e, // Btrfs
        0x0102_1994, // tmpfs
        0x8584_58f6, // ramfs
        0x794c_7630, // overlayfs
        0xf2f5_2010, // F2FS
        0x2fc1_2fc1, // ZFS
        0xca45_1a4e, // bcachefs
    ];
    rustix::fs::statfs(directory).is_ok_and(|status| LOCAL.contains(&(status.f_type as u32)))
}
