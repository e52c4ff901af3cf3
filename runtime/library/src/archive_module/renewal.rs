//! Functions for the process that renews an archive of `-X cds_auto`: the records of runs, and the content of the
//! archive.

use std::path::Path;

use super::observation;
use crate::cpython::object::{Object, Result};
use crate::record::auto;
use crate::record::runs::{self, Ended, Event, Subject};
use crate::runtime;

/// Returns a list of `(path, subject, wants_image, missed, lines)` for the records in a directory. A subject is
/// `(program, options, arguments, terminal)` or None, and a terminal is what `run_observed()` takes. `missed` has the
/// names and paths of modules; the path is None for a frozen module.
pub fn ended_runs([records]: [Object; 1]) -> Result<Object> {
    let runs = runs::ended(Path::new(records.to_str()?));
    let runs = runs.into_iter().map(ended_run);
    Object::list(runs.collect::<Result<Vec<_>>>()?)
}

/// The subject of the run that has started this process, if it was handed over, or None.
pub fn handed_over([]: [Object; 0]) -> Result<Object> {
    let start = runs::handed_over().unwrap_or_default();
    object_of_subject(start.subject)
}

fn object_of_subject(subject: Option<Subject>) -> Result<Object> {
    let Some(subject) = subject else {
        return Ok(Object::none());
    };
    let options = subject.options.iter().map(|option| Object::str(option));
    let options = Object::list(options.collect::<Result<Vec<_>>>()?)?;
    let arguments = subject.arguments.iter();
    let arguments = arguments.map(|argument| Object::from_bytes(argument));
    let arguments = Object::list(arguments.collect::<Result<Vec<_>>>()?)?;
    let program = Object::from_bytes(&subject.program)?;
    let terminal = observation::of_terminal(subject.terminal.as_ref())?;
    Object::tuple(vec![program, options, arguments, terminal])
}

fn ended_run(run: Ended) -> Result<Object> {
    let text = |text: &str| Object::str(text);
    let subject = object_of_subject(run.start.subject)?;
    let wants_image = run.start.environment.is_some();
    let (mut missed, mut lines) = (Vec::new(), Vec::new());
    for event in run.events {
        match event {
            // The start of a run is its first event, and was removed from this list.
            Event::Start(_) => {}
            Event::Line(line) => lines.push(text(&line)?),
            Event::Missed { name, path } => {
                let path = path.map_or_else(|| Ok(Object::none()), |path| text(&path))?;
                missed.push(Object::tuple(vec![text(&name)?, path])?);
            }
        }
    }
    Object::tuple(vec![
        text(&run.path.to_string_lossy())?,
        subject,
        Object::bool(wants_image),
        Object::list(missed)?,
        Object::list(lines)?,
    ])
}

pub fn archived_lines([]: [Object; 0]) -> Result<Object> {
    let named = runtime::current().and_then(|runtime| runtime.layers.named.as_ref());
    let lines = named.map(auto::lines).transpose()?.unwrap_or_default();
    let lines = lines.iter().map(|line| Object::str(line));
    Object::list(lines.collect::<Result<Vec<_>>>()?)
}

/// The modules that this process has loaded, as lines of a trace list.
pub fn loaded_lines([]: [Object; 0]) -> Result<Object> {
    let lines = runtime::current().map(|runtime| runtime.loaded_lines());
    let lines = lines.unwrap_or_default();
    let lines = lines.iter().map(|line| Object::str(line));
    Object::list(lines.collect::<Result<Vec<_>>>()?)
}

pub fn wake([records]: [Object; 1]) -> Result<Object> {
    runs::wake(Path::new(records.to_str()?));
    Ok(Object::none())
}
