//! Messages of a process that becomes an image to the tracer that watches it
//! ([`mod@crate::image::observation::point`]). A message is a system call with a path that does not exist: the path of
//! the request, followed by one of these texts.

use std::ffi::{CString, c_int};
use std::io::Error;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// The process has noted its attributes.
pub const NOTED: &str = ".noted";
/// The process asks whether its attributes are as it has noted them. The call fails with [`AS_BEFORE`] if the process has
/// made no system call that could have changed them. The process then does not need to look at them.
pub const ASKS: &str = ".asks";
pub const AS_BEFORE: c_int = libc::ECANCELED;
/// The program begins.
pub const BEGINS: &str = ".begins";
/// The process is about to fork a candidate.
pub const FORKS: &str = ".forks";
/// The process has forked a candidate, which can become the image.
pub const KEEPS: &str = ".keeps";
/// The process has forked no candidate, or one that cannot become the image.
pub const LEAVES: &str = ".leaves";
/// The process is about to look at something. What it looks at follows.
pub const LOOKS: &str = ".looks.";
/// The same, before the program begins.
pub const EARLY: &str = ".early.";

/// Sends a message. Returns the error of the system call.
pub fn send(request: &Path, message: &str) -> Option<c_int> {
    let path = [request.as_os_str().as_bytes(), message.as_bytes()].concat();
    let path = CString::new(path).ok()?;
    // SAFETY: the path ends with NUL. The call only asks whether the file exists, which it never does.
    unsafe { libc::access(path.as_ptr(), libc::F_OK) };
    Error::last_os_error().raw_os_error()
}
