//! The Python code that a thread of another process runs. The process runs this same interpreter, so the interpreter's
//! variables have the same addresses in it.

use std::io::{self, Error};
use std::ops::ControlFlow;

use super::raw;
use crate::kernel::process_memory::ProcessMemory;

/// The greatest number of frames or threads that are followed.
const MOST: usize = 1 << 10;
/// The greatest number of characters of a file name that are read.
const LONGEST: usize = 1 << 12;

/// The file and the name of a code object. None if the object is not a code object, as in a frame through which C code
/// calls Python code.
fn code(memory: ProcessMemory, object: u64) -> io::Result<Option<(String, String)>> {
    let kind = std::mem::offset_of!(raw::PyObject, ob_type);
    // SAFETY: a constant, which is never written.
    let places = unsafe { &raw::cds_glue_places };
    if object == 0 {
        return Ok(None);
    }
    let [kind, file, name] = memory.fields(object, [kind, places.file_name, places.name])?;
    let is_code = kind == (&raw const raw::PyCode_Type).addr() as u64;
    is_code
        .then(|| Ok((text(memory, file)?, text(memory, name)?)))
        .transpose()
}

/// The text of a str. The str is compact, as all strings of the compiler are.
fn text(memory: ProcessMemory, address: u64) -> io::Result<String> {
    // Usually 256 bytes hold the whole string. The read fails if less memory is mapped; then only the header is read.
    let mut bytes = vec![0; 256];
    if memory.read(&mut bytes, address).is_err() {
        bytes.truncate(size_of::<raw::PyCompactUnicodeObject>());
        memory.read(&mut bytes, address)?;
    }
    // SAFETY: there are at least as many bytes as the struct has, and all values of the bytes are valid.
    let head = unsafe { bytes.as_ptr().cast::<raw::PyASCIIObject>().read_unaligned() };
    let header = if head.state.ascii() == 0 {
        size_of::<raw::PyCompactUnicodeObject>()
    } else {
        size_of_val(&head)
    };
    let width = head.state.kind() as usize;
    let length = usize::try_from(head.length)
        .unwrap_or_default()
        .min(LONGEST);
    let end = header + length * width;
    if end > bytes.len() {
        bytes.resize(end, 0);
        memory.read(&mut bytes, address)?;
    }
    let characters = bytes[header..end].chunks_exact(width.max(1)).map(|bytes| {
        let mut number = [0; 4];
        number[..bytes.len()].copy_from_slice(bytes);
        char::from_u32(u32::from_le_bytes(number)).unwrap_or(char::REPLACEMENT_CHARACTER)
    });
    Ok(characters.collect())
}

/// Files of the code that a thread runs, without code that is frozen into the interpreter.
#[derive(Default)]
pub struct Files {
    /// The files of the functions that the innermost module has called, and of this module.
    pub functions: Vec<String>,
    /// The files of the modules that are being imported, or run as a program, innermost first.
    pub modules: Vec<String>,
}

const PATH_FINDER: &str = "<frozen importlib._bootstrap_external>";

/// Whether the innermost code of a stopped thread is that of the path finder.
///
/// # Errors
/// Fails if the thread is not a thread of this interpreter, or has ended.
pub fn is_path_finder(thread: i32) -> io::Result<bool> {
    let innermost = innermost(thread, 1)?;
    Ok(innermost
        .first()
        .is_some_and(|(file, _)| file == PATH_FINDER))
}

/// Whether a stopped thread asks for the status of a path only to find out whether the path exists and is a directory.
/// This holds for the path finder, functions of `os.path`, methods of `pathlib`, and for C code that runs before any
/// Python code.
///
/// # Errors
/// Fails if the thread is not a thread of this interpreter, or has ended.
pub fn asks_for_kind(thread: i32) -> io::Result<bool> {
    // The last two are for `-X frozen_modules=off`, which is the default of debug builds: there, the modules are not
    // frozen.
    const FILES: [&str; 4] = [
        "<frozen posixpath>",
        "<frozen genericpath>",
        "/posixpath.py",
        "/genericpath.py",
    ];
    const FUNCTIONS: [&str; 7] = [
        "_joinrealpath",
        "exists",
        "isdir",
        "isfile",
        "islink",
        "lexists",
        "realpath",
    ];
    let is_of_paths = |file: &str| FILES.iter().any(|end| file.ends_with(end));
    Ok(match &innermost(thread, 1)?[..] {
        [] => true,
        [(file, _), ..] if file == PATH_FINDER => true,
        [(file, function), ..] if is_of_paths(file) => FUNCTIONS.contains(&&**function),
        _ => asks_for_kind_of_path(&innermost(thread, 3)?),
    })
}

