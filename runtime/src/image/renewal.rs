//! When the image of `-X cds_auto=FILE,image` is written anew, and with which options.

use std::fs;
use std::io::ErrorKind;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
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
    match ImageFile::open(path.as_os_str().as_bytes()) {
        Ok(Some(file)) => file.image().map_or(true, |image| {
            status.mode() & 0o077 != 0
                || !is_of_this_kernel(&image.process.vdso)
                || changed(&image).next().is_some()
        }),
        Ok(None) => true,
        Err(_) => !fs::read(path).is_ok_and(|text| text.starts_with(NOTE)),
    }
}

fn is_of_this_kernel(vdso: &Vdso) -> bool {
    // SAFETY: the kernel maps its own code there, whole pages; a restored process has the one of its image.
    unsafe {
        let address = libc::getauxval(libc::AT_SYSINFO_EHDR);
        let mut words = vdso.bytes.chunks_exact(8).enumerate();
        address != 0
            && words.all(|(index, word)| (address as *const [u8; 8]).add(index).read() == word)
    }
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
