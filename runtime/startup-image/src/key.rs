//! What must be as it was for an image to stand for a start: everything that the imports looked at.

use alloc::borrow::ToOwned;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::mem::MaybeUninit;

use rustix::fs::{Access, CWD, FileType, Mode, OFlags, RawDir};
use rustix::io::Errno;
use rustix::process::{Resource, getrlimit};
use rustix::thread::sched_getaffinity;
use serde::{Deserialize, Serialize};

use crate::command_line::{self, CommandLine};
use crate::facts::Fact;
use crate::searched::Searched;
use crate::start::Start;
use crate::streams::Terminal;
use crate::times::{changed_ns, modified_ns};

/// Why an image does not fit a program with other arguments.
pub const OTHER_ARGUMENTS: &str = "it was made for the program with other arguments";

/// Beginnings of variables that C libraries read, which nobody can watch.
const READ_BY_LIBRARIES: [&[u8]; 21] = [
    b"PYTHON",
    b"LC_",
    b"LANG",
    b"LD_",
    b"GLIBC_TUNABLES",
    b"MALLOC_",
    b"LOCPATH",
    b"TZ",
    b"OMP_",
    b"GOMP_",
    b"KMP_",
    b"OPENBLAS_",
    b"GOTO_",
    b"BLIS_",
    b"MKL_",
    b"NUMEXPR_",
    b"OPENSSL_",
    b"SSL_",
    b"TF_",
    b"XLA_",
    b"CUDA_",
];

/// The allocator mimalloc takes them in lower case, too.
const OF_MIMALLOC: &[u8] = b"MIMALLOC_";

/// Variables that only say which archive to use.
const ABOUT_ARCHIVES: [&[u8]; 2] = [b"PYTHON_CDS", b"PYCDS"];

/// Variables of shells, which change them with each command.
const OF_SHELLS: [&[u8]; 4] = [b"_", b"OLDPWD", b"PWD", b"SHLVL"];

#[derive(Serialize, Deserialize)]
pub struct Key<'a> {
    pub build_id: &'a str,
    /// `sys.executable`
    pub executable: &'a [u8],
    #[serde(borrow)]
    pub options: Vec<&'a [u8]>,
    /// The only program that the image is of, if it is of one.
    #[serde(borrow)]
    pub program: Option<Program<'a>>,
    pub machine: Machine,
    /// Variables that were read, and all that a library might have read; with their values.
    #[serde(borrow)]
    pub environment: Vec<(&'a [u8], Option<&'a [u8]>)>,
    /// All that count where somebody looks at all of them, in their order, if somebody has.
    #[serde(borrow)]
    pub whole_environment: Option<Vec<(&'a [u8], &'a [u8])>>,
    /// What counts of HOME, if only `site` knows of it.
    #[serde(borrow)]
    pub user_site: Option<UserSite<'a>>,
    /// Files and directories that were looked at, or for.
    #[serde(borrow)]
    pub paths: Vec<(&'a [u8], Stamp)>,
    /// Directories that modules were searched in.
    #[serde(borrow)]
    pub searched: Vec<Searched<'a>>,
    /// The working directory, if that counts.
    #[serde(borrow)]
    pub directory: Option<&'a [u8]>,
    /// What was asked for that the kernel tells, and what it was.
    #[serde(borrow)]
    pub facts: Vec<(Fact, &'a [u8])>,
    /// Whether it counts that no signal is ignored, but those that the interpreter ignores by itself.
    pub counts_signals: bool,
    /// What imports have asked of the standard streams.
    pub terminals: Vec<Terminal>,
    /// Whether `sys.path` begins without the program's directory.
    pub has_safe_path: bool,
    /// First parts of the names of modules that came from files, or were not found, sorted.
    #[serde(borrow)]
    pub top_level_modules: Vec<&'a str>,
    /// Full names of modules that are no packages, each with a line break behind it.
    pub modules: &'a [u8],
    /// How the names of files end that can be imported.
    #[serde(borrow)]
    pub suffixes: Vec<&'a str>,
}

/// The program that was running when the image was taken.
#[derive(Serialize, Deserialize)]
pub struct Program<'a> {
    pub identity: &'a [u8],
    /// How many arguments it had behind its name, if it has asked.
    pub argument_count: Option<u64>,
    /// Its arguments, if it has looked at one.
    #[serde(borrow)]
    pub arguments: Option<Vec<&'a [u8]>>,
    /// Whether it was stopped before it would have looked at one, since its runs have had different ones.
    pub is_for_any_arguments: bool,
}

