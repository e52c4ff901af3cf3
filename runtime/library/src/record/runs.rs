//! Records that runs of `-X cds_auto`, and of programs with an entry in the cache, leave for the next archive. They are
//! written during the run, so they exist however the run ends.
//!
//! The directory `app.cds.runs` beside an archive `app.cds` exists while there are records; in an entry of the cache, it
//! is called `runs`. It has a file for each process that had to load a module without the archive, or that started
//! without an image. A record is a sequence of frames, each with a length, a hash and an [`Event`]. A reader stops at
//! the first incomplete frame.
//!
//! A record in the cache contains no variables and no arguments, because it may stay there for long. A process that
//! wakes up the renewal hands over its own ([`hand_over`]).
//!
//! A record is locked (flock(2)) until its process ends or executes another program. No file stays open for this: the
//! program would see that a file descriptor is in use, and could close it. A mapping keeps the lock as well as a file
//! descriptor does.

use std::collections::BTreeSet;
use std::ffi::CString;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{Error, ErrorKind, Result, Write};
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::process;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime};
use std::{mem, ptr};

use rustix::fs::{FlockOperation, MemfdFlags, flock};
use serde::{Deserialize, Serialize};
use startup_image::own_file::OwnFile;
use startup_image::streams::OwnTerminal;

use crate::fault;
use crate::kernel::inherited::inherited;

/// The greatest number of records in a directory, for the case that the processes that should read them are killed,
/// too.
const MOST_RECORDS: usize = 64;
/// A reader removes the directory with its last record, perhaps just before a new record is created in it. So the
/// directory is created again, up to this number of times.
const MOST_ATTEMPTS: u32 = 8;
/// The greatest number of bytes in a record.
const MOST_BYTES: usize = 4 << 20;
/// A record without a start event is removed at this age: its process was killed before it could write.
const LIFE_OF_EMPTY: Duration = Duration::from_secs(60);
const LOCK_BYTES: usize = 1;

/// An event of a run.
#[derive(Serialize, Deserialize)]
pub enum Event {
    /// The first event of each record.
    Start(Start),
    /// A line of a trace list.
    Line(String),
    /// A module that had to be loaded without the archive. A frozen module has no path.
    Missed { name: String, path: Option<String> },
}

/// How the run was started, as far as the process that renews the archive needs it.
#[derive(Default, Serialize, Deserialize)]
pub struct Start {
    /// The command that renews the archive. The path of the record is appended to it.
    pub command: Vec<Vec<u8>>,
    /// None if the command line is one for which no image can be taken.
    pub subject: Option<Subject>,
    /// `NAME=value`. None if no image is wanted.
    pub environment: Option<Vec<Vec<u8>>>,
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

/// The record of this process.
#[derive(Default)]
pub struct Recorder {
    open: Mutex<Option<Open>>,
    /// Whether creating the record has failed, so that it is not tried again.
    has_failed: AtomicBool,
}

struct Open {
    path: PathBuf,
    /// The process id: a forked process has a record of its own.
    process: u32,
    /// The start of this process, if the record does not contain it.
    kept: Option<Start>,
    /// Held until the record ends.
    lock: Option<Lock>,
    bytes: usize,
    missed: BTreeSet<String>,
    /// The attributes that a child process would inherit when the record began.
    inherited: Vec<u8>,
}

impl Recorder {
    /// Begins the record of this process with its start and its lines up to now, if it has none yet. Creates the
    /// directory if necessary. With `is_kept`, the start stays in memory, and the record begins with an empty one.
    pub fn begin(
        &self,
        directory: &Path,
        is_kept: bool,
        contents: impl FnOnce() -> Option<(Start, Vec<String>)>,
    ) -> Result<()> {
        let Ok(mut open) = self.open.lock() else {
            return Ok(());
        };
        let is_open = open.as_ref().is_some_and(Open::is_of_this_process);
        if is_open || self.has_failed.load(Ordering::Relaxed) {
            return Ok(());
        }
        let begun = Open::create(directory, is_kept, contents);
        self.has_failed
            .store(!matches!(begun, Ok(Some(_))), Ordering::Relaxed);
        *open = begun?;
        Ok(())
    }

