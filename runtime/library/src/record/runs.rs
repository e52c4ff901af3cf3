//! Records that runs of `-X cds_auto`, and of programs with an entry in the cache, leave for the next archive.
//!
//! A process that had to load a module without the archive, or that started without an image, writes a record into
//! memory ([`super::shared`]). When it begins the record, it starts the process that will renew the archive
//! ([`super::background`]). So the record exists however the run ends, and nothing is stored in a file: a record contains
//! arguments. A record is a sequence of frames ([`archive_format::frames`]), each with an [`Event`].

use std::collections::BTreeSet;
use std::fs::{self, File, OpenOptions};
use std::io::{Error, Result};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use archive_format::frames;
use rustix::fs::{FlockOperation, flock};
use serde::{Deserialize, Serialize};
use startup_image::background::RECORD;
use startup_image::streams::OwnTerminal;

use super::background::{self, Files, Renewal};
use super::shared::Shared;
use crate::fault;

/// An event of a run.
#[derive(Serialize, Deserialize)]
pub enum Event {
    /// The first event of each record.
    Start(Box<Start>),
    /// A line of a trace list.
    Line(String),
    /// A module that had to be loaded without the archive. A frozen module has no path.
    Missed { name: String, path: Option<String> },
}

/// How the run was started, as far as the process that renews the archive needs it.
#[derive(Serialize, Deserialize)]
pub struct Start {
    /// None if the command line is one for which no image can be taken.
    pub subject: Option<Subject>,
    pub wants_image: bool,
    pub is_in_cache: bool,
    /// The archive of a base image that should be taken, too, and its subject.
    pub base: Option<(String, Subject)>,
}

/// The program of which an image is taken.
#[derive(Serialize, Deserialize)]
pub struct Subject {
    pub program: Vec<u8>,
    pub options: Vec<String>,
    /// The arguments of the program. For a script, the first one is its path.
    pub arguments: Vec<Vec<u8>>,
    pub terminal: Option<OwnTerminal>,
}

/// What a record begins with, and how the process that reads it is started.
pub struct Beginning {
    pub start: Start,
    /// The lines of the trace list up to now.
    pub lines: Vec<String>,
    pub renewal: Renewal,
}

/// What the process that renews an archive locks.
pub enum Locks<'a> {
    /// Only one process at a time renews archives in this directory.
    Directory(&'a Path),
    /// Only one process at a time builds in a cache, and has a lock of this file. Only one run at a time of a program is
    /// recorded, and has a lock of its entry.
    Cache { building: &'a Path, entry: &'a Path },
}

/// The record of this process.
#[derive(Default)]
pub struct Recorder {
    open: Mutex<Option<Open>>,
    /// Whether there will be no record: beginning one has failed. It is not tried again.
    has_failed: AtomicBool,
}

struct Open {
    memory: Shared,
    missed: BTreeSet<String>,
}

impl Recorder {
    /// Begins the record of this process, if it has none yet. `locks` returns none if there must be no record; nothing is
    /// done before.
    pub fn begin<'a>(
        &self,
        locks: impl FnOnce() -> Option<Locks<'a>>,
        beginning: impl FnOnce() -> Option<Beginning>,
    ) {
        let Ok(mut open) = self.open.lock() else {
            return;
        };
        let is_open = (open.as_ref()).is_some_and(|open| open.memory.is_of_this_process());
        if is_open || self.has_failed.load(Ordering::Relaxed) {
            return;
        }
        fault::point("record_begun");
        let begun = locks().and_then(|locks| begin(&locks, beginning));
        self.has_failed.store(begun.is_none(), Ordering::Relaxed);
        *open = begun;
    }

    /// Adds an event to the record of this process, if it has one. Makes no system call.
    pub fn add(&self, event: &Event) {
        let Ok(mut open) = self.open.lock() else {
            return;
        };
        let Some(open) = open.as_mut() else {
            return;
        };
        if let Event::Missed { name, .. } = event
            && !open.missed.insert(name.clone())
        {
            return;
        }
        if let Ok(frame) = frame(event) {
            open.memory.append(&frame);
        }
    }
}

/// None if there can be no record: another run is recorded, a resource is missing, or this process would become the parent
/// of the process that renews the archive.
fn begin(locks: &Locks, beginning: impl FnOnce() -> Option<Beginning>) -> Option<Open> {
    if background::adopts_orphans() {
        return None;
    }
    let (building, turn) = match locks {
        Locks::Directory(path) => (directory(path)?, None),
        Locks::Cache { building, entry } => {
            let turn = own_directory(entry)?;
            flock(&turn, FlockOperation::NonBlockingLockExclusive).ok()?;
            (file(building)?, Some(turn))
        }
    };
    let Beginning {
        start,
        lines,
        renewal,
    } = beginning()?;
    let (mut memory, record) = Shared::create().ok()?;
    memory.append(&frame(&Event::Start(Box::new(start))).ok()?);
    for line in lines {
        memory.append(&frame(&Event::Line(line)).ok()?);
    }
    renewal.start(Files {
        record,
        building,
        turn,
    });
    Some(Open {
        memory,
        missed: BTreeSet::new(),
    })
}

fn directory(path: &Path) -> Option<File> {
    let mut options = OpenOptions::new();
    let options = options.read(true).custom_flags(libc::O_DIRECTORY);
    options.open(path).ok()
}

/// A directory of this user in which no other user can create files.
fn own_directory(path: &Path) -> Option<File> {
    let directory = directory(path)?;
    let status = directory.metadata().ok()?;
    let user = rustix::process::geteuid().as_raw();
    (status.uid() == user && status.mode() & 0o022 == 0).then_some(directory)
}

/// Opens a file. Creates it if necessary.
fn file(path: &Path) -> Option<File> {
    let mut options = OpenOptions::new();
    options.read(true).append(true).create(true).mode(0o600);
    let options = options.custom_flags(libc::O_NOFOLLOW | libc::O_NOCTTY);
    options.open(path).ok()
}

fn frame(event: &Event) -> Result<Vec<u8>> {
    let event = postcard::to_stdvec(event).map_err(Error::other)?;
    let mut frame = Vec::new();
    frames::append(&mut frame, &event);
    Ok(frame)
}

/// A record.
pub struct Run {
    pub start: Start,
    pub events: Vec<Event>,
}

/// The record that this process was started for, if it was started to renew an archive.
pub fn recorded() -> Option<Run> {
    let bytes = fs::read(format!("/proc/self/fd/{RECORD}")).ok()?;
    // SAFETY: the call takes a number. The descriptor was opened for this function only.
    unsafe { libc::close(RECORD) };
    let (Event::Start(start), mut rest) = first_event(&bytes)? else {
        return None;
    };
    let mut events = Vec::new();
    while let Some((event, behind)) = first_event(rest) {
        events.push(event);
        rest = behind;
    }
    Some(Run {
        start: *start,
        events,
    })
}

fn first_event(bytes: &[u8]) -> Option<(Event, &[u8])> {
    let (event, rest) = frames::split_first(bytes)?;
    Some((postcard::from_bytes(event).ok()?, rest))
}