/// Where `site` looks for modules of the user (Lib/site.py, `addusersitepackages()`). There were none, and a restored
/// process gets names of directories that follow its own HOME.
#[derive(Serialize, Deserialize)]
pub struct UserSite<'a> {
    /// What follows HOME in the name of a directory that must not be there; none if it is not looked for.
    pub missing: Option<&'a [u8]>,
}

/// What tells that a path leads to what it has led to.
#[derive(Serialize, Deserialize, PartialEq, Eq, Clone, Copy)]
pub enum Stamp {
    Missing,
    /// A file that was read, or a directory that was listed, whose size and time of the last change of its status count as zero.
    Contents {
        mtime_ns: i64,
        /// It tells of another mode.
        ctime_ns: i64,
        /// It tells of another file with the same times, where a symbolic link leads elsewhere.
        inode: u64,
        size: u64,
    },
    /// A directory that only had to be there.
    Directory,
    /// A directory whose status was asked for: its time of the last change tells of all that belongs to it.
    Status {
        ctime_ns: i64,
        inode: u64,
    },
    /// A symbolic link to one; the time is the link's own.
    Link {
        ctime_ns: i64,
    },
}

impl Stamp {
    /// Whether it is that of a path now.
    pub fn is_of(&self, path: &[u8]) -> bool {
        if let Self::Link { ctime_ns } = self {
            let status = rustix::fs::lstat(path);
            return status.is_ok_and(|status| changed_ns(&status) == *ctime_ns);
        }
        let Ok(status) = rustix::fs::stat(path) else {
            return *self == Self::Missing;
        };
        let is_directory = FileType::from_raw_mode(status.st_mode) == FileType::Directory;
        match self {
            Self::Contents {
                mtime_ns,
                ctime_ns,
                inode,
                size,
            } => {
                let (changed, bytes) = if is_directory {
                    (0, 0)
                } else {
                    (changed_ns(&status), status.st_size as u64)
                };
                let is_same = status.st_ino == *inode && modified_ns(&status) == *mtime_ns;
                is_same && changed == *ctime_ns && bytes == *size
            }
            Self::Status { ctime_ns, inode } => {
                is_directory && changed_ns(&status) == *ctime_ns && status.st_ino == *inode
            }
            Self::Directory => is_directory,
            Self::Missing | Self::Link { .. } => false,
        }
    }
}

/// Who runs on what.
#[derive(Serialize, Deserialize, PartialEq, Eq, Clone)]
pub struct Machine {
    /// Features of the processor: AT_HWCAP, AT_HWCAP2 and AT_MINSIGSTKSZ (getauxval(3)), which grows with its
    /// registers, and leaf 7 of CPUID.
    processor: [u64; 5],
    /// Real and effective user and group.
    identity: [u32; 4],
    stack_limit: Option<u64>,
    /// How many processors it may use, if that counts: libraries have as many threads.
    processors: Option<u32>,
}

impl Machine {
    /// With the auxiliary vector's values by their kinds.
    pub fn current(auxiliary: impl Fn(u64) -> u64) -> Self {
        let leaf = leaf_7();
        Self {
            processor: [
                auxiliary(libc::AT_HWCAP),
                auxiliary(libc::AT_HWCAP2),
                auxiliary(libc::AT_MINSIGSTKSZ),
                leaf[0],
                leaf[1],
            ],
            identity: [
                rustix::process::getuid().as_raw(),
                rustix::process::geteuid().as_raw(),
                rustix::process::getgid().as_raw(),
                rustix::process::getegid().as_raw(),
            ],
            stack_limit: getrlimit(Resource::Stack).current,
            processors: None,
        }
    }

    /// The same where the number of processors counts.
    pub fn with_processors(self) -> Self {
        let processors = sched_getaffinity(None).ok().map(|set| set.count());
        Self { processors, ..self }
    }
}

#[cfg(target_arch = "x86_64")]
fn leaf_7() -> [u64; 2] {
    let leaf = core::arch::x86_64::__cpuid_count(7, 0);
    let pair = |high, low| u64::from(high) << 32 | u64::from(low);
    [pair(leaf.eax, leaf.ebx), pair(leaf.ecx, leaf.edx)]
}

#[cfg(not(target_arch = "x86_64"))]
fn leaf_7() -> [u64; 2] {
    [0; 2]
}

/// Whether a library might read a variable.
pub fn may_be_read(name: &[u8]) -> bool {
    let begins_with = |start: &[u8]| {
        let beginning = name.get(..start.len());
        beginning.is_some_and(|beginning| beginning.eq_ignore_ascii_case(start))
    };
    let mut starts = READ_BY_LIBRARIES.iter();
    !is_about_archives(name)
        && (starts.any(|start| name.starts_with(start)) || begins_with(OF_MIMALLOC))
}