    /// Adds an event to the record of this process, if it has one.
    pub fn add(&self, event: Event) {
        let Ok(mut open) = self.open.lock() else {
            return;
        };
        let Some(open) = open.as_mut().filter(|open| open.is_of_this_process()) else {
            return;
        };
        if let Event::Missed { name, .. } = &event
            && !open.missed.insert(name.clone())
        {
            return;
        }
        let mut options = OpenOptions::new();
        options
            .append(true)
            .custom_flags(libc::O_NOFOLLOW | libc::O_NOCTTY);
        // An error, such as a full disk, must not affect the program.
        if let Ok(file) = options.open(&open.path) {
            let _ = open.write(&file, &[event]);
        }
    }

    /// Ends the record of this process, and starts the process that renews the archive from it as a child. It does not
    /// if the program has changed something that the child would inherit, since the next start of the program does not
    /// have this change. Then the next start begins the renewal.
    pub fn end(&self) {
        let Ok(mut open) = self.open.lock() else {
            return;
        };
        let Some(own) = open.as_mut().filter(|open| open.is_of_this_process()) else {
            return;
        };
        let Some(lock) = own.lock.take() else {
            return;
        };
        lock.release();
        if own.inherited != inherited() {
            return;
        }
        fault::point("refresh");
        match own.kept.take() {
            Some(start) => {
                hand_over(start, Spawning::spawn);
            }
            None => renew(&own.path),
        }
    }
}

impl Open {
    fn create(
        directory: &Path,
        is_kept: bool,
        contents: impl FnOnce() -> Option<(Start, Vec<String>)>,
    ) -> Result<Option<Self>> {
        let Some((start, lines)) = contents() else {
            return Ok(None);
        };
        let Some((path, file, lock)) = create(directory)? else {
            return Ok(None);
        };
        let (kept, written) = if is_kept {
            (Some(start), Start::default())
        } else {
            (None, start)
        };
        let mut own = Self {
            path,
            process: process::id(),
            kept,
            lock: Some(lock),
            bytes: 0,
            missed: BTreeSet::new(),
            inherited: inherited(),
        };
        let lines = lines.into_iter().map(Event::Line);
        let events: Vec<Event> = [Event::Start(written)].into_iter().chain(lines).collect();
        own.write(&file, &events)?;
        Ok(Some(own))
    }

    fn is_of_this_process(&self) -> bool {
        self.process == process::id()
    }

    fn write(&mut self, mut file: &File, events: &[Event]) -> Result<()> {
        let frames = frames(events)?;
        self.bytes += frames.len();
        if self.bytes > MOST_BYTES {
            return Ok(());
        }
        // All frames are written in one call, so that a process that is killed leaves all of them or none.
        file.write_all(&frames)
    }
}

fn frames(events: &[Event]) -> Result<Vec<u8>> {
    let mut frames = Vec::new();
    for event in events {
        let event = postcard::to_stdvec(event).map_err(Error::other)?;
        frames.extend((event.len() as u64).to_le_bytes());
        frames.extend(archive_format::content_hash(&event).to_le_bytes());
        frames.extend(event);
    }
    Ok(frames)
}

/// Creates a record. None if there are too many records already, or if files cannot be locked.
fn create(directory: &Path) -> Result<Option<(PathBuf, File, Lock)>> {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    let name = format!("{}-{}", process::id(), now.unwrap_or_default().as_nanos());
    let path = directory.join(name);
    let mut options = OpenOptions::new();
    // Mapping the file requires that it can be read.
    options.read(true).append(true).create_new(true).mode(0o600);
    let mut attempts = 0..MOST_ATTEMPTS;
    let file = loop {
        match options.open(&path) {
            Err(error) if error.kind() == ErrorKind::NotFound && attempts.next().is_some() => {
                match DirBuilder::new().mode(0o700).create(directory) {
                    Err(error) if error.kind() != ErrorKind::AlreadyExists => return Err(error),
                    _ => {}
                }
            }
            result => break result?,
        }
    };
    let has_room = is_own(directory) && fs::read_dir(directory)?.count() <= MOST_RECORDS;
    match Lock::of(&file).filter(|_| has_room) {
        Some(lock) => Ok(Some((path, file, lock))),
        None => {
            let _ = fs::remove_file(&path);
            Ok(None)
        }
    }
}

/// Whether a directory belongs to this user, and no other user can create files in it.
fn is_own(directory: &Path) -> bool {
    let user = rustix::process::geteuid().as_raw();
    fs::symlink_metadata(directory)
        .is_ok_and(|status| status.is_dir() && status.uid() == user && status.mode() & 0o022 == 0)
}

/// A mapping that keeps a file locked, and only in this process.
struct Lock(usize);

impl Lock {
    fn of(file: &File) -> Option<Self> {
        // A process that reads the record may hold the lock for a moment.
        flock(file, FlockOperation::LockExclusive).ok()?;
        // SAFETY: this creates a new mapping that cannot be read or written, so the length of the file does not matter.
        // The advice applies to this mapping only: forked processes do not inherit it.
        unsafe {
            let (none, shared) = (libc::PROT_NONE, libc::MAP_SHARED);
            let place = libc::mmap(
                ptr::null_mut(),
                LOCK_BYTES,
                none,
                shared,
                file.as_raw_fd(),
                0,
            );
            if place == libc::MAP_FAILED {
                return None;
            }
            let lock = Self(place as usize);
            if libc::madvise(place, LOCK_BYTES, libc::MADV_DONTFORK) == 0 {
                Some(lock)
            } else {
                lock.release();
                None
            }
        }
    }

