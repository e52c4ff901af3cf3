//! Files that belong to this user alone. No other user can write to them, or truncate them while they are in use.

use alloc::borrow::ToOwned;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec;
use alloc::vec::Vec;

use rustix::fd::OwnedFd;
use rustix::fs::{
    CWD, FileType, Mode, OFlags, Stat, Timespec, Timestamps, UTIME_NOW, UTIME_OMIT, futimens,
};
use rustix::io::Errno;
use rustix::time::{ClockId, clock_gettime};

const NOT_OWN: &str = "it must be a file that you own and nobody else may read (mode 600)";
const TRUNCATED: &str = "it is truncated";

/// A regular file of this user that no other user may read or write. It is open for reading.
pub struct OwnFile {
    pub file: OwnedFd,
    pub status: Stat,
}

impl OwnFile {
    /// Opens a file and checks it before any byte is read; none if there is no such file.
    ///
    /// # Errors
    /// A text that says why the file cannot be used.
    pub fn open(path: &[u8]) -> Result<Option<Self>, String> {
        // A file of the cache is used when a process is restored from it, not when it is read to find out whether it fits.
        let flags = OFlags::RDONLY
            | OFlags::CLOEXEC
            | OFlags::NOATIME
            | OFlags::NOCTTY
            | OFlags::NOFOLLOW
            | OFlags::NONBLOCK;
        let file = match rustix::fs::openat(CWD, path, flags, Mode::empty()) {
            Ok(file) => file,
            Err(Errno::NOENT | Errno::NOTDIR) => return Ok(None),
            // A symbolic link; a file of another user, who alone may use O_NOATIME.
            Err(Errno::LOOP | Errno::PERM) => return Err(NOT_OWN.to_owned()),
            Err(error) => return Err(format!("cannot open it: {error}")),
        };
        let status = rustix::fs::fstat(&file).map_err(|error| error.to_string())?;
        if !is_file(&status) || !is_of_this_user(&status) || status.st_mode & 0o077 != 0 {
            return Err(NOT_OWN.to_owned());
        }
        Ok(Some(Self { file, status }))
    }

    /// Opens a file with settings of this user, which others may read; none if there is no such file.
    pub fn open_settings(path: &[u8]) -> Option<Self> {
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOCTTY | OFlags::NONBLOCK;
        let file = rustix::fs::openat(CWD, path, flags, Mode::empty()).ok()?;
        let status = rustix::fs::fstat(&file).ok()?;
        (is_file(&status) && is_of_this_user(&status)).then_some(Self { file, status })
    }

    /// Sets the time of the last access to now, unless that was less than an hour ago.
    pub fn note_use(&self) {
        const PRECISION_SECONDS: i64 = 60 * 60;
        let now = clock_gettime(ClockId::Realtime).tv_sec;
        if now.saturating_sub(self.status.st_atime) < PRECISION_SECONDS {
            return;
        }
        let time = |tv_nsec| Timespec { tv_sec: 0, tv_nsec };
        let times = Timestamps {
            last_access: time(UTIME_NOW),
            last_modification: time(UTIME_OMIT),
        };
        // If it fails, the file seems to be unused.
        let _ = futimens(&self.file, &times);
    }

    /// Reads `bytes` bytes at an offset.
    ///
    /// # Errors
    /// A text that says why they cannot be read.
    pub fn read(&self, offset: u64, bytes: u64) -> Result<Vec<u8>, String> {
        let end = offset.checked_add(bytes);
        if end.is_none_or(|end| end > self.status.st_size as u64) {
            return Err(TRUNCATED.to_owned());
        }
        let mut contents = vec![0; bytes as usize];
        read(&self.file, offset, &mut contents)?;
        Ok(contents)
    }
}

/// Opens a small file in a directory of this user, for reading and writing. Creates it if necessary.
///
/// # Errors
/// It cannot be opened, for example because it is a symbolic link.
pub fn open_to_change(path: &[u8]) -> Result<OwnedFd, Errno> {
    open_for_both(path, OFlags::CREATE)
}

/// The same for a file that exists.
///
/// # Errors
/// It does not exist or cannot be opened.
pub fn open_existing_to_change(path: &[u8]) -> Result<OwnedFd, Errno> {
    open_for_both(path, OFlags::empty())
}

fn open_for_both(path: &[u8], more: OFlags) -> Result<OwnedFd, Errno> {
    let flags = OFlags::RDWR
        | more
        | OFlags::CLOEXEC
        | OFlags::NOCTTY
        | OFlags::NOFOLLOW
        | OFlags::NONBLOCK;
    rustix::fs::openat(CWD, path, flags, Mode::RUSR | Mode::WUSR)
}

fn is_file(status: &Stat) -> bool {
    FileType::from_raw_mode(status.st_mode) == FileType::RegularFile
}

/// Whether a file or directory belongs to this user.
pub fn is_of_this_user(status: &Stat) -> bool {
    status.st_uid == rustix::process::geteuid().as_raw()
}

/// Fills a buffer with the bytes of a file at an offset. The file is not mapped: if it becomes shorter, this is an
/// error, while access to a mapping would cause a signal (SIGBUS).
///
/// # Errors
/// A text that says why they cannot be read.
pub fn read(file: &OwnedFd, mut offset: u64, mut buffer: &mut [u8]) -> Result<(), String> {
    while !buffer.is_empty() {
        match rustix::io::pread(file, &mut *buffer, offset) {
            Ok(0) => return Err(TRUNCATED.to_owned()),
            Ok(bytes) => {
                offset += bytes as u64;
                buffer = &mut buffer[bytes..];
            }
            Err(Errno::INTR) => {}
            Err(error) => return Err(format!("cannot read it: {error}")),
        }
    }
    Ok(())
}
