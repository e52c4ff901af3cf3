//! The cache of a user: archives and startup images of programs, at places that nobody has to name.
//!
//! The cache is a directory. It has a directory for each build of the interpreter, and there a directory for each
//! program, the *entry* of the program. An entry has some *variants*, each an archive with its image: a program that is
//! started in different surroundings (with and without a terminal, in another locale) needs different images.
//!
//! A program without an archive is restored from a *base image*: an interpreter that was frozen before its program. Base
//! images have an entry of their own, which also is the entry of programs from standard input.

use alloc::format;
use alloc::vec::Vec;

use rustix::fs::FileType;
use xxhash_rust::xxh3::Xxh3;

use crate::command_line::{AUTO, Choice, CommandLine, OFF};
use crate::filters;
use crate::own_file::{self, OwnFile};
use crate::start::Start;

/// The greatest number of variants in an entry.
pub const VARIANTS: usize = 4;

/// A process tries the images of its program first, then the base images. This is the number of the first base image.
pub const FIRST_OF_BASE: usize = VARIANTS;

/// The name of a file in an entry: a process that was restored from an image of the program has crashed. The file has the
/// number of the signal. The program gets no image any more.
pub const CRASHED: &[u8] = b"/crashed";

/// The name of the cache below a directory that the user has for caches, or for settings.
const NAME: &[u8] = b"/cpython-cds";
/// A file of this name in the user's directory for settings enables the cache.
const ENABLED: &[u8] = b"/enabled";
/// The setting in the `pyvenv.cfg` of a virtual environment.
const SETTING: &[u8] = b"cds";
const MOST_BYTES_OF_SETTINGS: u64 = 64 << 10;

/// Variables that change what every start does. Starts with different ones use different entries.
const OF_PYTHON: &[u8] = b"PYTHON";
const OF_THE_CACHE: &[u8] = b"PYTHON_CDS";
/// A setting for code-data-share, which has an archive of its own.
const OF_CODE_DATA_SHARE: &[u8] = b"PYCDSMODE";

/// The entries that a process uses. They may not exist.
pub struct Entries {
    /// The entry of the program; none for a program from standard input, which is not known before it runs.
    pub program: Option<Vec<u8>>,
    /// The entry of the base image: the interpreter before its program.
    pub base: Vec<u8>,
}

/// The entries for the program that a process runs. None if the process must not use the cache. If the cache is not chosen
/// for this process, it is not used with a filter of system calls.
pub fn entries(start: &Start, line: &CommandLine, build_id: &str) -> Option<Entries> {
    let variable = |name: &[u8]| inherited(start, line, name);
    let executable = match line.choice(variable) {
        Choice::OfCache => start.executable()?,
        Choice::Unset => start
            .executable()
            .filter(|executable| is_enabled(start, executable) && !filters::may_exist())?,
        Choice::Of(_) | Choice::Nothing => return None,
    };
    if line.is_isolated() || variable(OF_CODE_DATA_SHARE).is_some() {
        return None;
    }
    let directory = directory(variable).filter(|directory| is_trusted(directory))?;
    let mut variables = Vec::new();
    if !line.ignores_environment() {
        variables.extend(
            start
                .variables()
                .filter(|(name, _)| name.starts_with(OF_PYTHON) && !name.starts_with(OF_THE_CACHE)),
        );
        variables.sort_unstable();
    }
    let entry = |program: &[u8]| {
        let mut hash = Xxh3::new();
        let mut add = |part: &[u8]| {
            hash.update(&part.len().to_le_bytes());
            hash.update(part);
        };
        add(program);
        add(&executable);
        for option in &line.options {
            add(option);
        }
        for (name, value) in &variables {
            add(name);
            add(value);
        }
        let name = format!("/{build_id}/{:032x}", hash.digest128());
        [&directory[..], name.as_bytes()].concat()
    };
    Some(Entries {
        program: line.program.identity_here().as_deref().map(entry),
        base: entry(&[]),
    })
}