    fn release(self) {
        // SAFETY: this process has mapped it, and nothing refers to it.
        unsafe { libc::munmap(ptr::with_exposed_provenance_mut(self.0), LOCK_BYTES) };
    }
}

/// A record whose process has ended.
pub struct Ended {
    pub path: PathBuf,
    modified: SystemTime,
    pub start: Start,
    pub events: Vec<Event>,
}

/// The records in a directory whose processes have ended, the newest last. Files that will never be a record are
/// removed.
pub fn ended(directory: &Path) -> Vec<Ended> {
    let Ok(entries) = fs::read_dir(directory) else {
        return Vec::new();
    };
    if !is_own(directory) {
        return Vec::new();
    }
    let mut ended: Vec<Ended> = entries
        .flatten()
        .filter_map(|entry| ended_record(entry.path()))
        .collect();
    ended.sort_by_key(|record| record.modified);
    ended
}

fn ended_record(path: PathBuf) -> Option<Ended> {
    let own = OwnFile::open(path.as_os_str().as_bytes()).ok()??;
    // Other processes may read the record at the same time.
    flock(&own.file, FlockOperation::NonBlockingLockShared).ok()?;
    let status = fs::symlink_metadata(&path).ok()?;
    let modified = status.modified().ok()?;
    let mut events = own
        .read(0, own.status.st_size as u64)
        .ok()
        .map(|bytes| events(&bytes))
        .unwrap_or_default();
    if !matches!(events.first(), Some(Event::Start(_))) {
        // A record that was just created is not locked yet.
        if modified.elapsed().is_ok_and(|age| age > LIFE_OF_EMPTY) {
            let _ = fs::remove_file(&path);
        }
        return None;
    }
    let Event::Start(start) = events.remove(0) else {
        return None;
    };
    Some(Ended {
        path,
        modified,
        start,
        events,
    })
}

fn events(mut bytes: &[u8]) -> Vec<Event> {
    let mut events = Vec::new();
    while let Some((event, rest)) = first_event(bytes) {
        events.push(event);
        bytes = rest;
    }
    events
}

fn first_event(bytes: &[u8]) -> Option<(Event, &[u8])> {
    let (length, rest) = bytes.split_first_chunk()?;
    let (hash, rest) = rest.split_first_chunk()?;
    let length = usize::try_from(u64::from_le_bytes(*length)).ok()?;
    let (event, rest) = rest.split_at_checked(length)?;
    if archive_format::content_hash(event) != u64::from_le_bytes(*hash) {
        return None;
    }
    Some((postcard::from_bytes(event).ok()?, rest))
}

/// Starts the process that renews an archive from the records in a directory, if there are any. No process waits for
/// it.
pub fn wake(directory: &Path) {
    if let Some(newest) = ended(directory).pop()
        && let Some(renewal) = Renewal::of(&newest.path, newest.start)
    {
        renewal.start(Spawning::spawn_orphan);
    }
}

/// Starts the same process for the record of a process that is about to end.
fn renew(record: &Path) {
    if let Some(ended) = ended_record(record.to_owned())
        && let Some(renewal) = Renewal::of(&ended.path, ended.start)
    {
        renewal.start(Spawning::spawn);
    }
}

/// Whether there are records of processes that have ended.
pub fn are_there(directory: &Path) -> bool {
    directory.is_dir() && !ended(directory).is_empty()
}

/// Starts the process that renews an archive of the cache, for a process that was started like this.
pub fn renew_for(start: Start) {
    hand_over(start, Spawning::spawn_orphan);
}

/// The descriptor by which the process that renews an archive gets the start of the run.
const HANDED_OVER: RawFd = 3;
/// What the command line has in place of the path of a record then.
const NO_PATH: &str = "-";

/// Starts the process that renews an archive. It gets the start of the run in memory, and not in a file.
fn hand_over(start: Start, spawn: impl FnOnce(&Spawning)) -> Option<()> {
    let memory = rustix::fs::memfd_create("cds_run", MemfdFlags::CLOEXEC).ok()?;
    let mut memory = File::from(memory);
    let events = [Event::Start(start)];
    memory.write_all(&frames(&events).ok()?).ok()?;
    let [Event::Start(start)] = events else {
        return None;
    };
    let mut renewal = Renewal::of(Path::new(NO_PATH), start)?;
    renewal.handed_over = Some(memory);
    renewal.start(spawn);
    Some(())
}

/// The start of the run that has started this process ([`hand_over`]).
pub fn handed_over() -> Option<Start> {
    let bytes = fs::read(format!("/proc/self/fd/{HANDED_OVER}")).ok()?;
    // SAFETY: the call takes a number. The descriptor was opened for this function only.
    unsafe { libc::close(HANDED_OVER) };
    match first_event(&bytes)? {
        (Event::Start(start), _) => Some(start),
        _ => None,
    }
}

/// A process that renews an archive.
struct Renewal {
    command: Vec<CString>,
    environment: Vec<CString>,
    /// What the process gets as [`HANDED_OVER`].
    handed_over: Option<File>,
}

impl Renewal {
    /// If it takes an image, the process gets the environment variables that the run was started with, otherwise those
    /// of this process.
    fn of(record: &Path, start: Start) -> Option<Self> {
        let text = |text| CString::new(text).ok();
        let record = record.as_os_str().as_bytes().to_vec();
        let command = start.command.into_iter().chain([record]);
        let environment = start.environment.unwrap_or_else(environment);
        Some(Self {
            command: command.map(text).collect::<Option<_>>()?,
            environment: environment.into_iter().filter_map(text).collect(),
            handed_over: None,
        })
    }

