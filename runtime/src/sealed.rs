//! Files that appear under their name whole or not at all, and whose modification time tells readers that nobody has
//! written to them since. Processes that run on the file that one replaces keep that.

use std::fs::{File, Permissions};
use std::io::{Error, ErrorKind, Result};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// A file that has no name yet.
pub struct Unnamed<'a> {
    file: tempfile::NamedTempFile,
    path: &'a Path,
}

impl<'a> Unnamed<'a> {
    /// Creates a file that `path` shall name; its mode is as for any new file, less the umask.
    pub fn new(path: &'a Path, mode: u32) -> Result<Self> {
        // Replacing a directory fails anyway; replacing a device would not.
        if std::fs::metadata(path).is_ok_and(|status| !status.is_file()) {
            return Err(Error::new(
                ErrorKind::InvalidInput,
                "it exists and is not a regular file",
            ));
        }
        let directory = match path.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent,
            _ => Path::new("."),
        };
        let file = tempfile::Builder::new()
            .prefix(".cds-")
            .permissions(Permissions::from_mode(mode))
            .tempfile_in(directory)?;
        Ok(Self { file, path })
    }

    pub fn file(&mut self) -> &mut File {
        self.file.as_file_mut()
    }

    /// Gives the file its name, and as modification time the last full second with these nanoseconds.
    pub fn name(self, seal_ns: u32) -> Result<()> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        let seconds = now.map_or(0, |now| now.as_secs().saturating_sub(1));
        let file = self.file.as_file();
        file.set_modified(UNIX_EPOCH + Duration::new(seconds, seal_ns))?;
        file.sync_all()?;
        self.file.persist(self.path)?;
        Ok(())
    }
}
