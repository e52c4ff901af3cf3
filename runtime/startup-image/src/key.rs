//! The key of an image: everything that the imports looked at. An image is used only where all of it is the same.

use alloc::borrow::ToOwned;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::mem::MaybeUninit;

use rustix::fs::{CWD, FileType, Mode, OFlags, RawDir};
use rustix::io::Errno;
use rustix::process::{Resource, getrlimit};
use rustix::thread::sched_getaffinity;
use serde::{Deserialize, Serialize};

use crate::bytes::Bytes;
use crate::command_line::{self, CommandLine};
use crate::facts::Fact;
use crate::searched::Searched;
use crate::start::Start;
use crate::streams::Terminal;
use crate::times::{changed_ns, modified_ns};

/// Why an image does not fit a program with other arguments.
pub const OTHER_ARGUMENTS: &str = "it was made for the program with other arguments";

/// Prefixes of the variables that C libraries read. Not all of these reads can be observed.
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

/// The allocator mimalloc also reads these variables in lower case.
const OF_MIMALLOC: &[u8] = b"MIMALLOC_";

/// Variables that only say which archive to use.
const ABOUT_ARCHIVES: [&[u8]; 2] = [b"PYTHON_CDS", b"PYCDS"];

/// Variables that shells change with each command.
const OF_SHELLS: [&[u8]; 4] = [b"_", b"OLDPWD", b"PWD", b"SHLVL"];

#[derive(Serialize, Deserialize)]
pub struct Key<'a> {
    #[serde(borrow)]
    pub build_id: Bytes<'a>,
    /// `sys.executable`
    pub executable: Bytes<'a>,
    pub options: Vec<Bytes<'a>>,
    /// The program, if the image is of a program and not of a list of modules.
    pub program: Option<Program<'a>>,
    /// Whether this is a base image: the interpreter was frozen before its program, so the image is for any program.
    pub is_base: bool,
    pub machine: Machine,
    /// Variables that were read, and all that a library might have read, with their values.
    pub environment: Vec<(Bytes<'a>, Option<Bytes<'a>>)>,
    /// If imports have looked at all variables: those that count then ([`counts_in_whole`]), in their order.
    pub whole_environment: Option<Vec<(Bytes<'a>, Bytes<'a>)>>,
    /// What is compared instead of HOME, if only `site` has read it.
    pub user_site: Option<UserSite<'a>>,
    /// Files and directories that were looked at or searched for.
    pub paths: Vec<(Bytes<'a>, Stamp)>,
    /// Directories that modules were searched in.
    pub searched: Vec<Searched<'a>>,
    /// The working directory, if it is compared.
    pub directory: Option<Bytes<'a>>,
    /// Facts that were asked of the kernel, with their values.
    pub facts: Vec<(Fact, Bytes<'a>)>,
    /// Whether the image only fits where no signals are ignored, except those that the interpreter ignores by itself.
    pub counts_signals: bool,
    /// What imports have asked of the standard streams.
    pub terminals: Vec<Terminal>,
    /// Whether `sys.path` begins without the program's directory.
    pub has_safe_path: bool,
    /// First parts of the names of modules that came from files or were not found, sorted.
    pub top_level_modules: Vec<Bytes<'a>>,
    /// Full names of modules that are no packages, each followed by a line break.
    pub modules: Bytes<'a>,
    /// Suffixes of files that can be imported.
    pub suffixes: Vec<Bytes<'a>>,
}

/// The program that was running when the image was taken.
#[derive(Serialize, Deserialize)]
pub struct Program<'a> {
    #[serde(borrow)]
    pub identity: Bytes<'a>,
    /// The number of its arguments, without its name, if it has asked for the number.
    pub argument_count: Option<u64>,
    /// Its arguments, if it has looked at one of them.
    pub arguments: Option<Vec<Bytes<'a>>>,
    /// Whether the program is stopped before it looks at an argument, because its runs had different arguments.
    pub is_for_any_arguments: bool,
}

/// The directory in which `site` looks for modules of the user (Lib/site.py, `addusersitepackages()`). It did not exist
/// when the image was taken. A restored process gets the directory names that belong to its own HOME.
#[derive(Serialize, Deserialize)]
pub struct UserSite<'a> {
    /// The part behind HOME in the name of the directory that must not exist; none if `site` does not look for it.
    #[serde(borrow)]
    pub missing: Option<Bytes<'a>>,
}

/// Tells whether a path still leads to the same file or directory.
#[derive(Serialize, Deserialize, PartialEq, Eq, Clone, Copy)]
pub enum Stamp {
    Missing,
    /// A file that was read, or a directory that was listed. For a directory, `ctime_ns` and `size` are zero.
    Contents {
        mtime_ns: i64,
        /// Changes if the mode changes.
        ctime_ns: i64,
        /// Differs if a symbolic link leads to another file with the same times.
        inode: u64,
        size: u64,
    },
    /// A directory that only had to exist.
    Directory,
    /// A directory whose status was asked for. Each change of its status changes `ctime_ns`.
    Status {
        ctime_ns: i64,
        inode: u64,
    },
    /// A symbolic link. The time is that of the link itself.
    Link {
        ctime_ns: i64,
    },
}