/// The value of a variable. `-E` and `-I` disable those whose names begin with `PY`.
fn inherited<'a>(start: &'a Start, line: &CommandLine, name: &[u8]) -> Option<&'a [u8]> {
    let is_ignored = name.starts_with(b"PY") && line.ignores_environment();
    start
        .variable(name)
        .filter(|value| !value.is_empty() && !is_ignored)
}

/// The directory of the cache; none if no variable leads to one.
pub fn directory<'a>(variable: impl Fn(&[u8]) -> Option<&'a [u8]>) -> Option<Vec<u8>> {
    if let Some(directory) = variable(b"PYTHON_CDS_CACHE") {
        return Some(directory)
            .filter(|path| path.starts_with(b"/"))
            .map(<[u8]>::to_vec);
    }
    of_user(variable, b"XDG_CACHE_HOME", b"/.cache")
}

/// The file that enables the cache for all programs of a user.
pub fn enabling_file<'a>(variable: impl Fn(&[u8]) -> Option<&'a [u8]>) -> Option<Vec<u8>> {
    let directory = of_user(variable, b"XDG_CONFIG_HOME", b"/.config")?;
    Some([&directory[..], ENABLED].concat())
}

/// A directory of this user (XDG Base Directory Specification: relative paths are ignored).
fn of_user<'a>(
    variable: impl Fn(&[u8]) -> Option<&'a [u8]>,
    name: &[u8],
    in_home: &[u8],
) -> Option<Vec<u8>> {
    let absolute = |name| variable(name).filter(|path: &&[u8]| path.starts_with(b"/"));
    match absolute(name) {
        Some(directory) => Some([directory, NAME].concat()),
        None => Some([absolute(b"HOME")?, in_home, NAME].concat()),
    }
}

/// Whether a directory is missing, or belongs to this user and no other user can create files in it.
fn is_trusted(directory: &[u8]) -> bool {
    rustix::fs::stat(directory).map_or(true, |status| {
        let is_directory = FileType::from_raw_mode(status.st_mode) == FileType::Directory;
        is_directory && own_file::is_of_this_user(&status) && status.st_mode & 0o022 == 0
    })
}

/// Whether the user has enabled the cache, for a virtual environment or for all programs.
fn is_enabled(start: &Start, executable: &[u8]) -> bool {
    if let Some(setting) = of_virtual_environment(executable) {
        return setting;
    }
    enabling_file(|name| start.variable(name)).is_some_and(|path| {
        rustix::fs::stat(&path[..]).is_ok_and(|status| own_file::is_of_this_user(&status))
    })
}

/// The setting of the virtual environment that an interpreter belongs to. Only a file of this user counts.
fn of_virtual_environment(executable: &[u8]) -> Option<bool> {
    let end = |path: &[u8]| path.iter().rposition(|&byte| byte == b'/');
    let directory = &executable[..end(executable)?];
    let directory = &directory[..end(directory)?];
    let file = OwnFile::open_settings(&[directory, b"/pyvenv.cfg"].concat())?;
    let bytes = (file.status.st_size as u64).min(MOST_BYTES_OF_SETTINGS);
    let text = file.read(0, bytes).ok()?;
    let mut lines = text.split(|&byte| byte == b'\n');
    lines.find_map(|line| {
        let equals = line.iter().position(|&byte| byte == b'=')?;
        let (name, value) = (&line[..equals], &line[equals + 1..]);
        match value.trim_ascii() {
            _ if name.trim_ascii() != SETTING => None,
            value if value == AUTO.as_bytes() => Some(true),
            value if value == OFF.as_bytes() => Some(false),
            _ => None,
        }
    })
}

/// The archive of a variant.
pub fn archive(entry: &[u8], variant: usize) -> Vec<u8> {
    [entry, format!("/{variant}.cds").as_bytes()].concat()
}

/// The entry that an archive or an image belongs to.
pub fn entry_of(file: &[u8]) -> Option<&[u8]> {
    let end = file.iter().rposition(|&byte| byte == b'/')?;
    Some(&file[..end])
}