fn is_about_archives(name: &[u8]) -> bool {
    ABOUT_ARCHIVES.iter().any(|start| name.starts_with(start))
}

/// Whether a variable that nobody has asked for counts where somebody has looked at all of them.
pub fn counts_in_whole(name: &[u8]) -> bool {
    !is_about_archives(name) && !OF_SHELLS.contains(&name)
}

fn identity_here(program: &command_line::Program) -> Option<Vec<u8>> {
    // It may have been removed.
    let here = rustix::process::getcwd(Vec::new()).unwrap_or_default();
    program.identity(here.to_bytes())
}

/// Whether the process that this one comes from has had signals ignored.
#[cfg(target_arch = "x86_64")]
fn ignores_signals() -> bool {
    crate::signals::ignored_signals() != Some(0)
}

#[cfg(not(target_arch = "x86_64"))]
fn ignores_signals() -> bool {
    true
}

/// For messages.
fn shown(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

impl Key<'_> {
    /// Why the image does not fit a process with this start and command line; none if it does. What is cheap to find
    /// out comes first.
    pub fn mismatch(&self, start: &Start, line: &CommandLine) -> Option<String> {
        if start.build_id().as_deref() != Some(self.build_id) {
            return Some("it was made with another interpreter".to_owned());
        }
        if !line.options.iter().eq(&self.options) {
            return Some(format!(
                "it was made with the options \"{}\", these are \"{}\"",
                shown(&self.options.join(&b' ')),
                shown(&line.options.join(&b' '))
            ));
        }
        let name = start.arguments.first().map(|name| name.to_bytes());
        let program = name.and_then(|name| executable(name, start.variable(b"PATH")));
        if program.as_deref() != Some(self.executable) {
            return Some(format!("it was made with {}", shown(self.executable)));
        }
        if let Some(program) = &self.program {
            if identity_here(&line.program).as_deref() != Some(program.identity) {
                return Some("it was made for another program".to_owned());
            }
            let now = start.arguments.get(line.rest..).unwrap_or_default();
            let count = now.len() as u64;
            if let Some(then) = program.argument_count
                && then != count
            {
                return Some(format!(
                    "it was made for a program with {then} arguments, here it has {count}"
                ));
            }
            let now = now.iter().map(|argument| argument.to_bytes());
            if let Some(then) = &program.arguments
                && !now.eq(then.iter().copied())
            {
                return Some(OTHER_ARGUMENTS.to_owned());
            }
        }
        let mut machine = Machine::current(|kind| start.auxiliary(kind));
        if let Some(then) = self.machine.processors {
            machine = machine.with_processors();
            let now = machine.processors.unwrap_or_default();
            if now != then {
                return Some(format!(
                    "it was made where {then} processors could be used, here it is {now}"
                ));
            }
        }
        if self.machine != machine {
            return Some("it was made for another user, processor or stack limit".to_owned());
        }
        for (name, value) in &self.environment {
            if start.variable(name) != *value {
                return Some(format!("the variable {} has another value", shown(name)));
            }
        }
        let is_new = |name: &[u8]| {
            may_be_read(name) && !self.environment.iter().any(|(known, _)| *known == name)
        };
        if let Some((name, _)) = start.variables().find(|(name, _)| is_new(name)) {
            return Some(format!("the variable {} is new", shown(name)));
        }
        if let Some(then) = &self.whole_environment
            && let Some(reason) = differs(then, start)
        {
            return Some(reason);
        }
        if let Some(reason) = self
            .user_site
            .as_ref()
            .and_then(|site| site.mismatch(start))
        {
            return Some(reason);
        }
        if let Some(directory) = self.directory {
            let here = rustix::process::getcwd(Vec::new());
            if !here.is_ok_and(|here| here.to_bytes() == directory) {
                return Some(format!("it was made in {}", shown(directory)));
            }
        }
        let mut facts = self.facts.iter();
        if let Some(reason) = facts.find_map(|(fact, then)| fact.mismatch(then)) {
            return Some(reason);
        }
        if self.counts_signals && ignores_signals() {
            return Some(
                "signals are ignored here (nohup, &), and were not when it was made".to_owned(),
            );
        }
        if let Some(reason) = self.terminals.iter().find_map(Terminal::mismatch) {
            return Some(reason);
        }
        if let command_line::Program::Module(name) = &line.program
            && self.program.is_none()
            && let Some(module) = self.imported(name)
        {
            return Some(format!("it has imported {module}, which -m is to run"));
        }
        self.shadowed(&line.program)
    }

    /// Files and directories that are not as they were.
    pub fn changed(&self) -> impl Iterator<Item = &[u8]> {
        let paths = self.paths.iter();
        let paths = paths.filter(|(path, then)| !then.is_of(path));
        let searched = self.searched.iter();
        let searched = searched.filter(|directory| !directory.is_as_it_was(&self.suffixes));
        let searched = searched.map(|directory| directory.path);
        paths.map(|(path, _)| *path).chain(searched)
    }

    /// What `-m` would run, if imports have run it already: it would be run twice, and say so.
    fn imported(&self, name: &[u8]) -> Option<String> {
        let of_package = [name, b".__main__"].concat();
        let mut modules = self.modules.split(|&byte| byte == b'\n');
        let found = modules.find(|module| [name, &of_package].contains(module))?;
        Some(shown(found))
    }

    /// Whether a module of the image would be found in the program's directory, which comes first. Where the program has searched
    /// itself, that is known.
    fn shadowed(&self, program: &command_line::Program) -> Option<String> {
        if self.has_safe_path || self.program.is_some() {
            return None;
        }
        let directory = match program {
            command_line::Program::Script(script) => match place_of_modules(script) {
                Ok(directory) => directory,
                Err(reason) => return Some(reason),
            },
            command_line::Program::Command(_)
            | command_line::Program::Module(_)
            | command_line::Program::Stdin => b".".to_vec(),
        };
        let unlisted = || Some(format!("{} cannot be listed", shown(&directory)));
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let Ok(opened) = rustix::fs::openat(CWD, &directory[..], flags, Mode::empty()) else {
            return unlisted();
        };
        let mut buffer = [MaybeUninit::uninit(); crate::PAGE as usize];
        let mut entries = RawDir::new(opened, &mut buffer);
        while let Some(entry) = entries.next() {
            let Ok(entry) = entry else {
                return unlisted();
            };
            let name = entry.file_name().to_bytes();
            if self.has_module(&directory, name) {
                return Some(format!(
                    "{} in {} comes before a module of the image",
                    shown(name),
                    shown(&directory)
                ));
            }
        }
        None
    }

    /// Whether an entry of a directory is a module of a name that the image has, too.
    fn has_module(&self, directory: &[u8], entry: &[u8]) -> bool {
        let dot = entry.iter().position(|&byte| byte == b'.');
        let (module, suffix) = entry.split_at(dot.unwrap_or(entry.len()));
        let mut order = |known: &&str| known.as_bytes().cmp(module);
        if self.top_level_modules.binary_search_by(&mut order).is_err() {
            return false;
        }
        let mut suffixes = self.suffixes.iter().map(|suffix| suffix.as_bytes());
        if !suffix.is_empty() {
            return suffixes.any(|known| known == suffix);
        }
        suffixes.any(|suffix| {
            let path = [directory, b"/", entry, b"/__init__", suffix].concat();
            rustix::fs::stat(&path[..]).is_ok()
        })
    }
}

