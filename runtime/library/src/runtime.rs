//! The state of the runtime in this process: the options, the mapped archives, and what has happened so far.

use std::panic::PanicHookInfo;
use std::path::{Path, PathBuf};
use std::ptr;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicPtr, Ordering};

use startup_image::cache::FIRST_OF_BASE;

use crate::answer::miss::Miss;
use crate::answer::patterns::{Compiler, Key};
use crate::answer::postpone::Postponer;
use crate::cache::Entries;
use crate::cpython::config::{self, Config};
use crate::cpython::object::Object;
use crate::cpython::{has_code_watchers, is_main_interpreter, modules, object};
use crate::executable::Executable;
use crate::fingerprint;
use crate::layers::{Layers, Unusable};
use crate::messages::complain;
use crate::options::{self, Auto, Options, StatsTarget};
use crate::reader::OpenError;
use crate::record::auto;
use crate::record::background::{self, Renewal};
use crate::record::learning::Learning;
use crate::record::runs::{Beginning, Event, Locks, Recorder, Start, Subject};
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
    learning: Learning,
    postponer: Postponer,
    pub compiler: Compiler,
    restored: OnceLock<Restored>,
}

/// The options with which a process was started that was restored from a startup image.
pub struct Restored {
    pub image: PathBuf,
    pub stats: Option<StatsTarget>,
    pub auto: Option<Auto>,
    /// Whether the image was taken before the program. Then the program is recorded as after another start.
    pub is_base: bool,
    pub learning: Learning,
}

/// The process must end with exit status 1. The reason was reported on stderr.
pub struct Exit;

static CURRENT: AtomicPtr<Runtime> = AtomicPtr::new(ptr::null_mut());
static HAS_PANICKED: AtomicBool = AtomicBool::new(false);
/// Whether `-X cds_strict` is given, and whether panics are reported. These are known before there is a runtime.
static IS_STRICT: AtomicBool = AtomicBool::new(false);
static TELLS_PANICS: AtomicBool = AtomicBool::new(false);

/// The runtime, if the main interpreter was initialized and no panic has occurred since.
pub fn current() -> Option<&'static Runtime> {
    for_interning().filter(|_| !HAS_PANICKED.load(Ordering::Acquire))
}

/// The runtime, even after a panic: an archived string that was interned must stay the interned one.
pub fn for_interning() -> Option<&'static Runtime> {
    // SAFETY: NULL or a leaked box.
    unsafe { CURRENT.load(Ordering::Acquire).as_ref() }
}

/// Stops all use of archives after a panic. Objects that are already in use stay valid.
pub fn disable() {
    HAS_PANICKED.store(true, Ordering::Release);
}

/// The panic hook. The program continues without archives, so a panic is reported only with `-X cds_strict` or `-v`.
pub fn report_panic(panic: &PanicHookInfo) {
    if TELLS_PANICS.load(Ordering::Relaxed) && !HAS_PANICKED.load(Ordering::Acquire) {
        complain(&format!("archives are disabled after an error: {panic}"));
    }
}

/// Whether an interpreter may start without the runtime if the runtime could not start.
pub fn may_go_without() -> bool {
    !IS_STRICT.load(Ordering::Relaxed)
}