impl Stamp {
    /// Whether the path has this stamp now.
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

/// The user and the machine.
#[derive(Serialize, Deserialize, PartialEq, Eq, Clone)]
pub struct Machine {
    /// Features of the processor: AT_HWCAP, AT_HWCAP2 and AT_MINSIGSTKSZ (getauxval(3)), and leaf 7 of CPUID.
    /// AT_MINSIGSTKSZ grows with the registers of the processor.
    processor: [u64; 5],
    /// Real and effective user and group.
    identity: [u32; 4],
    stack_limit: Option<u64>,
    /// The number of processors that the process may use, if it is compared: libraries start as many threads.
    processors: Option<u32>,
}

impl Machine {
    /// The user and machine of this process. `auxiliary` returns the value of the auxiliary vector for a kind.
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

    /// The same with the number of processors.
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

/// Whether a library might read the variable.
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

/// Whether a variable that no code has asked for by name is compared if code has looked at all variables.
pub fn counts_in_whole(name: &[u8]) -> bool {
    !is_about_archives(name) && !OF_SHELLS.contains(&name)
}

/// Whether this process was started with ignored signals.
#[cfg(target_arch = "x86_64")]
fn ignores_signals() -> bool {
    crate::signals::ignored_signals() != Some(0)
}

#[cfg(not(target_arch = "x86_64"))]
fn ignores_signals() -> bool {
    true
}

/// The text for messages.
fn shown(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn slices<'b>(many: &'b [Bytes]) -> impl Iterator<Item = &'b [u8]> + Clone {
    many.iter().map(|bytes| &**bytes)
}

impl Key<'_> {
    /// Why the image does not fit a process with this start and command line; none if it fits. Cheap checks come first.
    pub fn mismatch(&self, start: &Start, line: &CommandLine) -> Option<String> {
        if start.build_id().as_deref().map(str::as_bytes) != Some(&*self.build_id) {
            return Some("it was made with another interpreter".to_owned());
        }
        if !line
            .options
            .iter()
            .map(Vec::as_slice)
            .eq(slices(&self.options))
        {
            return Some(format!(
                "it was made with the options \"{}\", these are \"{}\"",
                shown(&slices(&self.options).collect::<Vec<_>>().join(&b' ')),
                shown(&line.options.join(&b' '))
            ));
        }
        if start.executable().as_deref() != Some(&*self.executable) {
            return Some(format!("it was made with {}", shown(&self.executable)));
        }
        if let Some(program) = &self.program {
            if line.program.identity_here().as_deref() != Some(&*program.identity) {
                return Some("it was made for another program".to_owned());
            }
            let now = start.arguments.get(line.rest..).unwrap_or_default();
            let count = now.len() as u64;
            if let Some(then) = program.argument_count
                && then != count
            {
                return Some(format!(
                    "it was made for a program with {then} arguments, this one has {count}"
                ));
            }
            let now = now.iter().map(|argument| argument.to_bytes());
            if let Some(then) = &program.arguments
                && !now.eq(slices(then))
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
                    "it was made with {then} usable processors, this process has {now}"
                ));
            }
        }
        if self.machine != machine {
            return Some("it was made for another user, processor or stack limit".to_owned());
        }
        for (name, value) in &self.environment {
            if start.variable(name) != value.as_deref() {
                return Some(format!("the variable {} has another value", shown(name)));
            }
        }
        let is_new = |name: &[u8]| {
            may_be_read(name) && !self.environment.iter().any(|(known, _)| **known == *name)
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
        if let Some(directory) = &self.directory {
            let here = rustix::process::getcwd(Vec::new());
            if !here.is_ok_and(|here| *here.to_bytes() == **directory) {
                return Some(format!("it was made in {}", shown(directory)));
            }
        }
        let mut facts = self.facts.iter();
        if let Some(reason) = facts.find_map(|(fact, then)| fact.mismatch(then)) {
            return Some(reason);
        }
        if self.counts_signals && ignores_signals() {
            return Some(
                "this process ignores signals (nohup, &), the frozen process did not".to_owned(),
            );
        }
        if let Some(reason) = self.terminals.iter().find_map(Terminal::mismatch) {
            return Some(reason);
        }
        if let command_line::Program::Module(name) = &line.program
            && self.is_of_list()
            && let Some(module) = self.imported(name)
        {
            return Some(format!(
                "it has already imported {module}, which -m would run again"
            ));
        }
        self.shadowed(&line.program)
    }

    fn is_of_list(&self) -> bool {
        self.program.is_none() && !self.is_base
    }

    /// Files and directories that have changed.
    pub fn changed(&self) -> impl Iterator<Item = &[u8]> {
        let paths = self.paths.iter();
        let paths = paths.filter(|(path, then)| !then.is_of(path));
        let searched = self.searched.iter();
        let searched = searched.filter(|directory| !directory.is_as_it_was(slices(&self.suffixes)));
        let searched = searched.map(|directory| &*directory.path);
        paths.map(|(path, _)| &**path).chain(searched)
    }

    /// The module that `-m` would run, if imports have already run it: the interpreter would run it twice and warn.
    fn imported(&self, name: &[u8]) -> Option<String> {
        let of_package = [name, b".__main__"].concat();
        let mut modules = self.modules.split(|&byte| byte == b'\n');
        let found = modules.find(|module| [name, &of_package].contains(module))?;
        Some(shown(found))
    }

    /// Whether the program's directory, which is searched first, has a module with the name of a module of the image.
    /// The image of a program needs no such check: its key has the searches of the program. Nor does a base image: its
    /// modules were imported before the program's directory was known.
    fn shadowed(&self, program: &command_line::Program) -> Option<String> {
        if self.has_safe_path || !self.is_of_list() {
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
                    "{} in {} would hide a module of the image",
                    shown(name),
                    shown(&directory)
                ));
            }
        }
        None
    }

    /// Whether an entry of a directory is a module whose name is also the name of a module of the image.
    fn has_module(&self, directory: &[u8], entry: &[u8]) -> bool {
        let dot = entry.iter().position(|&byte| byte == b'.');
        let (module, suffix) = entry.split_at(dot.unwrap_or(entry.len()));
        let mut order = |known: &Bytes| (**known).cmp(module);
        if self.top_level_modules.binary_search_by(&mut order).is_err() {
            return false;
        }
        let mut suffixes = slices(&self.suffixes);
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
    /// Whether the image is for certain arguments only, and these differ.
    pub fn has_others(&self, arguments: &[&[u8]]) -> bool {
        self.arguments
            .as_ref()
            .is_some_and(|then| !slices(then).eq(arguments.iter().copied()))
    }
}

