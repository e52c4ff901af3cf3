//! The state of the runtime in this process: the options, the mapped archive, what became of it.

use std::panic::PanicHookInfo;
use std::path::{Path, PathBuf};
use std::ptr;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicPtr, Ordering};

use crate::answer::catalog::Miss;
use crate::answer::patterns::{Compiler, Key};
use crate::answer::postpone::Postponer;
use crate::cpython::config::{self, Config};
use crate::cpython::object::Object;
use crate::cpython::{bindings, has_code_watchers, is_main_interpreter, modules, object};
use crate::executable::Executable;
use crate::fingerprint;
use crate::layers::{Layers, Unusable};
use crate::messages::complain;
use crate::options::{Auto, Options, StatsTarget};
use crate::reader::OpenError;
use crate::record::auto;
use crate::record::runs::{self, Event, Recorder, Start};
use crate::record::trace::{Trace, Use};
use crate::report::stats::{Activity, Stats};
use crate::{fault, image};

pub struct Runtime {
    pub options: Options,
    pub config: Config,
    pub executable: Executable,
    pub layers: Layers,
    pub stats: Stats,
    trace: Trace,
    recorder: Recorder,
    postponer: Postponer,
    pub compiler: Compiler,
    restored: OnceLock<Restored>,
}

/// What a process that was restored from a startup image was started with.
pub struct Restored {
    pub image: PathBuf,
    pub stats: Option<StatsTarget>,
    pub auto: Option<Auto>,
}

/// The process ends with exit status 1; the reason is on stderr.
pub struct Exit;

static CURRENT: AtomicPtr<Runtime> = AtomicPtr::new(ptr::null_mut());
static HAS_PANICKED: AtomicBool = AtomicBool::new(false);
/// `-X cds_strict`, and whether a panic is reported. Known before there is a runtime.
static IS_STRICT: AtomicBool = AtomicBool::new(false);
static TELLS_PANICS: AtomicBool = AtomicBool::new(false);

/// The runtime, if the main interpreter has been initialized and nothing has gone wrong since.
pub fn current() -> Option<&'static Runtime> {
    for_interning().filter(|_| !HAS_PANICKED.load(Ordering::Acquire))
}

/// The runtime, even after a panic: an interned string that was handed out has to remain the one that is interned.
pub fn for_interning() -> Option<&'static Runtime> {
    // SAFETY: NULL or a leaked box.
    unsafe { CURRENT.load(Ordering::Acquire).as_ref() }
}

/// Ends all use of the archive, after a panic. What was handed out stays valid.
pub fn disable() {
    HAS_PANICKED.store(true, Ordering::Release);
}

/// The panic hook. A program does as well without archives, so it is reported only where `-X cds_strict` asks for it.
pub fn report_panic(panic: &PanicHookInfo) {
    if TELLS_PANICS.load(Ordering::Relaxed) && !HAS_PANICKED.load(Ordering::Acquire) {
        complain(&format!("the archive is not used any more: {panic}"));
    }
}

/// Whether an interpreter may start after the runtime could not.
pub fn may_go_without() -> bool {
    !IS_STRICT.load(Ordering::Relaxed)
}

/// Starts the runtime for a new main interpreter.
///
/// # Safety
/// `interp` is the main interpreter, configured, without any object yet.
pub unsafe fn initialize(interp: *mut bindings::PyInterpreterState) -> Result<(), Exit> {
    // SAFETY: the caller passes the main interpreter, which is configured and has no objects.
    let Some(config) = (unsafe { Config::new(interp) }) else {
        return Ok(());
    };
    let options = Options::read(&config);
    IS_STRICT.store(options.strict, Ordering::Relaxed);
    TELLS_PANICS.store(options.strict || config.verbosity() > 0, Ordering::Relaxed);
    fault::point("options_read");
    let Some(executable) = Executable::current() else {
        return Ok(());
    };
    // A process that is restored from an image may be asked for statistics, too.
    let is_asked = options.stats.is_some();
    let stats = Stats::new(is_asked || options.image.is_some(), is_asked);
    let opened = stats.timed(Activity::Open, || {
        Layers::open(&options, &config, &executable)
    });
    fault::point("layers_open");
    let (layers, unusable) = opened;
    if let Some(Unusable { path, reason }) = unusable {
        // One that renews itself is missing at first, and stale now and then. One that is inherited is not meant for
        // processes with other options.
        let is_expected = options.auto.is_some()
            || options.is_inherited
                && !options.strict
                && matches!(&reason, OpenError::Rejected(r) if fingerprint::is_option_mismatch(r));
        if !is_expected {
            complain(&format!("{} is not used: {reason}", path.display()));
            if options.strict {
                return Err(Exit);
            }
        }
    }
    // SAFETY: the caller passes the main interpreter, which is configured and has no objects.
    let layers = if unsafe { config::reserve_code_versions(interp, layers.code_count()) } {
        layers
    } else {
        Layers::default()
    };
    let trace_file = options
        .trace
        .as_ref()
        .and_then(|path| match Trace::open(path) {
            Ok(file) => Some(file),
            Err(error) => {
                complain(&format!(
                    "cannot write the trace list {}: {error}",
                    path.display()
                ));
                None
            }
        });
    // A process that is restored from an image may have to renew that.
    let trace = Trace::new(
        trace_file,
        options.auto.is_some() || options.image.is_some(),
    );
    let runtime = Box::new(Runtime {
        options,
        config,
        executable,
        layers,
        stats,
        trace,
        recorder: Recorder::default(),
        compiler: Compiler::default(),
        restored: OnceLock::new(),
        // SAFETY: the caller passes the main interpreter, which is configured and has no objects.
        postponer: unsafe { Postponer::new(interp) },
    });
    // Leaked: a daemon thread may still be using an earlier one when an embedding program starts anew.
    CURRENT.store(Box::into_raw(runtime), Ordering::Release);
    Ok(())
}