/// Starts the runtime for a new main interpreter.
///
/// # Safety
/// The thread runs the main interpreter, which is configured and has no objects yet.
pub unsafe fn initialize() -> Result<(), Exit> {
    // SAFETY: the caller's thread runs the main interpreter, which is configured. The interpreter is a static variable of
    // CPython (`_PyRuntime`).
    let Some(config) = (unsafe { Config::new() }) else {
        return Ok(());
    };
    let mut options = Options::read(&config);
    if let Some(auto) = &options.auto
        && let Some(misspelling) = auto::misspelling(auto)
    {
        auto::complain(auto, &misspelling);
        options.forget_auto();
    }
    IS_STRICT.store(options.strict, Ordering::Relaxed);
    TELLS_PANICS.store(options.strict || config.verbosity() > 0, Ordering::Relaxed);
    // Elsewhere, the launcher has done it.
    #[cfg(not(target_arch = "x86_64"))]
    if options.is_renewal && !startup_image::background::wait() {
        return Err(Exit);
    }
    fault::point("options_read");
    let Some(executable) = Executable::current() else {
        return Ok(());
    };
    // Statistics can also be requested later, for a process that is restored from an image.
    let is_asked = options.stats.is_some();
    let stats = Stats::new(is_asked || options.image.is_some(), is_asked);
    let opened = stats.timed(Activity::Open, || {
        Layers::open(&options, &config, &executable)
    });
    fault::point("layers_open");
    let (layers, unusable) = opened;
    if let Some(Unusable { path, reason }) = unusable {
        // An archive that renews itself does not exist at first, and is out of date at times. An archive that was named
        // by an inherited variable is not meant for processes with other options.
        let is_expected = options.auto.is_some()
            || options.is_renewal
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
    // SAFETY: the main interpreter has no objects yet, so no other thread runs it.
    let layers = if unsafe { config::reserve_code_versions(layers.code_count()) } {
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
    let learning = options.auto.as_ref().map(Learning::begin);
    let learning = learning.unwrap_or_default();
    // A process that is restored from an image may have to renew the image.
    let trace = Trace::new(trace_file, learning.is_recorded || options.image.is_some());
    let runtime = Box::new(Runtime {
        options,
        config,
        executable,
        layers,
        stats,
        trace,
        recorder: Recorder::default(),
        learning,
        compiler: Compiler::default(),
        restored: OnceLock::new(),
        postponer: Postponer::new(),
    });
    // The runtime is leaked: if an embedding program starts a new interpreter, a daemon thread may still use the former
    // runtime.
    CURRENT.store(Box::into_raw(runtime), Ordering::Release);
    Ok(())
}

/// The subject of an image of this process; none if no image can be taken. Programs from standard input share the base
/// images.
fn subject(auto: &Auto) -> Option<Subject> {
    match &auto.entries {
        Some(Entries { is_base: true, .. }) => image::base_subject(),
        _ => image::subject(&auto.directory),
    }
}

impl Runtime {
    /// The archives, if their code may be used. It may not in a subinterpreter, because two interpreters with separate
    /// GILs would specialize the same bytecode at the same time; nor if there is a code watcher, which expects to see
    /// the creation of every code object.
    pub fn layers_for_code(&self) -> Option<&Layers> {
        (!self.layers.is_empty() && is_main_interpreter() && !has_code_watchers())
            .then_some(&self.layers)
    }

    /// Whether the garbage collection that is due can be postponed.
    pub fn postpones_gc(&self) -> bool {
        is_main_interpreter() && self.postponer.postpones(self.stats.hits())
    }

    /// The archive that renews itself, according to the options of this process.
    pub fn auto(&self) -> Option<&Auto> {
        match self.restored.get() {
            Some(restored) => restored.auto.as_ref(),
            None => self.options.auto.as_ref(),
        }
    }

    /// Begins a record of this run if there is no image for it.
    pub fn begin_renewal(&self) {
        let Some(auto) = self.auto() else {
            return;
        };
        if auto.entries.is_none()
            && self.layers.named.is_none()
            && let Some(obstacle) = auto::obstacle(auto)
        {
            auto::complain(auto, &obstacle);
            return;
        }
        let is_lacking = self.learning().is_recorded && self.without_image(auto).is_some();
        if is_lacking || self.without_base(auto).is_some() {
            self.begin_record(auto);
        }
    }

    /// The archive whose image should be taken for the next process that is started like this one; none if no image
    /// should be taken.
    fn without_image(&self, auto: &Auto) -> Option<PathBuf> {
        let has_own = self
            .restored
            .get()
            .is_some_and(|restored| !restored.is_base);
        let image = auto.image().filter(|_| !has_own)?;
        let subject = subject(auto)?;
        let Some(Entries {
            program, is_base, ..
        }) = &auto.entries
        else {
            return image::is_lacking(&image, &subject).then(|| auto.target.clone());
        };
        let first = if *is_base { FIRST_OF_BASE } else { 0 };
        image::variant_to_renew(program, first, &subject)
            .map(|variant| options::archive_in(program, variant))
    }

    /// The archive whose base image should be taken, and the subject of this image; none if no base image should be
    /// taken.
    fn without_base(&self, auto: &Auto) -> Option<(String, Subject)> {
        let base = auto.entries.as_ref()?.base.as_ref();
        let base = base.filter(|_| self.learning().wants_base)?;
        let subject = image::base_subject()?;
        let variant = image::variant_to_renew(base, FIRST_OF_BASE, &subject)?;
        let archive = options::archive_in(base, variant).into_os_string();
        Some((archive.into_string().ok()?, subject))
    }

    fn learning(&self) -> &Learning {
        match self.restored.get() {
            Some(restored) => &restored.learning,
            None => &self.learning,
        }
    }

    /// Records a module that had to be loaded without the archive. A frozen module has no path.
    pub fn missed(&self, name: &str, path: Option<&str>, miss: Miss) {
        self.stats.miss(name, miss);
        if let Some(auto) = self.auto()
            && miss.is_needless()
            && is_main_interpreter()
            && self.learning().is_recorded
        {
            self.begin_record(auto);
            self.recorder.add(&Event::Missed {
                name: name.to_owned(),
                path: path.map(str::to_owned),
            });
        }
    }

    /// Begins the record of this run, with the events up to now.
    fn begin_record(&self, auto: &Auto) {
        let building = auto.building();
        let learning = self.learning();
        let locks = || match &auto.entries {
            _ if !learning.has_added_no_filter() => None,
            Some(Entries { program, base, .. }) => Some(Locks::Cache {
                building: &building,
                entry: match base {
                    Some(base) if !learning.is_recorded => base,
                    _ => program,
                },
            }),
            None => match auto::obstacle(auto) {
                Some(obstacle) => {
                    auto::complain(auto, &obstacle);
                    None
                }
                None => Some(Locks::Directory(&building)),
            },
        };
        self.recorder.begin(locks, || self.beginning(auto));
    }

    /// How this process was started, and how its archive is renewed.
    fn beginning(&self, auto: &Auto) -> Option<Beginning> {
        let executable = self.config.executable()?;
        let is_recorded = self.learning().is_recorded;
        let own = is_recorded.then(|| self.without_image(auto).unwrap_or(auto.target.clone()));
        let base = self.without_base(auto);
        let of_base = base.as_ref().map(|(archive, _)| PathBuf::from(archive));
        Some(Beginning {
            renewal: Renewal {
                command: auto::command(&self.config, executable, &own.or(of_base)?),
                environment: background::environment(),
                log: background::log(),
            },
            start: Start {
                subject: is_recorded.then(|| subject(auto)).flatten(),
                wants_image: is_recorded && auto.has_image,
                is_in_cache: auto.entries.is_some(),
                base,
            },
            lines: self.trace.lines(),
        })
    }

    /// The destination of the statistics, if they are wanted.
    pub fn stats_target(&self) -> Option<&StatsTarget> {
        match self.restored.get() {
            Some(restored) => restored.stats.as_ref(),
            None => self.options.stats.as_ref(),
        }
    }

    /// Records that the process was restored.
    pub fn resume(&self, restored: Restored) {
        self.stats.reset();
        if restored.auto.is_none() || !restored.learning.is_recorded {
            self.trace.stop();
        }
        // A process is restored only once.
        let _ = self.restored.set(restored);
    }

    /// The startup image from which the process was restored.
    pub fn startup_image(&self) -> Option<&Path> {
        self.restored.get().map(|restored| restored.image.as_path())
    }

    /// Adds a module whose code is requested to the trace list, if one is written. A frozen module has no file.
    pub fn trace(&self, name: &Object, file: Option<&str>) -> object::Result<()> {
        if self.trace.is_wanted() {
            // importlib adds a module to `sys.modules` before it requests the code. Code that is only run, as with
            // `-m`, has no module.
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

    /// The lines of the trace list in memory, if this process keeps one.
    pub fn loaded_lines(&self) -> Vec<String> {
        self.trace.lines()
    }

    fn note_line(&self, line: Option<String>) {
        if let Some(line) = line {
            self.recorder.add(&Event::Line(line));
        }
    }

    /// The directories of the standard library and of site-packages.
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
