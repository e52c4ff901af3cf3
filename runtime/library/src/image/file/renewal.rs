//! When the image of `-X cds_auto=FILE,image` is renewed, and with which options.

use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::{Duration, SystemTime};

use rustix::fs::{Stat, fstat};
use startup_image::command_line::CommandLine;
use startup_image::format::Vdso;
use startup_image::image_file::ImageFile;
use startup_image::key::Program;
use startup_image::own_file::OwnFile;
use startup_image::patience;
use startup_image::streams::OwnTerminal;
use startup_image::times::modified_ns;

use super::describe::changed;
use super::note;
use crate::cpython::object::{Object, Result};
use crate::image::restored::refusal;
use crate::record::runs::Subject;

/// Whether an image should be renewed for a run of a program. It should if no process can be restored from it any more.
/// It also should if it is for certain arguments of this program and the run has others. The new image is then for any
/// arguments.
///
/// An image that was taken with other options or variables, or for another user, is kept: it fits other processes.
/// Otherwise two processes that run in turn would replace it each time.
pub fn needs_renewal(path: &Path, program: &[u8], arguments: &[&[u8]]) -> bool {
    is_of_no_use(path) || of_program(path, program, |then| then.has_others(arguments))
}

/// Whether runs of a program have had different arguments: its image is for any arguments, or for others than these.
pub fn do_arguments_vary(path: &Path, program: &[u8], arguments: &[&[u8]]) -> bool {
    of_program(path, program, |then| {
        then.is_for_any_arguments || then.has_others(arguments)
    })
}

fn of_program(path: &Path, identity: &[u8], is: impl FnOnce(&Program) -> bool) -> bool {
    let Ok(Some(file)) = ImageFile::open(path.as_os_str().as_bytes()) else {
        return false;
    };
    let image = file.image();
    let program = image
        .as_ref()
        .ok()
        .and_then(|image| image.key.program.as_ref());
    program.is_some_and(|program| program.identity == *identity && is(program))
}

fn is_of_no_use(path: &Path) -> bool {
    let own = match OwnFile::open(path.as_os_str().as_bytes()) {
        Ok(Some(own)) => own,
        Ok(None) => return true,
        Err(_) => return is_replaceable(path),
    };
    if note::is_note(&own) {
        let is_old = age(&own.status) > patience::OF_NOTES;
        return is_old && note::attempts(&own) < patience::MOST_ATTEMPTS;
    }
    let Ok(file) = ImageFile::of(own) else {
        return true;
    };
    file.image().map_or(true, |image| {
        let is_due = || age_of_image(&file) >= patience::of_image(image.short_lived);
        let is_stale = || changed(&image).next().is_some();
        !is_of_this_kernel(&image.process.vdso) || is_due() && is_stale()
    })
}

/// The number of consecutive images at a path that were soon out of date, before the image that is written next.
pub fn short_lived_before(path: &Path) -> u32 {
    let Ok(Some(file)) = ImageFile::open(path.as_os_str().as_bytes()) else {
        return 0;
    };
    let before = file.image().map_or(0, |image| image.short_lived);
    patience::short_lived_with(age_of_image(&file), before)
}

fn age_of_image(file: &ImageFile) -> Duration {
    fstat(&file.own.file).map_or(Duration::MAX, |status| age(&status))
}

/// The time since a file was modified; `Duration::MAX` if its modification time is in the future.
fn age(status: &Stat) -> Duration {
    let written = u64::try_from(modified_ns(status)).unwrap_or_default();
    let written = SystemTime::UNIX_EPOCH + Duration::from_nanos(written);
    written.elapsed().unwrap_or(Duration::MAX)
}

/// Whether a file that cannot be used still belongs to this user, for example a copy that other users may read.
fn is_replaceable(path: &Path) -> bool {
    let user = rustix::process::geteuid().as_raw();
    fs::symlink_metadata(path).is_ok_and(|status| status.is_file() && status.uid() == user)
}

/// Compares the vdso: a restored process uses the vdso of its image.
fn is_of_this_kernel(vdso: &Vdso) -> bool {
    // SAFETY: the kernel has given this address of its vdso.
    unsafe { vdso.is_at(libc::getauxval(libc::AT_SYSINFO_EHDR)) }
}

/// Whether the image should be renewed for this process, which was not restored from it.
pub fn is_lacking(path: &Path, subject: &Subject) -> bool {
    match refusal::is_lasting(0) {
        Some(false) => false,
        Some(true) => is_to_be_renewed_for(path, subject),
        None => fs::symlink_metadata(path).is_err(),
    }
}

/// The same as [`needs_renewal`].
pub fn is_to_be_renewed_for(path: &Path, subject: &Subject) -> bool {
    let arguments: Vec<&[u8]> = subject.arguments.iter().map(Vec::as_slice).collect();
    needs_renewal(path, &subject.program, &arguments)
}

/// The subject of an image of this process, which was started in this directory; none if no image can be taken.
pub fn subject(directory: &Path) -> Option<Subject> {
    let (line, arguments) = own_command_line()?;
    let identity = line.program.identity(directory.as_os_str().as_bytes())?;
    subject_of(line, identity, arguments)
}

/// The subject of a base image for processes like this one; none if no image can be taken.
pub fn base_subject() -> Option<Subject> {
    let (line, _) = own_command_line()?;
    subject_of(line, NO_PROGRAM.to_vec(), Vec::new())
}

/// The identity of the program of a base image.
const NO_PROGRAM: &[u8] = b"\0\0";

/// The command line of this process, and the arguments of its program.
fn own_command_line() -> Option<(CommandLine, Vec<Vec<u8>>)> {
    let arguments = fs::read("/proc/self/cmdline").ok()?;
    let arguments = arguments.strip_suffix(b"\0")?.split(|&byte| byte == 0);
    let arguments: Vec<&[u8]> = arguments.collect();
    let line = CommandLine::parse(&arguments)?;
    let own = arguments.get(line.rest..).unwrap_or_default();
    let own = own.iter().map(|argument| argument.to_vec()).collect();
    Some((line, own))
}

fn subject_of(line: CommandLine, program: Vec<u8>, arguments: Vec<Vec<u8>>) -> Option<Subject> {
    let text = |option| String::from_utf8(option).ok();
    Some(Subject {
        program,
        arguments,
        options: line.options.into_iter().map(text).collect::<Option<_>>()?,
        terminal: OwnTerminal::of_process(),
    })
}

/// The options with which an image of this process is taken; none if no image can be taken.
pub fn options_of_process() -> Result<Option<Vec<String>>> {
    let options = command_line()?.map(|line| line.options);
    let text = |option| String::from_utf8(option).ok();
    Ok(options.and_then(|options| options.into_iter().map(text).collect()))
}

fn command_line() -> Result<Option<CommandLine>> {
    let arguments = Object::import(c"sys")?.attribute(c"orig_argv")?;
    let encode = Object::import(c"os")?.attribute(c"fsencode")?;
    let arguments = arguments.to_items()?.into_iter();
    let arguments = arguments.map(|argument| encode.call(vec![argument]));
    let arguments = arguments.collect::<Result<Vec<_>>>()?;
    let bytes = arguments.iter().map(|argument| argument.to_bytes());
    Ok(CommandLine::parse(&bytes.collect::<Result<Vec<_>>>()?))
}
