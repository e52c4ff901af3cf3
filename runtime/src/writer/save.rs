//! Phase 4: the file appears under its name whole or not at all. Processes that run on the file it replaces
//! keep that one.

use std::fs::Permissions;
use std::io::{Error, ErrorKind, Result, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use cds_format::Header;

/// Its modification time tells readers that nobody has written to it since.
pub fn save(path: &Path, bytes: &[u8]) -> Result<()> {
    let header = Header::parse(bytes, bytes.len() as u64).map_err(Error::other)?;
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
    file.as_file().set_modified(sealed_time(&header))?;
    file.as_file().sync_all()?;
    file.persist(path)?;
    Ok(())
}

/// The last full second, with the nanoseconds of the header's seal.
fn sealed_time(header: &Header) -> SystemTime {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    let seconds = now.map_or(0, |now| now.as_secs().saturating_sub(1));
    UNIX_EPOCH + Duration::new(seconds, header.seal_ns())
}
