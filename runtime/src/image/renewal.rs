//! When the image of `-X cds_auto=FILE,image` is written anew, and with which options.

use std::fs::{self, File};
use std::io::ErrorKind;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;

use cds_image::command_line::CommandLine;
use cds_image::format::{ImageFile, Vdso};
use cds_image::key::may_be_read;

use super::describe::changed;
use crate::cpython::object::{Object, Result};

/// How the file begins that `cds.auto` leaves where no image can be taken.
const NOTE: &[u8] = b"no startup image";

/// Whether no process could be restored from an image any more. One that was only made with other options, for another
/// user, or with other variables, fits others: processes that take turns would renew it for ever.
pub fn needs_renewal(path: &Path) -> bool {
    let status = match fs::symlink_metadata(path) {
        Ok(status) => status,
        Err(error) => return error.kind() == ErrorKind::NotFound,
    };
    if !status.is_file() || status.uid() != rustix::process::geteuid().as_raw() {
        return false;
    }
    let Ok(file) = File::open(path) else {
        return false;
    };
    let mut start = [0; NOTE.len()];
    if file.read_exact_at(&mut start, 0).is_ok() && start == NOTE {
        return false;
    }
    let Ok(Some(file)) = ImageFile::open(path.as_os_str().as_bytes()) else {
        return true;
    };
    file.image().map_or(true, |image| {
        status.mode() & 0o077 != 0
            || !is_of_this_kernel(&image.process.vdso)
            || changed(&image).next().is_some()
    })
}

/// A restored process has the vdso of its image.
fn is_of_this_kernel(vdso: &Vdso) -> bool {
    // SAFETY: the kernel has said where it is.
    unsafe { vdso.is_at(libc::getauxval(libc::AT_SYSINFO_EHDR)) }
}

/// Whether a variable is one that nobody can watch being read.
pub fn is_read_by_libraries(name: &str) -> bool {
    may_be_read(name.as_bytes())
}

/// The options with which an image of this process would have to be taken; none if there can be none.
pub fn options_of_process() -> Result<Option<Vec<String>>> {
    let arguments = Object::import(c"sys")?
        .attribute(c"orig_argv")?
        .to_items()?;
    let arguments = arguments.iter().map(|argument| argument.to_str());
    let arguments = arguments.collect::<Result<Vec<_>>>()?;
    let bytes: Vec<&[u8]> = arguments.iter().map(|text| text.as_bytes()).collect();
    let options = CommandLine::parse(&bytes).map(|line| line.options);
    let text = |option| String::from_utf8(option).ok();
    Ok(options.and_then(|options| options.into_iter().map(text).collect()))
}
