//! What an archive that renews itself keeps, and why it may be impossible to write it: `-X cds_auto`.

use std::fs;
use std::io::{Error, ErrorKind};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::fs::Access;
use startup_image::background::OPTION;
use startup_image::command_line::WITH_IMAGE;
use startup_image::file_name;

use crate::cpython::archived;
use crate::cpython::config::Config;
use crate::cpython::object::Result;
use crate::layers::Layer;
use crate::messages;
use crate::options::Auto;
use crate::record::trace::{self, Use};

/// Lines of a trace list with the contents of a layer, since a run does not use all of it. They are marked as not
/// imported, because they may come from other programs.
pub fn lines(layer: &Layer) -> Result<Vec<String>> {
    let tables = &layer.archive.tables;
    let modules = tables.modules().filter(|module| module.code.is_some());
    let mut lines: Vec<String> = modules
        .filter(|module| !module.origin.starts_with('<'))
        .map(|module| trace::module_line(module.name, Some(module.origin), Use::NotImported))
        .collect();
    for offset in tables.all_patterns() {
        let Some((pattern, room)) = layer.archive.object(offset) else {
            continue;
        };
        // SAFETY: `room` bytes from this address on are mapped, and the fields are those of a tuple.
        let fields = unsafe { archived::tuple_items(pattern, room) };
        if let Some([pattern, flags, ..]) = fields.as_deref() {
            let (flags, pattern) = (flags.ascii()?, pattern.ascii()?);
            lines.push(trace::pattern_line(flags.to_str()?, pattern.to_str()?));
        }
    }
    Ok(lines)
}

/// The command that renews an archive after this run: the same interpreter, with the options that decide whether an
/// archive fits.
pub fn command(config: &Config, executable: String, archive: &Path) -> Vec<Vec<u8>> {
    let mut command = vec![executable.into_bytes()];
    command.extend(config.options_for_archives().map(String::into_bytes));
    command.push([b"-X", OPTION.as_bytes()].concat());
    let archive = archive.as_os_str().as_encoded_bytes();
    command.push([b"-Xcds=", archive].concat());
    // The command uses the archive, so that its contents are kept. With -P, since modules beside a script are recorded
    // with their files. With -S, since the command does not run `sitecustomize` and `.pth` files (`cds.auto`).
    let own: [&[u8]; 5] = [b"-P", b"-S", b"-m", b"cds.auto", archive];
    command.extend(own.map(<[u8]>::to_vec));
    command
}

/// The reason why no archive can be written, and what the user can do.
pub struct Obstacle {
    reason: String,
    remedy: String,
}

impl Obstacle {
    fn new(reason: String, remedy: &str) -> Self {
        let remedy = remedy.to_owned();
        Self { reason, remedy }
    }
}

/// The reason why the archive cannot be written, as far as it can be found out without trying.
pub fn obstacle(auto: &Auto) -> Option<Obstacle> {
    let directory = directory(&auto.target);
    let shown = directory.display();
    match fs::metadata(directory) {
        Ok(status) if status.is_dir() => {}
        Ok(_) => return Some(Obstacle::new(format!("{shown} is not a directory"), "")),
        Err(error) if error.kind() == ErrorKind::NotFound => {
            let reason = format!("there is no directory {shown}");
            return Some(Obstacle::new(reason, "create it, or "));
        }
        Err(error) => return Some(unwritable(directory, &error)),
    }
    if fs::metadata(&auto.target).is_ok_and(|status| !status.is_file()) {
        let reason = "it exists and is not a regular file".to_owned();
        return Some(Obstacle::new(reason, ""));
    }
    let access = rustix::fs::access(directory, Access::WRITE_OK | Access::EXEC_OK);
    access
        .err()
        .map(|error| unwritable(directory, &error.into()))
}

/// What is wrong with the name of an archive: it is that of an image, or it ends like `,images`.
pub fn misspelling(auto: &Auto) -> Option<Obstacle> {
    let archive = &auto.archive;
    let name = archive.as_os_str().as_bytes();
    let comma = name.iter().rposition(|&byte| byte == b',');
    let (reason, archive) = if let Some(archive) = file_name::archive_of(name) {
        ("it is the name of an image".to_owned(), archive)
    } else {
        let (archive, ending) = name.split_at(comma?);
        ending.to_ascii_lowercase().strip_prefix(b",im")?;
        let ending = String::from_utf8_lossy(ending);
        (format!("\"{ending}\" is not a known ending"), archive)
    };
    let archive = String::from_utf8_lossy(archive);
    let remedy = format!("write cds_auto={archive}{WITH_IMAGE}, or ");
    Some(Obstacle { reason, remedy })
}

fn directory(archive: &Path) -> &Path {
    archive.parent().unwrap_or(archive)
}

fn unwritable(directory: &Path, error: &Error) -> Obstacle {
    let reason = format!(
        "cannot write to the directory {}: {error}",
        directory.display()
    );
    Obstacle::new(reason, "make it writable, or ")
}

/// Reports why no archive can be written: once per process, and not if an ancestor of this process has reported it.
pub fn complain(auto: &Auto, obstacle: &Obstacle) {
    static HAS_COMPLAINED: AtomicBool = AtomicBool::new(false);
    if HAS_COMPLAINED.swap(true, Ordering::Relaxed) || has_ancestor_with(&auto.archive) {
        return;
    }
    let (archive, Obstacle { reason, remedy }) = (auto.archive.display(), obstacle);
    messages::complain(&format!(
        "the archive {archive} cannot be written: {reason}; {remedy}give another FILE to cds_auto"
    ));
}

/// Whether an ancestor of this process runs the same interpreter with the same setting.
fn has_ancestor_with(archive: &Path) -> bool {
    // The greatest number of ancestors that are checked.
    const MOST: usize = 32;
    let setting = [b"cds_auto=", archive.as_os_str().as_encoded_bytes()].concat();
    let variable = [b"PYTHON_CDS_AUTO=", archive.as_os_str().as_encoded_bytes()].concat();
    let is_setting = |text: &[u8]| {
        let text = text.strip_suffix(WITH_IMAGE.as_bytes()).unwrap_or(text);
        text == variable || text.ends_with(&setting)
    };
    let executable = |process: &str| fs::read_link(format!("/proc/{process}/exe")).ok();
    let own = executable("self");
    let mut process = parent("self");
    for _ in 0..MOST {
        let Some(ancestor) = process else {
            break;
        };
        let texts = ["environ", "cmdline"]
            .map(|name| fs::read(format!("/proc/{ancestor}/{name}")).unwrap_or_default())
            .concat();
        let has_setting = texts.split(|&byte| byte == 0).any(is_setting);
        if has_setting && executable(&ancestor) == own {
            return true;
        }
        process = parent(&ancestor);
    }
    false
}

/// The id of a process's parent (proc(5)).
fn parent(process: &str) -> Option<String> {
    let status = fs::read_to_string(format!("/proc/{process}/status")).ok()?;
    let parent = status.lines().find_map(|line| line.strip_prefix("PPid:"))?;
    Some(parent.trim().to_owned()).filter(|parent| parent != "0")
}
