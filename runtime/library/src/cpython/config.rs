//! The configuration that the interpreter was started with.

use std::ptr::NonNull;
use std::slice;

use super::raw;

/// The configuration of the main interpreter, in the state that it has before the first object exists: without the path
/// configuration.
#[derive(Clone, Copy)]
pub struct Config(NonNull<raw::PyConfig>);

// SAFETY: the library only reads it. The interpreter writes it only during its start, on one thread.
unsafe impl Send for Config {}
// SAFETY: the library only reads it, and the interpreter does not write it any more after its start.
unsafe impl Sync for Config {}

impl Config {
    /// # Safety
    /// The thread runs the main interpreter, whose configuration has been read, and which outlives the result.
    pub unsafe fn new() -> Option<Self> {
        // SAFETY: the caller's thread runs an interpreter whose configuration has been read.
        let config = unsafe { raw::cds_glue_config(raw::PyInterpreterState_Get()) };
        NonNull::new(config.cast_mut()).map(Self)
    }

    fn get(&self) -> &raw::PyConfig {
        // SAFETY: the interpreter outlives `self`, and the fields read here do not change
        // once they are set.
        unsafe { self.0.as_ref() }
    }

    /// Whether environment variables are used (not with `-E` or `-I`).
    pub fn uses_environment(&self) -> bool {
        self.get().use_environment != 0
    }

    /// `-O` is 1, `-OO` is 2.
    pub fn optimization_level(&self) -> i32 {
        self.get().optimization_level
    }

    /// Whether `sys.path` does not contain the program's directory (`-P`, `-I`, `PYTHONSAFEPATH`).
    pub fn has_safe_path(&self) -> bool {
        self.get().safe_path != 0
    }

    /// Number of `-v` options.
    pub fn verbosity(&self) -> i32 {
        self.get().verbose
    }

    /// Whether the time of each import is printed (`-X importtime`, `PYTHONPROFILEIMPORTTIME`).
    pub fn prints_import_time(&self) -> bool {
        self.get().import_time != 0
    }

    /// Whether code objects have column numbers (not with `-X no_debug_ranges`).
    pub fn has_debug_ranges(&self) -> bool {
        self.get().code_debug_ranges != 0
    }

    /// `-X pycache_prefix` or `PYTHONPYCACHEPREFIX`.
    pub fn pycache_prefix(&self) -> Option<String> {
        // SAFETY: NULL or a NUL-terminated wide string.
        unsafe { wide(self.get().pycache_prefix) }
    }

    /// The directory of the standard library, once the paths are configured.
    pub fn stdlib_directory(&self) -> Option<String> {
        // SAFETY: NULL or a NUL-terminated wide string.
        unsafe { wide(self.get().stdlib_dir) }
    }

    /// `sys.prefix`, once the paths are configured.
    pub fn prefix(&self) -> Option<String> {
        // SAFETY: NULL or a NUL-terminated wide string.
        unsafe { wide(self.get().prefix) }
    }

    /// `sys.executable`, once the paths are configured.
    pub fn executable(&self) -> Option<String> {
        // SAFETY: NULL or a NUL-terminated wide string.
        unsafe { wide(self.get().executable) }
    }

    /// `sys.base_prefix`, once the paths are configured.
    pub fn base_prefix(&self) -> Option<String> {
        // SAFETY: NULL or a NUL-terminated wide string.
        unsafe { wide(self.get().base_prefix) }
    }

    /// The options that decide whether an archive fits, in the form that `cds/interpreter.py` uses.
    pub fn options_for_archives(&self) -> impl Iterator<Item = String> {
        let config = self.get();
        let level = usize::try_from(config.optimization_level).unwrap_or_default();
        let flags = [
            ("-I", config.isolated != 0),
            ("-E", config.use_environment == 0),
            ("-s", config.user_site_directory == 0),
            ("-S", config.site_import == 0),
        ];
        let flags = flags.into_iter().filter(|(_, is_set)| *is_set);
        let optimize = (level > 0).then(|| format!("-{}", "O".repeat(level)));
        let names = ["pycache_prefix", "no_debug_ranges", "frozen_modules"];
        let x_options = self.x_options().into_iter();
        let x_options = x_options.filter(move |(name, _)| names.contains(&name.as_str()));
        let x_options = x_options.map(|(name, value)| match value {
            Some(value) => format!("-X{name}={value}"),
            None => format!("-X{name}"),
        });
        let flags = flags.map(|(flag, _)| flag.to_owned());
        optimize.into_iter().chain(flags).chain(x_options)
    }

    /// The `-X` options: name and value.
    pub fn x_options(&self) -> Vec<(String, Option<String>)> {
        let list = &self.get().xoptions;
        (0..list.length)
            // SAFETY: the list has `length` NUL-terminated wide strings.
            .filter_map(|index| unsafe { wide(*list.items.offset(index)) })
            .map(|option| match option.split_once('=') {
                Some((name, value)) => (name.to_owned(), Some(value.to_owned())),
                None => (option, None),
            })
            .collect()
    }
}

/// The text of a wide string. In it, bytes of the command line that were not UTF-8 are lone surrogates (PEP 383). They
/// become replacement characters; no path in an archive has them.
///
/// # Safety
/// `text` is NULL or NUL-terminated.
unsafe fn wide(text: *const raw::wchar_t) -> Option<String> {
    if text.is_null() {
        return None;
    }
    // SAFETY: the string is NUL-terminated, and nothing behind the NUL is read.
    let units = unsafe {
        let length = (0..).take_while(|&index| *text.add(index) != 0).count();
        slice::from_raw_parts(text, length)
    };
    let character = |&unit: &raw::wchar_t| char::from_u32(unit as u32);
    Some(
        units
            .iter()
            .map(|unit| character(unit).unwrap_or(char::REPLACEMENT_CHARACTER))
            .collect(),
    )
}

/// Reserves the versions of archived code objects (`co_version`), so that the interpreter does not give them to other
/// code. Returns false if the interpreter has already given a version to some code.
///
/// # Safety
/// The thread runs the main interpreter, and no other thread does.
pub unsafe fn reserve_code_versions(count: u32) -> bool {
    // SAFETY: the caller's thread is the only one that runs the interpreter.
    unsafe {
        let next = raw::cds_glue_next_code_version(raw::PyInterpreterState_Get());
        if *next != 1 {
            return false;
        }
        *next += count;
    }
    true
}
