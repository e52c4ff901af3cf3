//! What must be as it was for an image to stand for a start: everything that the imports looked at.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::MetadataExt;
use std::path::{Component, Path, PathBuf};

use rustix::process::{Resource, getrlimit};
use serde::{Deserialize, Serialize};

use super::command_line::{CommandLine, Program};

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

/// Variables that only say which archive to use.
const ABOUT_ARCHIVES: &[u8] = b"PYTHON_CDS";

#[derive(Serialize, Deserialize)]
pub struct Key {
    pub build_id: String,
    /// `sys.executable`
    pub executable: Vec<u8>,
    pub options: Vec<Vec<u8>>,
    pub machine: Machine,
    /// Variables that were read, and all that a library might have read; with their values.
    pub environment: Vec<(Vec<u8>, Option<Vec<u8>>)>,
    /// Files and directories that were looked at, or for.
    pub paths: Vec<(Vec<u8>, Option<Stamp>)>,
    /// Whether `sys.path` begins without the program's directory.
    pub has_safe_path: bool,
    /// First parts of the names of modules that came from files, sorted.
    pub names: Vec<String>,
}

/// What tells that a file has not changed.
#[derive(Serialize, Deserialize, PartialEq, Eq, Clone, Copy)]
pub struct Stamp {
    pub mtime_ns: i64,
    pub size: u64,
}

impl Stamp {
    /// The size of a directory that only had to be there.
    const DIRECTORY: u64 = u64::MAX;
    /// That of a symbolic link to one; the time is the link's own.
    const LINK: u64 = u64::MAX - 1;
}

/// Who runs on what.
#[derive(Serialize, Deserialize, PartialEq, Eq)]
pub struct Machine {
    /// Features of the processor: AT_HWCAP, AT_HWCAP2 and AT_MINSIGSTKSZ (getauxval(3)), which grows with its
    /// registers, and leaf 7 of CPUID.
    processor: [u64; 5],
    /// Real and effective user and group.
    identity: [u32; 4],
    stack_limit: Option<u64>,
    /// How many the process may use; libraries have as many threads.
    processors: u32,
}

impl Machine {
    pub fn current() -> Self {
        // SAFETY: reads the auxiliary vector.
        let auxiliary = |kind| unsafe { libc::getauxval(kind) };
        let leaf = std::arch::x86_64::__cpuid_count(7, 0);
        let pair = |high, low| u64::from(high) << 32 | u64::from(low);
        Self {
            processor: [
                auxiliary(libc::AT_HWCAP),
                auxiliary(libc::AT_HWCAP2),
                auxiliary(libc::AT_MINSIGSTKSZ),
                pair(leaf.eax, leaf.ebx),
                pair(leaf.ecx, leaf.edx),
            ],
            identity: [
                rustix::process::getuid().as_raw(),
                rustix::process::geteuid().as_raw(),
                rustix::process::getgid().as_raw(),
                rustix::process::getegid().as_raw(),
            ],
            stack_limit: getrlimit(Resource::Stack).current,
            processors: processors(),
        }
    }
}

/// How many processors the process may use (sched_getaffinity(2)).
fn processors() -> u32 {
    // More than any kernel is built for.
    let mut mask = [0_u64; 1024];
    // SAFETY: the kernel writes as much as it says, and no more than that.
    unsafe {
        let bytes = size_of_val(&mask);
        libc::syscall(libc::SYS_sched_getaffinity, 0, bytes, mask.as_mut_ptr());
    }
    mask.iter().map(|word| word.count_ones()).sum()
}

/// All variables now.
pub fn environment() -> BTreeMap<Vec<u8>, Vec<u8>> {
    let variables = std::env::vars_os();
    variables
        .map(|(name, value)| (name.into_vec(), value.into_vec()))
        .collect()
}

/// Whether a library might read a variable.
pub fn may_be_read(name: &[u8]) -> bool {
    !name.starts_with(ABOUT_ARCHIVES)
        && READ_BY_LIBRARIES
            .iter()
            .any(|start| name.starts_with(start))
}

/// Whether a path is not what it was.
pub fn has_changed(path: &[u8], then: Option<Stamp>) -> bool {
    match then {
        Some(Stamp {
            size: Stamp::DIRECTORY,
            ..
        }) => !Path::new(OsStr::from_bytes(path)).is_dir(),
        Some(Stamp {
            size: Stamp::LINK,
            mtime_ns,
        }) => {
            let status = std::fs::symlink_metadata(OsStr::from_bytes(path));
            !status.is_ok_and(|status| {
                status.mtime() * 1_000_000_000 + status.mtime_nsec() == mtime_ns
            })
        }
        _ => stamp(path) != then,
    }
}

fn stamp(path: &[u8]) -> Option<Stamp> {
    let status = std::fs::metadata(OsStr::from_bytes(path)).ok()?;
    Some(Stamp {
        mtime_ns: status.mtime() * 1_000_000_000 + status.mtime_nsec(),
        size: if status.is_dir() { 0 } else { status.size() },
    })
}

