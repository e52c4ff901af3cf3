//! Files that appear under their name only when they are complete, and whose modification time shows readers that
//! nothing was written to them since. Processes that have mapped a replaced file keep the old file.

use std::fs::{self, File, Permissions};
use std::io::{Error, ErrorKind, Result};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustix::fs::{AtFlags, CWD};
use tempfile::{NamedTempFile, TempPath};

use crate::files::leftovers;

/// A file that does not have its name yet. If its writer is killed, the kernel removes the file (`O_TMPFILE`, open(2)),
/// or the next writer does ([`leftovers`]).
pub struct Unnamed<'a> {
    file: File,
    /// Its temporary name, if the file system does not support files without a name.
    temporary: Option<TempPath>,
    directory: &'a Path,
    path: &'a Path,
}

impl<'a> Unnamed<'a> {
    /// Creates a file that will get the name `path`. As for any new file, the umask is applied to `mode`.
    pub fn new(path: &'a Path, mode: u32) -> Result<Self> {
        // Replacing a directory would fail later in any case, but replacing a device would not.
        if fs::metadata(path).is_ok_and(|status| !status.is_file()) {
            return Err(Error::new(
                ErrorKind::InvalidInput,
                "it exists and is not a regular file",
            ));
        }
        let directory = match path.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent,
            _ => Path::new("."),
        };
        leftovers::remove(directory);
        let (file, temporary) = match without_name(directory, mode) {
            Some(file) => (file, None),
            None => {
                let (file, temporary) = with_name(directory, mode)?;
                (file, Some(temporary))
            }
        };
        Ok(Self {
            file,
            temporary,
            directory,
            path,
        })
    }

    pub fn file(&mut self) -> &mut File {
        &mut self.file
    }

    /// Gives the file its name. Its modification time becomes the last full second plus `seal_ns` nanoseconds.
    pub fn name(self, seal_ns: u32) -> Result<()> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        let seconds = now.map_or(0, |now| now.as_secs().saturating_sub(1));
        let file = &self.file;
        file.set_modified(UNIX_EPOCH + Duration::new(seconds, seal_ns))?;
        file.sync_all()?;
        let temporary = match self.temporary {
            Some(temporary) => temporary,
            // linkat(2) cannot replace an existing file, but rename(2) can. So the file gets a temporary name first.
            None => leftovers::names()
                .make_in(self.directory, |temporary| {
                    let flags = AtFlags::SYMLINK_FOLLOW;
                    Ok(rustix::fs::linkat(CWD, link(file), CWD, temporary, flags)?)
                })?
                .into_temp_path(),
        };
        temporary.persist(self.path)?;
        Ok(())
    }
}

/// Creates a file without a name, if the file system supports this and the file can be linked to a name later.
fn without_name(directory: &Path, mode: u32) -> Option<File> {
    let mut options = File::options();
    options.read(true).write(true).mode(mode);
    let file = options.custom_flags(libc::O_TMPFILE).open(directory).ok()?;
    let own = file.metadata().ok()?;
    // Without /proc, this path does not exist.
    let linked = fs::metadata(link(&file)).ok()?;
    let is_same = (own.dev(), own.ino()) == (linked.dev(), linked.ino());
    (is_same && leftovers::keep(&file)).then_some(file)
}

/// The path from which an open file can be linked (proc(5)).
fn link(file: &File) -> PathBuf {
    format!("/proc/self/fd/{}", file.as_raw_fd()).into()
}

fn with_name(directory: &Path, mode: u32) -> Result<(File, TempPath)> {
    loop {
        let file: NamedTempFile = leftovers::names()
            .permissions(Permissions::from_mode(mode))
            .tempfile_in(directory)?;
        // Another writer may have removed the file before it was locked.
        if !leftovers::keep(file.as_file()) || file.as_file().metadata()?.nlink() > 0 {
            return Ok(file.into_parts());
        }
    }
}
