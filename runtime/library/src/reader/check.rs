//! Checks who can have written a file, and whether it is unchanged.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::{Duration, UNIX_EPOCH};

use archive_format::{Header, MAX_HEADER_BYTES, PAGE, Rejection};
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use startup_image::filters;

use super::OpenError;
use crate::files::status;

/// Opens a regular file. Who can have written it is not checked here.
pub fn file(path: &Path) -> Result<File, OpenError> {
    // NONBLOCK: opening a FIFO must not wait for a writer.
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOCTTY | OFlags::NONBLOCK;
    let file = match rustix::fs::open(path, flags | OFlags::NOFOLLOW, Mode::empty()) {
        Err(Errno::LOOP) if is_anybodys(path) => return Err(OpenError::AnybodysLink),
        Err(Errno::LOOP) => rustix::fs::open(path, flags, Mode::empty()),
        opened => opened,
    };
    let file = File::from(file.map_err(|e| OpenError::System("open it", e.into()))?);
    if status(&file)?.st_mode & libc::S_IFMT != libc::S_IFREG {
        return Err(OpenError::NotRegular);
    }
    Ok(file)
}

/// Whether any user can put a symbolic link in place of the file, as in `/tmp` (see `protected_symlinks` in
/// proc_sys_fs(5), which is not set on all systems).
fn is_anybodys(path: &Path) -> bool {
    let parent = path
        .parent()
        .filter(|parent| !parent.as_os_str().is_empty());
    let parent = parent.unwrap_or(Path::new("."));
    rustix::fs::stat(parent).map_or(true, |status| status.st_mode & 0o002 != 0)
}

/// Checks that only this user or root can have written a file: an archive is code.
pub fn trust(file: &File) -> Result<(), OpenError> {
    let status = status(file)?;
    let (owner, mode) = (status.st_uid, status.st_mode & 0o777);
    let owned = owner == 0 || owner == rustix::process::geteuid().as_raw();
    if !owned || mode & 0o022 != 0 {
        return Err(OpenError::Untrusted { owner, mode });
    }
    Ok(())
}

fn status(file: &File) -> Result<libc::stat, OpenError> {
    status::of(file).map_err(|e| OpenError::System("stat it", e))
}

pub fn header(file: &File) -> Result<Header, OpenError> {
    let length = status(file)?.st_size as u64;
    let read = |bytes: u64| -> Result<Vec<u8>, OpenError> {
        let mut start = vec![0; length.min(bytes) as usize];
        file.read_exact_at(&mut start, 0)
            .map_err(|e| OpenError::System("read it", e))?;
        Ok(start)
    };
    let start = read(PAGE)?;
    match Header::parse(&start, length) {
        // The header may be longer than a page, because facts can be long.
        Err(Rejection::Length { .. }) => {
            Ok(Header::parse(&read(u64::from(MAX_HEADER_BYTES))?, length)?)
        }
        parsed => Ok(parsed?),
    }
}

/// Whether the file is unchanged since it was written, judged by its modification time. A time in whole seconds proves
/// nothing and is accepted: layers of container images only store whole seconds, and are not written to.
pub fn is_sealed(file: &File, header: &Header) -> Result<bool, OpenError> {
    let nanoseconds = status(file)?.st_mtime_nsec;
    Ok(nanoseconds == 0 || nanoseconds == i64::from(header.seal_ns()))
}

/// The seal that a file gets after it was verified, so that later starts need not verify it: installers that do not keep
/// times break the seal.
pub struct Seal {
    /// The time of the file's last change before it was verified.
    changed: (i64, i64),
}

impl Seal {
    /// Must be called before the file is verified.
    pub fn of(file: &File) -> Result<Self, OpenError> {
        let status = status(file)?;
        let changed = (status.st_ctime, status.st_ctime_nsec);
        Ok(Self { changed })
    }

    /// Seals the file, if it is unchanged and belongs to this user. Otherwise the next start verifies it again. A filter
    /// of system calls could kill a process that sets the time of a file.
    pub fn set(&self, file: &File, header: &Header) {
        if filters::may_exist() {
            return;
        }
        let Ok(status) = status(file) else { return };
        if (status.st_ctime, status.st_ctime_nsec) != self.changed {
            return;
        }
        let Ok(seconds) = u64::try_from(status.st_mtime) else {
            return;
        };
        let sealed = Duration::new(seconds, header.seal_ns());
        // The descriptor need not be open for writing (utimensat(2)).
        let _ = file.set_modified(UNIX_EPOCH + sealed);
    }
}

/// Reads a section.
pub fn section_bytes(file: &File, section: &archive_format::Section) -> Result<Vec<u8>, OpenError> {
    let mut bytes = Vec::new();
    let length =
        usize::try_from(section.bytes).map_err(|_| Rejection::Header("a section is too long"))?;
    bytes
        .try_reserve_exact(length)
        .map_err(|_| Rejection::Header("a section is too long"))?;
    bytes.resize(length, 0);
    let mut rest = &mut bytes[..];
    for extent in section.extents() {
        let (piece, after) = rest.split_at_mut(extent.bytes as usize);
        file.read_exact_at(piece, extent.file_offset)
            .map_err(|e| OpenError::System("read it", e))?;
        rest = after;
    }
    Ok(bytes)
}