impl Program<'_> {
    /// Whether the image is for certain arguments, and these are others.
    pub fn has_others(&self, arguments: &[&[u8]]) -> bool {
        self.arguments
            .as_ref()
            .is_some_and(|then| then != arguments)
    }
}

impl UserSite<'_> {
    fn mismatch(&self, start: &Start) -> Option<String> {
        let Some(home) = start.variable(b"HOME") else {
            return Some("the variable HOME is not set".to_owned());
        };
        // As `os.path.expanduser()` has it (Lib/posixpath.py).
        let end = home.iter().rposition(|&byte| byte != b'/');
        let home = &home[..end.map_or(0, |end| end + 1)];
        let directory = [home, self.missing?].concat();
        let is_there = rustix::fs::stat(&directory[..]).is_ok();
        is_there.then(|| format!("there is {}, which comes into sys.path", shown(&directory)))
    }
}

/// How the whole environment differs from what it was.
fn differs(then: &[(&[u8], &[u8])], start: &Start) -> Option<String> {
    let now = || start.variables().filter(|(name, _)| counts_in_whole(name));
    if now().eq(then.iter().copied()) {
        return None;
    }
    for (name, value) in then {
        if start.variable(name) != Some(value) {
            return Some(format!("the variable {} has another value", shown(name)));
        }
    }
    let is_new = |name: &[u8]| !then.iter().any(|(known, _)| *known == name);
    let new = now().find(|(name, _)| is_new(name));
    Some(new.map_or_else(
        || "the variables have another order".to_owned(),
        |(name, _)| format!("the variable {} is new", shown(name)),
    ))
}