    fn start(&self, spawn: impl FnOnce(&Spawning)) {
        if let Some(spawning) = Spawning::of(self) {
            spawn(&spawning);
        }
    }
}

/// The data to start a process in its own session, without the program's open files and blocked signals.
struct Spawning {
    command: Vec<*mut libc::c_char>,
    environment: Vec<*mut libc::c_char>,
    actions: libc::posix_spawn_file_actions_t,
    attributes: libc::posix_spawnattr_t,
}

impl Spawning {
    fn of(renewal: &Renewal) -> Option<Self> {
        let pointers = |texts: &[CString]| -> Vec<_> {
            let pointers = texts.iter().map(|text| text.as_ptr().cast_mut());
            pointers.chain([ptr::null_mut()]).collect()
        };
        let flags = libc::POSIX_SPAWN_SETSID | libc::POSIX_SPAWN_SETSIGMASK as libc::c_short;
        // SAFETY: the structures are initialized before they are used.
        unsafe {
            let mut actions = mem::zeroed();
            let mut attributes = mem::zeroed();
            let mut signals = mem::zeroed();
            libc::sigemptyset(&raw mut signals);
            if libc::posix_spawn_file_actions_init(&raw mut actions) != 0 {
                return None;
            }
            libc::posix_spawnattr_init(&raw mut attributes);
            libc::posix_spawnattr_setflags(&raw mut attributes, flags);
            libc::posix_spawnattr_setsigmask(&raw mut attributes, &raw const signals);
            let nowhere = c"/dev/null".as_ptr();
            for stream in 0..3 {
                libc::posix_spawn_file_actions_addopen(
                    &raw mut actions,
                    stream,
                    nowhere,
                    libc::O_RDWR,
                    0,
                );
            }
            // From here on, they are destroyed with the value.
            let mut spawning = Self {
                command: pointers(&renewal.command),
                environment: pointers(&renewal.environment),
                actions,
                attributes,
            };
            let mut first_closed = HANDED_OVER;
            if let Some(memory) = &renewal.handed_over {
                libc::posix_spawn_file_actions_adddup2(
                    &raw mut spawning.actions,
                    memory.as_raw_fd(),
                    HANDED_OVER,
                );
                first_closed += 1;
            }
            add_close_from(&mut spawning.actions, first_closed)?;
            Some(spawning)
        }
    }

