//! What a restored process does first: the steps of a forked child, then those steps of a start that depend on the
//! command line, the environment and the standard streams.

use std::ffi::{CStr, CString, OsStr, c_char};
use std::os::unix::ffi::OsStrExt;
use std::{ptr, slice};

use startup_image::command_line::{Choice, CommandLine, Program};
use startup_image::{cache, signals};

use super::crash;
use super::finalize;
use super::program_name;
use super::refusal;
use super::start::RESTORED;
use super::variables;
use crate::cache::Entries;
use crate::cpython::image;
use crate::cpython::object::{Object, Result};
use crate::cpython::own;
use crate::image::taking::program;
use crate::options::{Auto, StatsTarget};
use crate::record::learning::Learning;
use crate::runtime;

/// Adapts the restored process to its command line, environment and streams.
///
/// # Safety
/// Called once, by the only thread of a restored process, with the GIL.
pub unsafe fn resume() -> Result<()> {
    // SAFETY: this is the only thread. The restore has filled in `RESTORED`, whose arrays end with NULL and stay until
    // the process ends, as its texts do.
    let (arguments, environment, image, entry, ignored) = unsafe {
        libc::environ = ptr::with_exposed_provenance_mut(RESTORED.envp as usize);
        let environment = texts(RESTORED.envp);
        // Taken first, because `renew()` changes the array.
        variables::renew();
        image::after_fork_in_child();
        let arguments = texts(RESTORED.argv);
        if let Some(first) = arguments.first() {
            program_name::renew(first.as_ptr().cast_mut().cast());
        }
        refusal::renew(
            text_at(RESTORED.refusal, RESTORED.refusal_bytes),
            RESTORED.lasting as u8,
        );
        let image = text_at(RESTORED.image, RESTORED.image_bytes);
        let entry = text_at(RESTORED.entry, RESTORED.entry_bytes);
        let ignored = RESTORED.ignored_signals;
        (arguments, environment, image, entry, ignored)
    };
    let Some(line) = CommandLine::parse(&arguments) else {
        // This cannot happen: the launcher has parsed the same command line before it chose the image.
        return Ok(());
    };
    finalize::begin(&line);
    let variable = |name: &[u8]| variable(&environment, name);
    let setting = |name| line.setting(name, variable);
    if let Some(runtime) = runtime::current().filter(|_| !image.is_empty()) {
        let text = |value| String::from_utf8_lossy(value).into_owned();
        let auto = match line.choice(variable) {
            choice @ (Choice::OfCache | Choice::Unset) => {
                let entries = Entries {
                    program: OsStr::from_bytes(entry).into(),
                    is_base: line.program == Program::Stdin,
                    base: None,
                };
                Some(Auto::in_cache(entries, choice == Choice::OfCache))
            }
            Choice::Of(_) | Choice::Nothing => setting("cds_auto")
                .filter(|value| !value.is_empty() && setting("cds").is_none())
                .map(|value| Auto::of_option(&text(value))),
        };
        let is_base = !entry.is_empty() && cache::entry_of(image) != Some(entry);
        let learning = match &auto {
            Some(auto) if is_base => Learning::begin(auto),
            _ => Learning::of_restored(),
        };
        if let Some(entries) = auto.as_ref().and_then(|auto| auto.entries.as_ref())
            && !entries.is_base
        {
            crash::watch(&entries.program);
        }
        runtime.resume(runtime::Restored {
            image: OsStr::from_bytes(image).into(),
            stats: setting("cds_stats").and_then(|value| StatsTarget::of_option(&text(value))),
            auto,
            is_base,
            learning,
        });
    }
    let original: Vec<CString> = arguments.iter().map(|argument| text(argument)).collect();
    image::set_original_arguments(&original);
    if let Some(first) = original.first() {
        image::set_program_name(first);
    }
    let program_arguments = configure(&line, &arguments);
    let options = line.cds.iter();
    let options: Vec<Vec<u8>> = options
        .map(|(name, value)| [&name[..], b"=", value].concat())
        .collect();
    let signals: Vec<i64> = (1..=64)
        .filter(|signal| ignored & 1 << (signal - 1) != 0)
        .collect();
    begin(
        &program_arguments,
        &arguments,
        &options,
        list(&environment)?,
        &signals,
    )?;
    // `signal.signal()` would leave other settings in the kernel, which a process can see.
    signals::ignore_signals(ignored);
    if let Some(runtime) = runtime::current() {
        runtime.begin_renewal();
    }
    Ok(())
}