impl UserSite<'_> {
    fn mismatch(&self, start: &Start) -> Option<String> {
        let Some(home) = start.variable(b"HOME") else {
            return Some("the variable HOME is not set".to_owned());
        };
        // As in `os.path.expanduser()` (Lib/posixpath.py).
        let end = home.iter().rposition(|&byte| byte != b'/');
        let home = &home[..end.map_or(0, |end| end + 1)];
        let directory = [home, self.missing.as_deref()?].concat();
        let is_there = rustix::fs::stat(&directory[..]).is_ok();
        is_there.then(|| format!("{} exists and would be in sys.path", shown(&directory)))
    }
}

/// How the environment as a whole differs from that of the key.
fn differs(then: &[(Bytes, Bytes)], start: &Start) -> Option<String> {
    let now = || start.variables().filter(|(name, _)| counts_in_whole(name));
    if now().eq(then.iter().map(|(name, value)| (&**name, &**value))) {
        return None;
    }
    for (name, value) in then {
        if start.variable(name) != Some(&**value) {
            return Some(format!("the variable {} has another value", shown(name)));
        }
    }
    let is_new = |name: &[u8]| !then.iter().any(|(known, _)| **known == *name);
    let new = now().find(|(name, _)| is_new(name));
    Some(new.map_or_else(
        || "the variables have another order".to_owned(),
        |(name, _)| format!("the variable {} is new", shown(name)),
    ))
}

/// The directory in which a script finds its modules.
///
/// # Errors
/// A text that says why an image of a list cannot be used for this kind of script.
fn place_of_modules(script: &[u8]) -> Result<Vec<u8>, String> {
    let path = end_of_links(script)?;
    if !is_plain_file(&path).ok_or_else(|| missing(script))? {
        let shown = shown(script);
        return Err(format!("{shown} is not a source file"));
    }
    Ok(directory_of(&path))
}

/// The path of a script after its symbolic links are followed: `sys.path[0]` is the directory of this path
/// (Python/pathconfig.c, `_PyPathConfig_ComputeSysPath0()`).
///
/// # Errors
/// A text that says that the script does not exist.
fn end_of_links(script: &[u8]) -> Result<Vec<u8>, String> {
    // The limit of the kernel (path_resolution(7)).
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
    format!("{} does not exist", shown(script))
}

fn directory_of(path: &[u8]) -> Vec<u8> {
    match path.iter().rposition(|&byte| byte == b'/') {
        Some(0) => b"/".to_vec(),
        Some(end) => path[..end].to_vec(),
        None => b".".to_vec(),
    }
}

/// Whether a file is neither a directory nor a zip file, which Python runs like a directory; none if it cannot be
/// read.
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