/// Whether a method of `pathlib.Path` has called `stat()` and uses only the file type of the result.
fn asks_for_kind_of_path(callers: &[(String, String)]) -> bool {
    const METHODS: [&str; 4] = ["exists", "is_dir", "is_file", "is_symlink"];
    let is = |(file, function): &(String, String), end: &str, name: &str| {
        file.ends_with(end) && function == name
    };
    let Some((first, callers)) = callers.split_first() else {
        return false;
    };
    let callers = match callers {
        [lstat, callers @ ..] if is(lstat, "/pathlib/_abc.py", "lstat") => callers,
        callers => callers,
    };
    let asks = |caller| {
        METHODS
            .iter()
            .any(|name| is(caller, "/pathlib/_abc.py", name))
    };
    is(first, "/pathlib/_local.py", "stat") && callers.first().is_some_and(asks)
}

/// The file and the name of the innermost `most` code objects that a stopped thread runs, innermost first.
fn innermost(thread: i32, most: usize) -> io::Result<Vec<(String, String)>> {
    let mut found = Vec::new();
    each_code(thread, |file, name| {
        found.push((file, name));
        if found.len() == most {
            ControlFlow::Break(())
        } else {
            ControlFlow::Continue(())
        }
    })?;
    Ok(found)
}

/// Calls `each` with the file and the name of each code object that a stopped thread runs, innermost first.
fn each_code(
    thread: i32,
    mut each: impl FnMut(String, String) -> ControlFlow<()>,
) -> io::Result<()> {
    let memory = ProcessMemory(thread);
    // SAFETY: a constant, which is never written.
    let places = unsafe { &raw::cds_glue_places };
    let mut frame = innermost_frame(memory, thread)?;
    for _ in 0..MOST {
        if frame == 0 {
            break;
        }
        let offsets = [places.executable, places.previous_frame];
        let [executable, previous] = memory.fields(frame, offsets)?;
        if let Some((file, name)) = code(memory, executable)?
            && each(file, name).is_break()
        {
            break;
        }
        frame = previous;
    }
    Ok(())
}

/// The innermost frame of a stopped thread. Zero if the thread runs no Python code.
fn innermost_frame(memory: ProcessMemory, thread: i32) -> io::Result<u64> {
    // SAFETY: constants, which are never written.
    let (places, runtime) = unsafe { (&raw::cds_glue_places, raw::cds_glue_anchor) };
    let interpreter = memory.word(runtime.addr() as u64 + places.main_interpreter as u64)?;
    let mut state = memory.word(interpreter + places.first_thread as u64)?;
    let offsets = [places.thread_id, places.next_thread, places.frame];
    for _ in 0..MOST {
        if state == 0 {
            break;
        }
        let [id, next, frame] = memory.fields(state, offsets)?;
        if id == thread as u64 {
            return Ok(frame);
        }
        state = next;
    }
    Err(Error::other("it is not a thread of the interpreter"))
}

/// The files of the code that a stopped thread runs.
///
/// # Errors
/// Fails if the thread is not a thread of this interpreter, or has ended.
pub fn files_of(thread: i32) -> io::Result<Files> {
    let mut files = Files::default();
    each_code(thread, |file, name| {
        if !file.starts_with("<frozen ") {
            if files.modules.is_empty() {
                files.functions.push(file.clone());
            }
            if name == "<module>" {
                files.modules.push(file);
            }
        }
        ControlFlow::Continue(())
    })?;
    Ok(files)
}
