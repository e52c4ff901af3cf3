//! `run_observed()`: runs an interpreter and records what its imports look at.

use std::ffi::CString;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicI32, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use startup_image::facts::Fact;
use startup_image::streams::OwnTerminal;

use crate::cpython::gil;
use crate::cpython::object::{Exception, Object, Raised, Result};
use crate::image::{self, ABANDONED, Command, Excused, Watch};

/// The interval at which signals for this process are handled.
const PATIENCE: Duration = Duration::from_millis(100);

/// Returns the exit status, and what the program was stopped at if it had not yet forked a candidate for the image,
/// or None.
///
/// `watch` is None if no image of a program is taken. Otherwise it contains the request, the directory of the package
/// `cds`, and a list of exceptions: what is looked at, the file of a module that may look at it, and the fact that is
/// compared instead. The command is killed after `seconds`, unless this is zero; then the status is None. A watched
/// program is stopped at that time instead, and taking its image may take the same time again. `terminal` is None, or
/// the terminal that the command gets, in the format of a run's record.
pub fn run_observed(
    [arguments, environment, terminal, record, seconds, watch]: [Object; 6],
) -> Result<Object> {
    let texts = |list: Object| {
        let texts = list.to_items()?;
        let texts = texts.iter().map(|text| {
            CString::new(text.to_bytes()?)
                .map_err(|_| Raised::new(Exception::Value, "an argument contains NUL"))
        });
        texts.collect::<Result<Vec<_>>>()
    };
    let command = Command {
        arguments: texts(arguments)?,
        environment: texts(environment)?,
        terminal: terminal_of(&terminal)?,
        clock: image::clock_functions()?,
    };
    let record = Path::new(record.to_str()?);
    let most = Duration::from_secs(seconds.to_i64()?.try_into().unwrap_or_default());
    let watched = Watched::of(&watch)?;
    let mut start = Instant::now();
    let mut may_stop = watched.is_some();
    let child = AtomicI32::new(0);
    // ptrace(2) and waitpid(2) work for the thread that traces, so one thread does all of it.
    let status = thread::scope(|scope| {
        let (sender, result) = mpsc::channel();
        let (child, command, watched) = (&child, &command, &watched);
        scope.spawn(move || {
            let watch = watched.as_ref().map(Watched::watch);
            let outcome = image::run_observed(command, record, child, watch);
            sender.send(outcome)
        });
        loop {
            match gil::without(|| result.recv_timeout(PATIENCE)) {
                Ok(status) => return Ok(Some(status)),
                Err(RecvTimeoutError::Disconnected) => {
                    return Ok(Some(Err("the thread has failed".to_owned())));
                }
                Err(RecvTimeoutError::Timeout) => {
                    let is_late = !most.is_zero() && start.elapsed() > most;
                    let interrupted = gil::check_signals();
                    let pid = match interrupted {
                        Ok(()) => child.load(Ordering::Relaxed),
                        Err(_) => child.swap(ABANDONED, Ordering::Relaxed),
                    };
                    if (is_late || interrupted.is_err()) && pid > 0 {
                        // SAFETY: the child was not waited for yet, so its id is not reused.
                        unsafe { libc::kill(pid, libc::SIGKILL) };
                    }
                    interrupted?;
                    if is_late && !std::mem::replace(&mut may_stop, false) {
                        return Ok(None);
                    }
                    if is_late {
                        start = Instant::now();
                    }
                }
            }
        }
    })?;
    let Some(outcome) = status else {
        return Object::tuple(vec![Object::none(), Object::none()]);
    };
    let outcome = outcome.map_err(|reason| Raised::new(Exception::Os, &reason))?;
    let looked_at = outcome.looked_at.map(|what| Object::str(&what));
    Object::tuple(vec![
        Object::int(outcome.status.into())?,
        looked_at.transpose()?.unwrap_or_else(Object::none),
    ])
}

/// The Python object that represents a terminal.
pub fn of_terminal(terminal: Option<&OwnTerminal>) -> Result<Object> {
    let Some(terminal) = terminal else {
        return Ok(Object::none());
    };
    let bytes = postcard::to_stdvec(terminal);
    let bytes = bytes.map_err(|error| Raised::new(Exception::Value, &error.to_string()))?;
    Object::from_bytes(&bytes)
}

fn terminal_of(object: &Object) -> Result<Option<OwnTerminal>> {
    if object.is_none() {
        return Ok(None);
    }
    let terminal = postcard::from_bytes(object.to_bytes()?);
    let terminal = terminal.map_err(|_| Raised::new(Exception::Value, "this is not a terminal"))?;
    Ok(Some(terminal))
}

/// The data that is needed to watch a program.
struct Watched {
    request: Vec<u8>,
    own_directory: PathBuf,
    excused: Excused,
}

impl Watched {
    fn of(watch: &Object) -> Result<Option<Self>> {
        if watch.is_none() {
            return Ok(None);
        }
        let [request, own_directory, looks] = <[Object; 3]>::try_from(watch.to_items()?)
            .map_err(|_| Raised::new(Exception::Value, "a watch has three parts"))?;
        let looks = looks.to_items()?;
        let excused = looks.iter().map(|look| match look.to_items()?.as_slice() {
            [what, file, fact] => {
                let look = (what.to_str()?.to_owned(), file.to_str()?.to_owned());
                Ok((look, Fact::of_name(fact.to_str()?)))
            }
            _ => Err(Raised::new(Exception::Value, "a look has three parts")),
        });
        Ok(Some(Self {
            request: request.to_str()?.as_bytes().to_vec(),
            own_directory: PathBuf::from(own_directory.to_str()?),
            excused: excused.collect::<Result<_>>()?,
        }))
    }

    fn watch(&self) -> Watch<'_> {
        Watch {
            request: &self.request,
            excused: &self.excused,
            own_directory: &self.own_directory,
        }
    }
}

/// Returns pairs of a kind and a text. Raises ValueError if the record has an entry of an unknown kind.
pub fn read_record([path]: [Object; 1]) -> Result<Object> {
    let path = path.to_str()?;
    let record = std::fs::read(path)
        .map_err(|error| Raised::new(Exception::Os, &format!("cannot read {path}: {error}")))?;
    let Some(entries) = image::parse_record(&record) else {
        let reason = format!("{path} has an entry of an unknown kind");
        return Err(Raised::new(Exception::Value, &reason));
    };
    let pairs = entries.into_iter().map(|(kind, text)| {
        Object::tuple(vec![Object::str(kind.name())?, Object::from_bytes(text)?])
    });
    Object::tuple(pairs.collect::<Result<_>>()?)
}
