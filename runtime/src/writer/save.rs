//! Phase 4: the file appears under its name whole or not at all. Processes that run on the file it replaces
//! keep that one.

use std::fs::Permissions;
use std::io::{Error, ErrorKind, Result, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

pub fn save(path: &Path, bytes: &[u8]) -> Result<()> {
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
    let mut file = tempfile::Builder::new()
        .prefix(".cds-")
        // Less the umask, as for any new file.
        .permissions(Permissions::from_mode(0o644))
        .tempfile_in(directory)?;
    file.write_all(bytes)?;
    file.as_file().sync_all()?;
    file.persist(path)?;
    Ok(())
}
