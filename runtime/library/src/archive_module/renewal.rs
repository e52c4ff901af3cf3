//! Functions for the process that renews an archive: the record of the run, and the content of the archive.

use super::observation;
use crate::cpython::object::{Object, Result};
use crate::record::auto;
use crate::record::runs::{self, Event, Run, Subject};
use crate::runtime;

/// Returns `(subject, wants_image, is_in_cache, base, missed, lines)` for the record that this process was started for, or
/// None. `base` is the archive of a base image, and its subject, or None. A subject is `(program, options, arguments,
/// terminal)` or None, and a terminal is what `run_observed()` takes. `missed` has the names and paths of modules; the
/// path is None for a frozen module.
pub fn recorded_run([]: [Object; 0]) -> Result<Object> {
    runs::recorded().map_or_else(|| Ok(Object::none()), object_of_run)
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

fn object_of_run(run: Run) -> Result<Object> {
    let text = |text: &str| Object::str(text);
    let subject = object_of_subject(run.start.subject)?;
    let (mut missed, mut lines) = (Vec::new(), Vec::new());
    for event in run.events {
        match event {
            // Only the first event of a record is one.
            Event::Start(_) => {}
            Event::Line(line) => lines.push(text(&line)?),
            Event::Missed { name, path } => {
                let path = path.map_or_else(|| Ok(Object::none()), |path| text(&path))?;
                missed.push(Object::tuple(vec![text(&name)?, path])?);
            }
        }
    }
    let base = match run.start.base {
        Some((archive, subject)) => {
            Object::tuple(vec![text(&archive)?, object_of_subject(Some(subject))?])?
        }
        None => Object::none(),
    };
    Object::tuple(vec![
        subject,
        Object::bool(run.start.wants_image),
        Object::bool(run.start.is_in_cache),
        base,
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