/// The warm-up before an image is taken: performs the steps of a restored process that need no new process. After some
/// warm-ups, caches are filled and instructions are specialized. Otherwise each restored process would have to write to
/// these pages. `environment` is the environment that this process was started with.
///
/// # Safety
/// Called by the only thread, with the GIL.
pub unsafe fn warm_up(environment: &Object) -> Result<()> {
    // SAFETY: this is the only thread, and it holds the GIL. The functions are called without a fork. The second one
    // would discard other threads, but there are none.
    unsafe {
        image::before_fork();
        image::after_fork_in_child();
    }
    let environment = environment.to_list()?;
    begin(&[[]], &[b"python"], &[[]; 0], environment, &[])?;
    let startup = own::module(c"cds.image.startup")?;
    startup.attribute(c"warm_up")?.call(Vec::new())?;
    Ok(())
}

fn begin(
    program_arguments: &[impl AsRef<[u8]>],
    arguments: &[impl AsRef<[u8]>],
    options: &[impl AsRef<[u8]>],
    environment: Object,
    ignored_signals: &[i64],
) -> Result<()> {
    let signals = ignored_signals.iter().copied().map(Object::int);
    let resumed = own::module(c"cds.image.startup")?.attribute(c"resumed")?;
    resumed.call(vec![
        list(program_arguments)?,
        list(arguments)?,
        list(options)?,
        environment,
        Object::list(signals.collect::<Result<Vec<_>>>()?)?,
    ])?;
    Ok(())
}

/// The value of an environment variable.
fn variable<'a>(environment: &[&'a [u8]], name: &[u8]) -> Option<&'a [u8]> {
    let mut values = environment
        .iter()
        .filter_map(|text| text.strip_prefix(name));
    values.find_map(|value| value.strip_prefix(b"="))
}

/// The text with an address and a length; empty if the length is zero.
///
/// # Safety
/// The bytes are there, and stay as long as the result is used.
unsafe fn text_at(address: u64, bytes: u64) -> &'static [u8] {
    if bytes == 0 {
        return &[];
    }
    // SAFETY: the caller guarantees that the bytes are there.
    unsafe {
        slice::from_raw_parts(
            ptr::with_exposed_provenance(address as usize),
            bytes as usize,
        )
    }
}

/// The texts of an array that ends with NULL.
///
/// # Safety
/// The address is zero or the address of such an array. The array and its texts stay as long as the result is used.
pub unsafe fn texts(address: u64) -> Vec<&'static [u8]> {
    let first: *const *const c_char = ptr::with_exposed_provenance(address as usize);
    if first.is_null() {
        // clearenv(3) leaves a null pointer.
        return Vec::new();
    }
    // SAFETY: the caller passes the address of an array of texts that ends with NULL.
    (0..)
        .map_while(|index| unsafe {
            let text = *first.add(index);
            (!text.is_null()).then(|| CStr::from_ptr(text).to_bytes())
        })
        .collect()
}

fn list(items: &[impl AsRef<[u8]>]) -> Result<Object> {
    let items = items.iter().map(|item| Object::from_bytes(item.as_ref()));
    Object::list(items.collect::<Result<Vec<_>>>()?)
}

/// Sets what the interpreter runs, as `config_parse_cmdline()` and `config_update_argv()` in Python/initconfig.c do.
/// Returns the arguments of the program.
fn configure(line: &CommandLine, arguments: &[&[u8]]) -> Vec<Vec<u8>> {
    let mut rest: Vec<Vec<u8>> = arguments[line.rest.min(arguments.len())..]
        .iter()
        .map(|argument| argument.to_vec())
        .collect();
    let is_chosen = program::is_chosen();
    match &line.program {
        Program::Command(code) => {
            if !is_chosen {
                image::run_command(&text(&[&code[..], b"\n"].concat()));
            }
            rest.insert(0, b"-c".to_vec());
        }
        Program::Module(name) => {
            if !is_chosen {
                image::run_module(&text(name));
            }
            rest.insert(0, b"-m".to_vec());
        }
        Program::Script(path) if !is_chosen => {
            let absolute = if path.starts_with(b"/") {
                path.clone()
            } else {
                let here = std::env::current_dir().unwrap_or_default();
                [here.as_os_str().as_bytes(), b"/", path].concat()
            };
            image::run_file(&text(&absolute));
        }
        Program::Stdin if rest.is_empty() => rest.push(Vec::new()),
        Program::Script(_) | Program::Stdin => {}
    }
    image::set_arguments(
        &rest
            .iter()
            .map(|argument| text(argument))
            .collect::<Vec<_>>(),
    );
    rest
}

/// An argument as a C string. It contains no NUL.
fn text(bytes: &[u8]) -> CString {
    CString::new(bytes).unwrap_or_default()
}