fn shown(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

impl Key {
    /// Why the image does not fit a process with this command line; none if it does. What is cheap to find out comes
    /// first.
    pub fn mismatch(
        &self,
        line: &CommandLine,
        arguments: &[&[u8]],
        build_id: Option<&str>,
    ) -> Option<String> {
        if build_id != Some(&*self.build_id) {
            return Some("it was made with another interpreter".to_owned());
        }
        if line.options != self.options {
            let text = |options: &[Vec<u8>]| {
                options
                    .iter()
                    .map(|option| shown(option))
                    .collect::<Vec<_>>()
                    .join(" ")
            };
            return Some(format!(
                "it was made with the options {:?}, these are {:?}",
                text(&self.options),
                text(&line.options)
            ));
        }
        let program = arguments.first().and_then(|name| executable(name));
        if program.as_deref() != Some(&self.executable) {
            return Some(format!("it was made with {}", shown(&self.executable)));
        }
        let machine = Machine::current();
        if self.machine.processors != machine.processors {
            return Some(format!(
                "it was made where {} processors could be used, here it is {}",
                self.machine.processors, machine.processors
            ));
        }
        if self.machine != machine {
            return Some("it was made for another user, processor or stack limit".to_owned());
        }
        let variables = environment();
        for (name, value) in &self.environment {
            if variables.get(name) != value.as_ref() {
                return Some(format!("the variable {} has another value", shown(name)));
            }
        }
        let is_new = |name: &Vec<u8>| {
            may_be_read(name) && !self.environment.iter().any(|(known, _)| known == name)
        };
        if let Some(name) = variables.keys().find(|name| is_new(name)) {
            return Some(format!("the variable {} is new", shown(name)));
        }
        if let Some(reason) = self.shadowed(&line.program) {
            return Some(reason);
        }
        let mut paths = self.paths.iter();
        let changed = paths.find(|(path, then)| has_changed(path, *then));
        changed.map(|(path, _)| format!("{} has changed", shown(path)))
    }

    /// Whether a module of the image would be found in the program's directory, which comes first.
    fn shadowed(&self, program: &Program) -> Option<String> {
        if self.has_safe_path {
            return None;
        }
        let directory = match program {
            Program::Script(script) => {
                let script = Path::new(OsStr::from_bytes(script));
                let Ok(script) = script.canonicalize() else {
                    return Some(format!("there is no {}", script.display()));
                };
                if script.is_dir() || is_zip(&script) {
                    return Some(format!("{} is not a file of source code", script.display()));
                }
                script.parent()?.to_owned()
            }
            Program::Command(_) | Program::Module(_) | Program::Stdin => PathBuf::from("."),
        };
        let Ok(entries) = std::fs::read_dir(&directory) else {
            return Some(format!("{} cannot be listed", directory.display()));
        };
        for entry in entries {
            let Ok(entry) = entry else {
                return Some(format!("{} cannot be listed", directory.display()));
            };
            let name = entry.file_name();
            let name = name.to_string_lossy();
            let (module, suffix) = name.split_at(name.find('.').unwrap_or(name.len()));
            let is_in_image = || {
                let mut order = |known: &String| known.as_str().cmp(module);
                self.names.binary_search_by(&mut order).is_ok()
            };
            let is_module = || {
                let is_package = || {
                    let mut suffixes = module_suffixes();
                    suffixes.any(|suffix| entry.path().join(format!("__init__{suffix}")).exists())
                };
                module_suffixes().any(|known| known == suffix) || suffix.is_empty() && is_package()
            };
            if is_in_image() && is_module() {
                return Some(format!(
                    "{name} in {} comes before a module of the image",
                    directory.display()
                ));
            }
        }
        None
    }
}

/// How the names of files end that can be imported.
fn module_suffixes() -> impl Iterator<Item = &'static str> {
    crate::cpython::extension_suffixes().chain([".py", ".pyc"])
}

/// What the interpreter takes for its own path (Modules/getpath.py, `program_full_path`).
pub fn executable(name: &[u8]) -> Option<Vec<u8>> {
    if name.contains(&b'/') {
        let here = std::env::current_dir().ok()?;
        return Some(normalized(&here.join(OsStr::from_bytes(name))));
    }
    let path = std::env::var_os("PATH")?;
    let mut candidates =
        std::env::split_paths(&path).map(|directory| directory.join(OsStr::from_bytes(name)));
    let found = candidates.find(|candidate| {
        rustix::fs::access(candidate, rustix::fs::Access::EXEC_OK).is_ok() && candidate.is_file()
    })?;
    Some(found.into_os_string().into_vec())
}

/// An absolute path without `.` and `..`, as text: links are not followed.
fn normalized(path: &Path) -> Vec<u8> {
    let mut normalized = PathBuf::new();
    for part in path.components() {
        match part {
            Component::CurDir => {}
            Component::ParentDir => {
                normalized.pop();
            }
            part => normalized.push(part),
        }
    }
    normalized.into_os_string().into_vec()
}

/// Whether a file ends as archives do that Python runs like directories.
fn is_zip(path: &Path) -> bool {
    use std::os::unix::fs::FileExt;
    const MOST_COMMENT: u64 = 1 << 16;
    let tail = || {
        let file = std::fs::File::open(path).ok()?;
        let size = file.metadata().ok()?.len();
        let start = size.saturating_sub(MOST_COMMENT + 22);
        let mut tail = vec![0; (size - start) as usize];
        file.read_exact_at(&mut tail, start).ok()?;
        Some(tail)
    };
    tail().is_none_or(|tail| tail.windows(4).any(|bytes| bytes == b"PK\x05\x06"))
}
