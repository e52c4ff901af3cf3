//! What a restored process does first: what a forked child does, and then what a start does that depends on the command
//! line, the environment and the standard streams.

use std::ffi::{CStr, CString, c_char};
use std::os::unix::ffi::OsStrExt;
use std::ptr::NonNull;

use super::command_line::{CommandLine, Program};
use super::finalize;
use super::restore::{requested, setting};
use crate::cpython::bindings as raw;
use crate::cpython::image;
use crate::cpython::object::{Object, Result};
use crate::options::{Auto, StatsTarget};
use crate::runtime;

/// What the new process was started with; the trampoline fills it in.
pub struct Restored {
    pub argc: u64,
    pub argv: *const *const c_char,
    pub envp: *mut *mut c_char,
    /// A bit for each, from 1 on.
    pub ignored_signals: u64,
}

pub static mut RESTORED: Restored = Restored {
    argc: 0,
    argv: std::ptr::null(),
    envp: std::ptr::null_mut(),
    ignored_signals: 0,
};

/// Whether this process was restored.
pub fn is_restored() -> bool {
    // SAFETY: written before this process's first instruction, and never since.
    unsafe { !RESTORED.argv.is_null() }
}

/// Takes the process over.
///
/// # Safety
/// Called once, by the only thread of a restored process, with the GIL.
pub unsafe fn resume() -> Result<()> {
    // SAFETY: the trampoline has filled it in, with strings that stay.
    let arguments: Vec<&CStr> = unsafe {
        libc::environ = RESTORED.envp;
        raw::PyOS_AfterFork_Child();
        (0..RESTORED.argc as usize)
            .map(|index| CStr::from_ptr(*RESTORED.argv.add(index)))
            .collect()
    };
    let bytes: Vec<&[u8]> = arguments
        .iter()
        .map(|argument| argument.to_bytes())
        .collect();
    let Some(line) = CommandLine::parse(&bytes) else {
        // It was understood before the image was chosen.
        return Ok(());
    };
    finalize::begin(&line);
    if let (Some(runtime), Some(image)) = (runtime::current(), requested(&line)) {
        runtime.resume(runtime::Restored {
            image,
            stats: stats_target(&line),
            auto: auto(&line),
        });
    }
    let program_arguments = configure(&line, &bytes);
    let items = |items: &[Vec<u8>]| {
        Object::list(
            items
                .iter()
                .map(|item| Object::from_bytes(item))
                .collect::<Result<Vec<_>>>()?,
        )
    };
    let all: Vec<Vec<u8>> = bytes.iter().map(|argument| argument.to_vec()).collect();
    let options: Vec<Vec<u8>> = line
        .cds
        .iter()
        .map(|(name, value)| [&name[..], b"=", value].concat())
        .collect();
    // SAFETY: as above; the strings stay for as long as the process.
    let environment: Vec<Vec<u8>> = unsafe {
        (0..)
            .map_while(|index| NonNull::new(*RESTORED.envp.add(index)))
            .map(|variable| CStr::from_ptr(variable.as_ptr()).to_bytes().to_vec())
            .collect()
    };
    // SAFETY: as above.
    let ignored = unsafe { RESTORED.ignored_signals };
    let ignored = (1..=64_i64).filter(|signal| ignored & 1 << (signal - 1) != 0);
    image::init_standard_streams()?;
    let resumed = Object::import(c"cds.startup")?.attribute(c"resumed")?;
    resumed.call(vec![
        items(&program_arguments)?,
        items(&all)?,
        items(&options)?,
        items(&environment)?,
        Object::list(ignored.map(Object::int).collect::<Result<Vec<_>>>()?)?,
    ])?;
    Ok(())
}

/// What the process shall renew.
fn auto(line: &CommandLine) -> Option<Auto> {
    let value = setting(line, "cds_auto").filter(|_| setting(line, "cds").is_none())?;
    value.to_str().map(Auto::of_option)
}

/// Where the process shall leave its statistics.
fn stats_target(line: &CommandLine) -> Option<StatsTarget> {
    let inherited = || std::env::var("PYTHON_CDS_STATS").ok();
    let option = line.cds("cds_stats");
    let value = match option {
        Some(value) => String::from_utf8_lossy(value).into_owned(),
        None if line.ignores_environment() => return None,
        None => inherited().filter(|value| !value.is_empty())?,
    };
    StatsTarget::of_option(&value)
}

/// Tells the interpreter what to run, as `config_parse_cmdline()` and `config_update_argv()` in Python/initconfig.c do,
/// and returns the program's arguments.
fn configure(line: &CommandLine, arguments: &[&[u8]]) -> Vec<Vec<u8>> {
    let mut rest: Vec<Vec<u8>> = arguments[line.rest.min(arguments.len())..]
        .iter()
        .map(|argument| argument.to_vec())
        .collect();
    match &line.program {
        Program::Command(code) => {
            image::run_command(&text(&[&code[..], b"\n"].concat()));
            rest.insert(0, b"-c".to_vec());
        }
        Program::Module(name) => {
            image::run_module(&text(name));
            rest.insert(0, b"-m".to_vec());
        }
        Program::Script(path) => {
            let absolute = if path.starts_with(b"/") {
                path.clone()
            } else {
                let here = std::env::current_dir().unwrap_or_default();
                [here.as_os_str().as_bytes(), b"/", path].concat()
            };
            image::run_file(&text(&absolute));
        }
        Program::Stdin if rest.is_empty() => rest.push(Vec::new()),
        Program::Stdin => {}
    }
    image::set_arguments(
        &rest
            .iter()
            .map(|argument| text(argument))
            .collect::<Vec<_>>(),
    );
    rest
}

/// An argument, which has no NUL in it.
fn text(bytes: &[u8]) -> CString {
    CString::new(bytes).unwrap_or_default()
}
