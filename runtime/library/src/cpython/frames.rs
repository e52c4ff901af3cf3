//! The Python code that another process of this interpreter runs. The interpreter's own variables are at the same
//! addresses there.

use std::io::{self, Error};
use std::ops::ControlFlow;

use super::raw;
use crate::kernel::process_memory::ProcessMemory;

/// Frames and threads at most that are looked at.
const MOST: usize = 1 << 10;
/// Characters of the name of a file at most.
const LONGEST: usize = 1 << 12;

/// The file and the name of a code object; none if it is another object: frames by which C code calls Python code have one.
fn code(memory: ProcessMemory, object: u64) -> io::Result<Option<(String, String)>> {
    let kind = std::mem::offset_of!(raw::PyObject, ob_type);
    // SAFETY: a constant.
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

/// The text of a str, which is compact, as those of the compiler are.
fn text(memory: ProcessMemory, address: u64) -> io::Result<String> {
    // As a rule that is all of it; it may lie at the end of the memory.
    let mut bytes = vec![0; 256];
    if memory.read(&mut bytes, address).is_err() {
        bytes.truncate(size_of::<raw::PyCompactUnicodeObject>());
        memory.read(&mut bytes, address)?;
    }
    // SAFETY: at least as many bytes as the struct has, for which all values are valid.
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

/// Files of code that a thread runs. Code that is frozen into the interpreter is left out.
#[derive(Default)]
pub struct Files {
    /// Those of the functions that the innermost module has called, and that one itself.
    pub functions: Vec<String>,
    /// Those of the modules that are being imported, or run as a program, the innermost first.
    pub modules: Vec<String>,
}

const PATH_FINDER: &str = "<frozen importlib._bootstrap_external>";

/// Whether the innermost code that a stopped thread runs is that of the path finder.
///
/// # Errors
/// It is no thread of such an interpreter, or has ended.
pub fn is_path_finder(thread: i32) -> io::Result<bool> {
    let innermost = innermost(thread, 1)?;
    Ok(innermost
        .first()
        .is_some_and(|(file, _)| file == PATH_FINDER))
}

/// Whether code that a stopped thread runs asks for the status of a path only to see whether it is there, and a
/// directory: that of the path finder, of `os.path`, of methods of `pathlib`, and code that runs before there is any
/// Python code.
///
/// # Errors
/// It is no thread of such an interpreter, or has ended.
pub fn asks_for_kind(thread: i32) -> io::Result<bool> {
    // They are not frozen with -X frozen_modules=off, which is the default of debug builds.
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

/// Whether a method of `pathlib.Path` asks by another one, `stat()`, of whose result it takes the kind.
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

/// The file and the name of so much of the code that a stopped thread runs, the innermost first.
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

/// Calls a function with the file and the name of each code that a stopped thread runs, the innermost first.
fn each_code(
    thread: i32,
    mut each: impl FnMut(String, String) -> ControlFlow<()>,
) -> io::Result<()> {
    let memory = ProcessMemory(thread);
    // SAFETY: a constant.
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

/// The frame of the code that a stopped thread runs; zero if it runs none.
fn innermost_frame(memory: ProcessMemory, thread: i32) -> io::Result<u64> {
    // SAFETY: constants.
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
    Err(Error::other("it is no thread of the interpreter"))
}

/// The files of what a stopped thread runs.
///
/// # Errors
/// It is no thread of such an interpreter, or has ended.
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
