//! The cache of this user, for the commands that manage it.

use std::ffi::CString;
use std::os::unix::ffi::OsStringExt;

use startup_image::cache::{self, Entries};
use startup_image::command_line::CommandLine;
use startup_image::pace;
use startup_image::start::Start;

use crate::cpython::object::{Exception, Object, Raised, Result};
use crate::runtime;

pub fn cache_directory([]: [Object; 0]) -> Result<Object> {
    let variables = Variables::of_process();
    object_of(cache::directory(|name| variables.value(name)))
}

pub fn enabling_file([]: [Object; 0]) -> Result<Object> {
    let variables = Variables::of_process();
    object_of(cache::enabling_file(|name| variables.value(name)))
}

/// The entries of the cache for a command line, which begins with the interpreter: that of the program, or None, and that
/// of base images. None if its process would not use the cache.
pub fn entries_of([arguments]: [Object; 1]) -> Result<Object> {
    let arguments = arguments.to_items()?.into_iter();
    let arguments = arguments.map(|argument| {
        let with_nul = |_| Raised::new(Exception::Value, "an argument contains NUL");
        CString::new(argument.to_bytes()?).map_err(with_nul)
    });
    let arguments: Vec<CString> = arguments.collect::<Result<_>>()?;
    let variables = std::env::vars_os().map(|(name, value)| {
        let text = [&name.into_vec()[..], b"=", &value.into_vec()].concat();
        CString::new(text)
    });
    let variables: Vec<CString> = variables.flatten().collect();
    let bytes: Vec<&[u8]> = arguments.iter().map(|text| text.to_bytes()).collect();
    let entries = CommandLine::parse(&bytes).and_then(|line| {
        let start = Start {
            arguments: arguments.iter().map(CString::as_c_str).collect(),
            environment: variables.iter().map(CString::as_c_str).collect(),
            auxiliary: &[],
        };
        let executable = &runtime::current()?.executable;
        cache::entries(&start, &line, executable.build_id()?)
    });
    match entries {
        Some(Entries { program, base }) => {
            Object::tuple(vec![object_of(program)?, object_of(Some(base))?])
        }
        None => Ok(Object::none()),
    }
}

/// Notes that an image was taken for an archive in the cache. Errors do not matter: the next image is then taken sooner.
pub fn image_taken([archive]: [Object; 1]) -> Result<Object> {
    let archive = archive.to_bytes()?;
    if let Some(entry) = cache::entry_of(archive) {
        let _ = pace::begin_anew(entry);
    }
    Ok(Object::none())
}

/// How many starts without an image are awaited before the next image of a program is taken.
pub fn awaited_starts([entry]: [Object; 1]) -> Result<Object> {
    Object::int(pace::awaited(entry.to_bytes()?).cast_signed())
}

struct Variables(Vec<(Vec<u8>, Vec<u8>)>);

impl Variables {
    fn of_process() -> Self {
        let variables = std::env::vars_os();
        let variables = variables.map(|(name, value)| (name.into_vec(), value.into_vec()));
        Self(variables.filter(|(_, value)| !value.is_empty()).collect())
    }

    fn value(&self, name: &[u8]) -> Option<&[u8]> {
        let known = self.0.iter().find(|(known, _)| known == name);
        known.map(|(_, value)| value.as_slice())
    }
}

fn object_of(path: Option<Vec<u8>>) -> Result<Object> {
    path.map_or_else(
        || Ok(Object::none()),
        |path| Object::str(&String::from_utf8_lossy(&path)),
    )
}
