//! Startup images for Python code: their contents, what an image of this process would contain, and the note in place
//! of an image.

use std::fs::OpenOptions;
use std::io::Read;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use startup_image::facts::Fact;
use startup_image::file_name;
use startup_image::image_file::MAGIC;
use startup_image::searched;

use crate::cpython::module_suffixes;
use crate::cpython::object::{Exception, Object, Raised, Result};
use crate::image;

pub fn image_of([archive]: [Object; 1]) -> Result<Object> {
    Object::from_bytes(&file_name::of_archive(archive.to_bytes()?))
}

pub fn archive_of([image]: [Object; 1]) -> Result<Object> {
    let archive = file_name::archive_of(image.to_bytes()?);
    archive.map_or_else(|| Ok(Object::none()), Object::from_bytes)
}

/// Whether a file begins like a startup image. A file that cannot be read does not.
pub fn is_image([path]: [Object; 1]) -> Result<Object> {
    let mut options = OpenOptions::new();
    // Without O_NONBLOCK, opening a named pipe waits for a writer.
    options
        .read(true)
        .custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY);
    let mut start = [0; MAGIC.len()];
    let read = options
        .open(Path::new(path.to_str()?))
        .and_then(|mut file| file.read_exact(&mut start));
    Ok(Object::bool(read.is_ok() && start == MAGIC))
}

pub fn compared_facts([]: [Object; 0]) -> Result<Object> {
    let names = Fact::ALL.map(Fact::name);
    Object::tuple(names.into_iter().map(Object::str).collect::<Result<_>>()?)
}

pub fn searches([]: [Object; 0]) -> Result<Object> {
    let searches = image::searches::take();
    let searches = searches.into_iter().map(|(directory, search)| {
        let names = match search.names {
            Some(names) => {
                let names = names.iter().map(|name| Object::str(name));
                Object::tuple(names.collect::<Result<_>>()?)?
            }
            None => Object::none(),
        };
        let entries = search.entries.iter();
        let entries = entries.map(|entry| Object::from_bytes(entry.as_bytes()));
        let entries = Object::tuple(entries.collect::<Result<_>>()?)?;
        Object::tuple(vec![Object::str(&directory)?, names, entries])
    });
    Object::tuple(searches.collect::<Result<_>>()?)
}

pub fn found_by_search([entries, names]: [Object; 2]) -> Result<Object> {
    let entries = entries.to_items()?;
    let entries: Vec<&[u8]> = entries
        .iter()
        .map(Object::to_bytes)
        .collect::<Result<_>>()?;
    let found = searched::found(entries.into_iter(), names.to_bytes()?, module_suffixes());
    Object::from_bytes(&found)
}

pub fn ignore_searches([are_ignored]: [Object; 1]) -> Result<Object> {
    image::searches::ignore(are_ignored.is_true());
    Ok(Object::none())
}

pub fn set_up([]: [Object; 0]) -> Result<Object> {
    image::postponed::finish()?;
    Ok(Object::none())
}

pub fn image_options([]: [Object; 0]) -> Result<Object> {
    match image::options_of_process()? {
        Some(options) => texts(&options),
        None => Ok(Object::none()),
    }
}

pub fn image_note([path]: [Object; 1]) -> Result<Object> {
    match image::note(Path::new(path.to_str()?)) {
        Some(note) => Object::str(&note),
        None => Ok(Object::none()),
    }
}

pub fn write_image_note([path, reason]: [Object; 2]) -> Result<Object> {
    image::write_note(Path::new(path.to_str()?), reason.to_bytes()?)
        .map_err(|error| Raised::new(Exception::Os, &error.to_string()))?;
    Ok(Object::none())
}

pub fn needs_renewal(of: [Object; 3]) -> Result<Object> {
    ask_of_program(of, image::needs_renewal)
}

pub fn do_arguments_vary(of: [Object; 3]) -> Result<Object> {
    ask_of_program(of, image::do_arguments_vary)
}

/// Calls `question` with the path of an image, the identity of a program, and its arguments.
fn ask_of_program(
    [path, program, arguments]: [Object; 3],
    question: fn(&Path, &[u8], &[&[u8]]) -> bool,
) -> Result<Object> {
    let arguments = arguments.to_items()?;
    let arguments = arguments.iter().map(Object::to_bytes);
    let arguments = arguments.collect::<Result<Vec<_>>>()?;
    let answer = question(Path::new(path.to_str()?), program.to_bytes()?, &arguments);
    Ok(Object::bool(answer))
}

fn texts(texts: &[String]) -> Result<Object> {
    let texts = texts.iter().map(|text| Object::str(text));
    Object::list(texts.collect::<Result<Vec<_>>>()?)
}

pub fn inspect_image([path]: [Object; 1]) -> Result<Object> {
    let found = image::describe(Path::new(path.to_str()?))
        .map_err(|reason| Raised::new(Exception::Value, &reason))?;
    let number = |number: u64| Object::int(i64::try_from(number).unwrap_or(i64::MAX));
    let files = found
        .files
        .iter()
        .map(|(path, bytes)| Object::tuple(vec![Object::str(path)?, number(*bytes)?]));
    let variables = found.environment.iter().map(|(name, value)| {
        let value = match value {
            Some(value) => Object::str(value)?,
            None => Object::none(),
        };
        Object::tuple(vec![Object::str(name)?, value])
    });
    Object::dict([
        ("executable", Object::str(&found.executable)?),
        ("options", texts(&found.options)?),
        (
            "program",
            match &found.program {
                Some(program) => Object::str(program)?,
                None => Object::none(),
            },
        ),
        ("stored_bytes", number(found.stored)?),
        ("zero_bytes", number(found.zero)?),
        ("file_bytes", number(found.in_files)?),
        ("regions", number(found.regions as u64)?),
        ("files", Object::list(files.collect::<Result<Vec<_>>>()?)?),
        (
            "environment",
            Object::list(variables.collect::<Result<Vec<_>>>()?)?,
        ),
        (
            "compares_whole_environment",
            Object::bool(found.compares_whole_environment),
        ),
        ("terminals", texts(&found.terminals)?),
        ("names", texts(&found.names)?),
        ("paths", number(found.paths as u64)?),
        (
            "stopped_at",
            match &found.stopped_at {
                Some(what) => Object::str(what)?,
                None => Object::none(),
            },
        ),
        ("reported", texts(&found.reported)?),
        ("changed", texts(&found.changed)?),
    ])
}

pub fn is_idle([path]: [Object; 1]) -> Result<Object> {
    Ok(Object::bool(image::is_idle(Path::new(path.to_str()?))))
}