impl Runtime {
    /// The archives, where their code may be used: two interpreters with a GIL each would specialise the same
    /// bytecode at once, and a code watcher wants to see every code object being made.
    pub fn layers_for_code(&self) -> Option<&Layers> {
        (!self.layers.is_empty() && is_main_interpreter() && !has_code_watchers())
            .then_some(&self.layers)
    }

    /// Whether the garbage collection that is due can wait.
    ///
    /// # Safety
    /// `interp` is the interpreter of the calling thread.
    pub unsafe fn postpones_gc(&self, interp: *mut bindings::PyInterpreterState) -> bool {
        // SAFETY: the caller passes the interpreter of its thread, whose GIL it holds.
        is_main_interpreter() && unsafe { self.postponer.postpones(interp, self.stats.hits()) }
    }

    /// What renews itself, according to the options of this process.
    pub fn auto(&self) -> Option<&Auto> {
        match self.restored.get() {
            Some(restored) => restored.auto.as_ref(),
            None => self.options.auto.as_ref(),
        }
    }

    /// Has the archive of `-X cds_auto`, and its image, written anew from what runs have left that have ended; and begins a
    /// record of this one if there is no image.
    pub fn begin_renewal(&self) {
        let Some(auto) = self.auto() else {
            return;
        };
        if self.layers.named.is_none()
            && let Some(obstacle) = auto::obstacle(auto)
        {
            auto::complain(auto, &obstacle);
            return;
        }
        runs::wake(&auto.records());
        if self.restored.get().is_none()
            && let Some(image) = auto.image()
            && image::is_lacking(&image)
            && image::subject(&auto.directory).is_some()
        {
            self.begin_record(auto);
        }
    }

    /// Takes notice of a module that had to be loaded without the archive; it is frozen if it has no path.
    pub fn missed(&self, name: &str, path: Option<&str>, miss: Miss) {
        self.stats.miss(name, miss);
        if let Some(auto) = self.auto()
            && miss.is_needless()
            && is_main_interpreter()
        {
            self.begin_record(auto);
            self.recorder.add(Event::Missed {
                name: name.to_owned(),
                path: path.map(str::to_owned),
            });
        }
    }

    /// Begins the record of this run, with what has happened so far.
    fn begin_record(&self, auto: &Auto) {
        let Some(executable) = self.config.executable() else {
            return;
        };
        let result = self.recorder.begin(&auto.records(), || {
            let start = Event::Start(Start {
                command: auto::command(&self.config, executable, auto),
                subject: image::subject(&auto.directory),
                environment: auto.has_image.then(runs::environment),
            });
            let lines = self.trace.lines().into_iter().map(Event::Line);
            [start].into_iter().chain(lines).collect()
        });
        if let Err(error) = result
            && let Some(obstacle) = auto::Obstacle::of(auto, &error)
        {
            auto::complain(auto, &obstacle);
        }
    }

    /// Has the archive of `-X cds_auto`, and its image, written anew, if that would help the next run. Never fails the
    /// run.
    pub fn refresh(&self) {
        if let Some(record) = self.recorder.end() {
            fault::point("refresh");
            runs::renew(&record);
        }
    }

    /// Where the report of statistics is to go, if it is wanted.
    pub fn stats_target(&self) -> Option<&StatsTarget> {
        match self.restored.get() {
            Some(restored) => restored.stats.as_ref(),
            None => self.options.stats.as_ref(),
        }
    }

    /// Takes notice that the process was restored.
    pub fn resume(&self, restored: Restored) {
        self.stats.reset();
        if restored.auto.is_none() {
            self.trace.stop();
        }
        // It happens once.
        let _ = self.restored.set(restored);
    }

    /// The startup image that the process was restored from.
    pub fn startup_image(&self) -> Option<&Path> {
        self.restored.get().map(|restored| restored.image.as_path())
    }

    /// Adds a module whose code is asked for to the trace list, if one is written. `file` is none for a frozen module.
    pub fn trace(&self, name: &Object, file: Option<&str>) -> object::Result<()> {
        if self.trace.is_wanted() {
            // importlib adds a module before it asks for the code; whoever only runs the code, like `-m`, adds none.
            let how = if modules::is_there(name) {
                Use::Imported
            } else {
                Use::NotImported
            };
            let directories = self.standard_directories();
            let line = self.trace.record(name.to_str()?, file, &directories, how);
            self.note_line(line);
        }
        Ok(())
    }

    /// Adds a pattern to the trace list, if one is written.
    pub fn trace_pattern(&self, key: &Key) -> object::Result<()> {
        if self.trace.is_wanted() {
            let line = self
                .trace
                .record_pattern(key.flags.ascii()?.to_str()?, key.pattern.ascii()?.to_str()?);
            self.note_line(line);
        }
        Ok(())
    }

    /// The trace list of this process, if it keeps one.
    pub fn loaded_lines(&self) -> Vec<String> {
        self.trace.lines()
    }

    fn note_line(&self, line: Option<String>) {
        if let Some(line) = line {
            self.recorder.add(Event::Line(line));
        }
    }

    /// The standard library and site-packages.
    fn standard_directories(&self) -> Vec<String> {
        let site = |prefix: String| {
            format!(
                "{prefix}/lib/python{}/site-packages",
                object::minor_version()
            )
        };
        self.config
            .stdlib_directory()
            .into_iter()
            .chain(self.config.prefix().map(site))
            .collect()
    }
}