/// The directory in which a script finds its modules.
///
/// # Errors
/// A text that says why an image that was frozen before it was known what kind of script it is cannot stand for it.
fn place_of_modules(script: &[u8]) -> Result<Vec<u8>, String> {
    let path = end_of_links(script)?;
    if !is_plain_file(&path).ok_or_else(|| missing(script))? {
        let shown = shown(script);
        return Err(format!("{shown} is not a file of source code"));
    }
    Ok(directory_of(&path))
}

/// Where the symbolic links end that a script may be: `sys.path[0]` is the directory of that (Python/pathconfig.c,
/// `_PyPathConfig_ComputeSysPath0()`).
///
/// # Errors
/// A text that says why an image cannot stand for it.
fn end_of_links(script: &[u8]) -> Result<Vec<u8>, String> {
    // As the kernel has it (path_resolution(7)).
    const MOST_LINKS: usize = 40;
    let mut path = script.to_vec();
    for _ in 0..MOST_LINKS {
        match rustix::fs::readlink(&path[..], Vec::new()) {
            Ok(target) if target.to_bytes().starts_with(b"/") => path = target.into_bytes(),
            Ok(target) => {
                let end = path.iter().rposition(|&byte| byte == b'/');
                path.truncate(end.map_or(0, |end| end + 1));
                path.extend(target.to_bytes());
            }
            Err(Errno::INVAL) => return Ok(path),
            Err(_) => break,
        }
    }
    Err(missing(script))
}

fn missing(script: &[u8]) -> String {
    format!("there is no {}", shown(script))
}

fn directory_of(path: &[u8]) -> Vec<u8> {
    match path.iter().rposition(|&byte| byte == b'/') {
        Some(0) => b"/".to_vec(),
        Some(end) => path[..end].to_vec(),
        None => b".".to_vec(),
    }
}

/// Whether a file is neither a directory nor ends as archives do that Python runs like directories.
fn is_plain_file(path: &[u8]) -> Option<bool> {
    const MOST_COMMENT: u64 = 1 << 16;
    const END_OF_DIRECTORY: u64 = 22;
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOCTTY | OFlags::NONBLOCK;
    let file = rustix::fs::openat(CWD, path, flags, Mode::empty()).ok()?;
    let status = rustix::fs::fstat(&file).ok()?;
    if FileType::from_raw_mode(status.st_mode) != FileType::RegularFile {
        return Some(false);
    }
    let size = status.st_size as u64;
    let start = size.saturating_sub(MOST_COMMENT + END_OF_DIRECTORY);
    let mut tail = alloc::vec![0; (size - start) as usize];
    let mut filled = 0;
    while filled < tail.len() {
        let offset = start + filled as u64;
        match rustix::io::pread(&file, &mut tail[filled..], offset) {
            Ok(0) | Err(_) => return None,
            Ok(bytes) => filled += bytes,
        }
    }
    Some(!tail.windows(4).any(|bytes| bytes == b"PK\x05\x06"))
}

/// What the interpreter takes for its own path (Modules/getpath.py, `program_full_path`).
fn executable(name: &[u8], search_path: Option<&[u8]>) -> Option<Vec<u8>> {
    if name.contains(&b'/') {
        let path = if name.starts_with(b"/") {
            name.to_vec()
        } else {
            let here = rustix::process::getcwd(Vec::new()).ok()?;
            [here.to_bytes(), b"/", name].concat()
        };
        return Some(normalized(&path));
    }
    let directories = search_path?.split(|&byte| byte == b':');
    let mut candidates = directories.map(|directory| [directory, b"/", name].concat());
    candidates.find(|candidate| {
        let is_file = || {
            let status = rustix::fs::stat(&candidate[..]).ok();
            status.is_some_and(|status| {
                FileType::from_raw_mode(status.st_mode) == FileType::RegularFile
            })
        };
        rustix::fs::access(&candidate[..], Access::EXEC_OK).is_ok() && is_file()
    })
}

/// An absolute path without `.` and `..`, as text: links are not followed.
fn normalized(path: &[u8]) -> Vec<u8> {
    let mut parts: Vec<&[u8]> = Vec::new();
    for part in path.split(|&byte| byte == b'/') {
        match part {
            b"" | b"." => {}
            b".." => {
                parts.pop();
            }
            part => parts.push(part),
        }
    }
    parts
        .iter()
        .flat_map(|part| [b"/", *part].concat())
        .collect()
}