    /// Starts the process as a child of a process that ends at once: the program must not see a child that it has not
    /// started.
    fn spawn_orphan(&self) {
        const NO_SIGNAL_AT_END: libc::c_long = 0;
        // SAFETY: this forks with the bare system call, which calls no handlers (pthread_atfork(3)). Another thread may
        // hold the lock of the allocator; the child allocates nothing, but starts a process and ends.
        unsafe {
            match libc::syscall(libc::SYS_clone, NO_SIGNAL_AT_END, 0, 0, 0, 0) {
                0 => {
                    self.spawn();
                    libc::_exit(0);
                }
                child if child > 0 => {
                    while libc::waitpid(child as i32, ptr::null_mut(), libc::__WALL) < 0
                        && Error::last_os_error().kind() == ErrorKind::Interrupted
                    {
                    }
                }
                // If the fork fails, the archive is not renewed.
                _ => {}
            }
        }
    }

    /// Starts the process as a child of this one.
    fn spawn(&self) {
        // SAFETY: the arrays end with NULL, and the strings live as long as the `Renewal`.
        unsafe {
            libc::posix_spawn(
                ptr::null_mut(),
                self.command[0],
                &raw const self.actions,
                &raw const self.attributes,
                self.command.as_ptr(),
                self.environment.as_ptr(),
            );
        }
    }
}

impl Drop for Spawning {
    fn drop(&mut self) {
        // SAFETY: the structures are initialized, and not used any more.
        unsafe {
            libc::posix_spawn_file_actions_destroy(&raw mut self.actions);
            libc::posix_spawnattr_destroy(&raw mut self.attributes);
        }
    }
}

/// Closes all descriptors from `first` on in the new process. Before glibc 2.34, the C library has no function for this.
/// Then the descriptors that are open now are closed one by one; `None` if they are not known (no `/proc`).
fn add_close_from(actions: &mut libc::posix_spawn_file_actions_t, first: RawFd) -> Option<()> {
    type AddCloseFrom = unsafe extern "C" fn(*mut libc::posix_spawn_file_actions_t, RawFd) -> i32;
    let name = c"posix_spawn_file_actions_addclosefrom_np".as_ptr();
    // SAFETY: a C library that has a function of this name has this one (<spawn.h>). `actions` is initialized.
    unsafe {
        let function = libc::dlsym(libc::RTLD_DEFAULT, name);
        if !function.is_null() {
            let function = mem::transmute::<*mut libc::c_void, AddCloseFrom>(function);
            function(actions, first);
            return Some(());
        }
    }
    for entry in fs::read_dir("/proc/self/fd").ok()?.flatten() {
        let descriptor = entry.file_name().to_str()?.parse::<RawFd>().ok()?;
        if descriptor >= first {
            // SAFETY: `actions` is initialized. It is no error if the descriptor is closed in the new process.
            unsafe { libc::posix_spawn_file_actions_addclose(actions, descriptor) };
        }
    }
    Some(())
}

/// The environment variables that this process was started with, without settings for archives.
pub fn environment() -> Vec<Vec<u8>> {
    let texts = fs::read("/proc/self/environ").unwrap_or_else(|_| {
        let variables = std::env::vars_os();
        let texts = variables.map(|(name, value)| {
            let (name, value) = (name.into_vec(), value.into_vec());
            [&name[..], b"=", &value, b"\0"].concat()
        });
        texts.collect::<Vec<_>>().concat()
    });
    let is_ours = |text: &&[u8]| text.starts_with(b"PYTHON_CDS") || text.starts_with(b"PYCDS");
    let texts = texts.split(|&byte| byte == 0);
    let texts = texts.filter(|text| !text.is_empty() && !is_ours(text));
    texts.map(<[u8]>::to_vec).collect()
}
