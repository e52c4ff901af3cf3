//! Taking an image: an interpreter that has done its imports, or has run a program for a while, forks, and its parent writes the
//! memory of the child, which is stopped, to a file.
//!
//! It is the child that is written because a fork is what libraries are prepared for: their handlers stop threads that
//! could not be restored (pthread_atfork(3)).

use std::io::{self, Error};
use std::mem::ManuallyDrop;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use startup_image::command_line::CommandLine;
use startup_image::facts::Fact;
use startup_image::format::{BackingFile, Image, PrefaultRange, Process, Vdso};
use startup_image::kernel_state::ignored_signals;
use startup_image::key::{self, Key, Machine, Stamp};
use startup_image::searched::{self, Searched};
use startup_image::streams::Terminal;
use startup_image::trampoline::{self, Context};

use super::dry_run::{self, DryRun, Unheard};
use super::failure::Failure;
use super::fork::{fork, left_behind};
use super::loaded;
use super::looks;
use super::memory_dump::{Dumped, Memory, MemoryDump};
use super::memory_flags;
use super::memory_map::{self, Mapping};
use super::postponed;
use super::process_attributes::ProcessAttributes;
use super::program::{self, Chosen};
use super::program_name;
use super::renewal;
use super::resume::{self, RESTORED};
use super::threads::{self, thread_pointer};
use super::variables::{self, Compared, Variable};
use super::writer::Writer;
use crate::cpython::bindings::PyObject;
use crate::cpython::ending::Ending;
use crate::cpython::graph::Graph;
use crate::cpython::image::{self, AtForkHandlers, AuditHooks, Collections};
use crate::cpython::module_suffixes;
use crate::cpython::mortality;
use crate::cpython::native_stack::NativeStack;
use crate::cpython::object::{Object, Raised};
use crate::cpython::own;
use crate::files::sealed::Unnamed;
use crate::runtime::{self, Runtime};

/// As often as it takes until instructions are specialized (CPython, Include/internal/pycore_backoff.h), and once more.
const ROUNDS: usize = 4;

/// Where the child's registers are, for those that are restored.
static mut CONTEXT: Context = Context::EMPTY;

static IS_IMMORTAL: AtomicBool = AtomicBool::new(false);

/// Whether the objects of this process were made immortal, for an image to be taken of it.
pub fn is_immortal() -> bool {
    IS_IMMORTAL.load(Ordering::Relaxed)
}

/// Takes an image if the process was started for that; returns its exit status then. In a process restored from it, the
/// call returns none; and in one that runs a program until an image can be taken of it.
pub fn take() -> Option<i32> {
    let runtime = runtime::current()?;
    let request = runtime.options.image.clone()?;
    outcome(begin(runtime, &request), &request)
}

/// Forks a candidate for the image of a program, if this process runs one for that. In one that is chosen, the image is taken; in
/// the process restored from that, the call returns.
///
/// C code holds the module meanwhile.
pub fn module_imported(module: *mut PyObject) {
    let asked = program::request().filter(|_| program::is_running());
    if let Some((runtime, request)) = runtime::current().zip(asked)
        && let Some(status) = outcome(fork_candidate(runtime, Some(module)), request)
    {
        // SAFETY: ends the process, which is not the program but what was forked to become its image.
        unsafe { libc::_exit(status) };
    }
}

fn outcome(result: Result<Option<i32>, Failure>, request: &Path) -> Option<i32> {
    result.unwrap_or_else(|failure| {
        failure.tell(request);
        Some(1)
    })
}

fn begin(runtime: &Runtime, request: &Path) -> Result<Option<i32>, Failure> {
    threads::watch_forks();
    program_name::begin();
    if let Some(text) = what_prints_or_traces(runtime) {
        return Err(text.into());
    }
    let kernel = ProcessAttributes::of_this_process();
    let module = Object::import(c"cds.taking")?;
    let path = Object::str(&request.to_string_lossy())?;
    let preparation = module.attribute(c"prepare")?.call(vec![path])?;
    drop(module);
    postponed::begin();
    let early = Object::import(c"cds.arguments")?.attribute(c"end_early")?;
    looks::end_watch(&early.call(Vec::new())?)?;
    looks::watch(&preparation.attribute(c"looks")?)?;
    if preparation.attribute(c"is_of_program")?.is_true() {
        program::begin(&preparation, request, kernel)?;
        drop(preparation);
        return fork_candidate(runtime, None);
    }
    preparation.attribute(c"do_imports")?.call(Vec::new())?;
    let left = left_by_imports(&kernel)?;
    freeze(runtime, preparation, left, None)
}

/// `imported` is the module that the program has just imported; none before it has begun.
fn fork_candidate(
    runtime: &Runtime,
    imported: Option<*mut PyObject>,
) -> Result<Option<i32>, Failure> {
    let Some(Chosen {
        preparation,
        audit_hooks,
    }) = program::fork_candidate(imported)?
    else {
        return Ok(None);
    };
    preparation.attribute(c"end_program")?.call(Vec::new())?;
    let left = left_in_memory()?;
    let frozen = freeze(runtime, preparation, left, imported);
    if let Ok(None) = frozen
        && let Some(hooks) = audit_hooks
    {
        hooks.put_back();
    }
    frozen
}

/// Takes the image of this process. `left` names what it cannot have.
fn freeze(
    runtime: &Runtime,
    preparation: Object,
    left: Vec<String>,
    imported: Option<*mut PyObject>,
) -> Result<Option<i32>, Failure> {
    postponed::end();
    let looks = preparation.attribute(c"looks")?;
    looks::end_watch(&looks)?;
    let collections = Collections::now();
    let keep_environment = preparation.attribute(c"keep_environment")?;
    let started = keep_environment.call(vec![variables::of_c()?])?;
    let at_fork = preparation.attribute(c"called_at_forks")?;
    // A restored process returns from here, too, and freeing this would cost it a page.
    let at_fork = ManuallyDrop::new(AtForkHandlers::set_aside(&at_fork)?);
    let is_of_program = preparation.attribute(c"is_of_program")?.is_true();
    // Nothing of the preparation is left when the image is taken: at its end, a process would take that for what C code holds.
    let is_restorable = || {
        let is_restorable = preparation.attribute(c"is_restorable")?;
        Ok::<_, Raised>(is_restorable.call(Vec::new())?.is_true())
    };
    if left.is_empty() && is_restorable()? {
        // What another process has survived, this one may do, too. What it looks at is noted.
        if do_dry_run()?.is_none() {
            return Ok(None);
        }
        for _ in 0..ROUNDS {
            if is_restorable()? {
                // SAFETY: there are no other threads, and the GIL is held.
                unsafe { resume::warm_up(&started)? };
            }
        }
    }
    let observation = preparation.attribute(c"conclude")?.call(Vec::new())?;
    variables::end_watch()?;
    let mut problems = left;
    let problem = observation.attribute(c"problem")?;
    if !problem.is_none() {
        let problem = problem.to_str()?;
        if problem.is_empty() {
            // It is taken anew, by another process.
            return Ok(Some(1));
        }
        problems.insert(0, problem.to_owned());
    }
    if !problems.is_empty() {
        return Err(Failure::Told(problems.join("; ")));
    }
    let ignored = ignored_signals().unwrap_or_default();
    if ignored != 0 {
        return Err(Failure::Told(format!(
            "signal {} is ignored here (nohup, &), and would be in each restored process",
            ignored.trailing_zeros() + 1
        )));
    }
    let looked_at = LookedAt::new(runtime, &observation)?;
    let path = PathBuf::from(observation.attribute(c"image")?.to_str()?);
    drop((preparation, looks, keep_environment, started));
    drop((observation, problem));
    if !is_of_program {
        // What is garbage is not to be immortal. A program may see when its own is collected.
        Ending::collect();
    }
    // A restored process returns from here, too, and freeing this would cost it a page for each.
    let (looked_at, path) = (ManuallyDrop::new(looked_at), ManuallyDrop::new(path));
    drop(AuditHooks::set_aside());
    let freeze = own::module(c"gc")?.attribute(c"freeze")?;
    IS_IMMORTAL.store(true, Ordering::Relaxed);
    let stack = NativeStack::of_this_thread().map_err(|error| {
        Failure::Told(format!(
            "cannot find out where the stack of this thread ends: {error}"
        ))
    })?;
    let freeze = || freeze.call(Vec::new()).map(drop);
    let lasting_blocks = mortality::immortalize(imported, &stack, freeze)?;
    drop(stack);
    image::use_up_free_memory();
    // SAFETY: gives back what nobody uses.
    unsafe { libc::malloc_trim(0) };
    collections.restore();
    let Some(prefault) = do_dry_run()? else {
        return Ok(None);
    };
    Graph::record()?;
    let Some(child) = fork()? else {
        drop(lasting_blocks);
        // SAFETY: this is the only thread of a process that was just forked, with the GIL; and later of a restored one.
        unsafe {
            trampoline::freeze(&raw mut CONTEXT);
            resume::resume()?;
        }
        // Not in a dry run: what that looks at is noted.
        postponed::finish()?;
        at_fork.put_back();
        own::module(c"cds.hooks")?
            .attribute(c"run_after_restore")?
            .call(Vec::new())?;
        return Ok(None);
    };
    let result = write(&path, child, &looked_at, &prefault, &lasting_blocks);
    // SAFETY: it is our child, and stopped.
    unsafe {
        libc::kill(child, libc::SIGKILL);
        libc::waitpid(child, std::ptr::null_mut(), 0);
    }
    result.map_err(|error| Failure::Told(format!("cannot write {}: {error}", path.display())))?;
    Ok(Some(0))
}

/// What this interpreter was started with that each start would have to do anew, import by import.
fn what_prints_or_traces(runtime: &Runtime) -> Option<&'static str> {
    if image::traces_memory() {
        return Some("tracemalloc is on (-X tracemalloc, PYTHONTRACEMALLOC)");
    }
    if runtime.config.prints_import_time() {
        return Some("the times of imports are printed (-X importtime, PYTHONPROFILEIMPORTTIME)");
    }
    if runtime.config.verbosity() > 0 {
        return Some("imports are printed (-v, PYTHONVERBOSE)");
    }
    image::has_audit_hooks()
        .then_some("the interpreter has an audit hook (of sitecustomize or a .pth file)")
}

/// Names what imports have left in the process, and Python does not know.
fn left_by_imports(before: &ProcessAttributes) -> Result<Vec<String>, Failure> {
    let now = ProcessAttributes::of_this_process();
    let changed: Vec<&str> = now.changed_since(before).collect();
    let mut left = Vec::new();
    if !changed.is_empty() {
        left.push(format!(
            "imports have changed what each process has of its own: {}",
            changed.join(", ")
        ));
    }
    if !postponed::is_as_before() {
        left.push("imports have loaded readline, and then changed what it depends on: LC_CTYPE, or the handler of SIGWINCH".to_owned());
    }
    if program::has_exceeded_recursion() {
        left.push("imports have exceeded the limit of recursion, which comes earlier while an image is taken".to_owned());
    }
    left.extend(left_in_memory()?);
    Ok(left)
}

fn left_in_memory() -> Result<Vec<String>, Failure> {
    let memory = memory_flags::told_of_memory()
        .map_err(|error| Failure::Told(format!("cannot read /proc/self/smaps: {error}")))?;
    Ok(memory.iter().map(|memory| left_behind(memory)).collect())
}

/// Has a forked process do a dry run; returns the pages that it has written to, and none in that process.
fn do_dry_run() -> Result<Option<Vec<PrefaultRange>>, Failure> {
    let (reader, report) = std::io::pipe().map_err(|error| Failure::Told(error.to_string()))?;
    let unheard = Unheard::begin();
    let Some(child) = fork()? else {
        drop((reader, unheard));
        // SAFETY: this is the only thread of a process that was just forked, with the GIL.
        if let Err(raised) = unsafe { dry_run::begin(report) } {
            raised.report();
            // The interpreter cannot end in the ordinary way before the fork is done with.
            // SAFETY: ends the process.
            unsafe { libc::_exit(1) };
        }
        if program::request().is_some() {
            // The program must not go on; the interpreter ends here.
            // SAFETY: this is the main thread, with the GIL; it does not come back.
            unsafe { dry_run::end_here() };
        }
        return Ok(None);
    };
    drop(report);
    let pages = DryRun::new(child, reader).result();
    pages.map(Some).map_err(Failure::Told)
}

/// What the imports looked at, and what the process was started with.
struct LookedAt {
    build_id: String,
    executable: Vec<u8>,
    options: Vec<Vec<u8>>,
    program: Option<Program>,
    environment: Vec<Compared>,
    whole_environment: Option<Vec<Variable>>,
    user_site: Option<UserSite>,
    paths: Vec<(Vec<u8>, Stamp)>,
    searched: Vec<SearchedDirectory>,
    terminals: Vec<Terminal>,
    counts_signals: bool,
    directory: Option<Vec<u8>>,
    facts: Vec<(Fact, Vec<u8>)>,
    has_safe_path: bool,
    names: Vec<String>,
    reported: Vec<String>,
    modules: Vec<u8>,
    machine: Machine,
}

/// A directory, and what was searched for there.
struct SearchedDirectory {
    path: Vec<u8>,
    names: Vec<u8>,
    state: searched::State,
}

impl SearchedDirectory {
    fn now(path: &[u8], names: &[u8]) -> Result<Self, Failure> {
        let state = searched::State::now(path, names, module_suffixes()).ok_or_else(|| {
            Failure::Told(format!("cannot list {}", String::from_utf8_lossy(path)))
        })?;
        Ok(Self {
            path: path.to_vec(),
            names: names.to_vec(),
            state,
        })
    }
}

/// The only program that an image is of.
struct Program {
    identity: Vec<u8>,
    argument_count: Option<u64>,
    arguments: Option<Vec<Vec<u8>>>,
    is_for_any_arguments: bool,
}

/// What counts of HOME, if only `site` knows of it.
struct UserSite {
    missing: Option<Vec<u8>>,
}

fn program_identity(line: &CommandLine) -> Result<Vec<u8>, Failure> {
    // It may have been removed; then no relative path leads to a program.
    let here = std::env::current_dir().unwrap_or_default();
    let identity = line.program.identity(here.as_os_str().as_bytes());
    identity.ok_or_else(|| Failure::from("a program that is read from standard input has no image"))
}

impl LookedAt {
    /// `observation` is a `cds.preparing.Observation`.
    fn new(runtime: &Runtime, observation: &Object) -> Result<Self, Failure> {
        let own = std::fs::read("/proc/self/cmdline")
            .map_err(|_| Failure::from("cannot read /proc/self/cmdline"))?;
        let arguments: Vec<&[u8]> = own
            .strip_suffix(b"\0")
            .unwrap_or(&own)
            .split(|&byte| byte == 0)
            .collect();
        let line = CommandLine::parse(&arguments)
            .ok_or_else(|| Failure::from("these options do not go with an image"))?;
        let items = |name| observation.attribute(name)?.to_items();
        let is_true = |name| Ok::<_, Raised>(observation.attribute(name)?.is_true());
        let environment = observation.attribute(c"environment")?;
        let (environment, whole_environment) = variables::looked_at(&environment)?;
        let mut files = Vec::new();
        for item in items(c"paths")? {
            let fields = item.to_items()?;
            let [path, kind, mtime_ns, ctime_ns, inode, size] = fields.as_slice() else {
                return Err("the package cds is another one".into());
            };
            let ctime_ns = ctime_ns.to_i64()?;
            let stamp = match kind.to_str()? {
                "contents" => Stamp::Contents {
                    mtime_ns: mtime_ns.to_i64()?,
                    ctime_ns,
                    inode: inode.to_i64()?.cast_unsigned(),
                    size: size.to_i64()? as u64,
                },
                "directory" => Stamp::Directory,
                "status" => Stamp::Status {
                    ctime_ns,
                    inode: inode.to_i64()?.cast_unsigned(),
                },
                "link" => Stamp::Link { ctime_ns },
                _ => Stamp::Missing,
            };
            files.push((path.to_bytes()?.to_vec(), stamp));
        }
        let mut searched = Vec::new();
        let directories = observation.attribute(c"searched")?;
        for item in directories
            .attribute(c"items")?
            .call(Vec::new())?
            .to_items()?
        {
            let fields = item.to_items()?;
            let [path, names] = fields.as_slice() else {
                return Err("the package cds is another one".into());
            };
            searched.push(SearchedDirectory::now(path.to_bytes()?, names.to_bytes()?)?);
        }
        let texts = |name| -> Result<Vec<String>, Raised> {
            let texts = items(name)?.into_iter();
            texts.map(|text| Ok(text.to_str()?.to_owned())).collect()
        };
        let here = is_true(c"counts_directory")?.then(std::env::current_dir);
        let here = here
            .transpose()
            .map_err(|_| Failure::from("there is no working directory"))?;
        let here = here.map(|path| path.into_os_string().into_vec());
        let mut asked = Vec::new();
        for item in items(c"terminals")? {
            let fields = item.to_items()?;
            let [number, with_modes, with_size] = fields.as_slice() else {
                return Err("the package cds is another one".into());
            };
            let number = number.to_i64()? as u8;
            asked.push(Terminal::of(
                number,
                with_modes.is_true(),
                with_size.is_true(),
            ));
        }
        let own = arguments.get(line.rest..).unwrap_or_default();
        let program = match is_true(c"is_of_program")? {
            false => None,
            true => Some(Program {
                identity: program_identity(&line)?,
                argument_count: is_true(c"counts_arguments")?.then_some(own.len() as u64),
                arguments: is_true(c"compares_arguments")?
                    .then(|| own.iter().map(|argument| argument.to_vec()).collect()),
                is_for_any_arguments: is_true(c"is_for_any_arguments")?,
            }),
        };
        let facts_asked = texts(c"facts")?;
        let facts = Fact::ALL.into_iter();
        let facts = facts.filter(|fact| facts_asked.iter().any(|name| name == fact.name()));
        let user_site = if is_true(c"renews_user_site")? {
            let missing = observation.attribute(c"missing_user_site")?;
            let is_looked_for = !missing.is_none();
            Some(UserSite {
                missing: is_looked_for
                    .then(|| missing.to_bytes())
                    .transpose()?
                    .map(<[u8]>::to_vec),
            })
        } else {
            None
        };
        Ok(Self {
            build_id: runtime.executable.build_id().unwrap_or_default().to_owned(),
            executable: runtime.config.executable().unwrap_or_default().into_bytes(),
            options: line.options,
            program,
            environment,
            whole_environment,
            user_site,
            paths: files,
            searched,
            terminals: asked,
            counts_signals: is_true(c"counts_signals")?,
            directory: here,
            facts: facts.map(|fact| (fact, fact.now())).collect(),
            has_safe_path: runtime.config.has_safe_path(),
            names: texts(c"names")?,
            reported: texts(c"reported")?,
            modules: loaded::plain_modules()?,
            machine: machine(is_true(c"counts_processors")?)
                .map_err(|_| Failure::from("cannot read /proc/self/auxv"))?,
        })
    }

    fn key(&self) -> Key<'_> {
        let environment = self.environment.iter();
        let paths = self.paths.iter();
        let facts = self.facts.iter();
        Key {
            build_id: &self.build_id,
            executable: &self.executable,
            options: self.options.iter().map(Vec::as_slice).collect(),
            program: self.program.as_ref().map(|program| key::Program {
                identity: &program.identity,
                argument_count: program.argument_count,
                arguments: program.arguments.as_ref().map(|arguments| {
                    let arguments = arguments.iter();
                    arguments.map(Vec::as_slice).collect()
                }),
                is_for_any_arguments: program.is_for_any_arguments,
            }),
            machine: self.machine.clone(),
            environment: environment
                .map(|(name, value)| (name.as_slice(), value.as_deref()))
                .collect(),
            whole_environment: self.whole_environment.as_ref().map(|variables| {
                let variables = variables.iter();
                variables
                    .map(|(name, value)| (name.as_slice(), value.as_slice()))
                    .collect()
            }),
            user_site: self.user_site.as_ref().map(|site| key::UserSite {
                missing: site.missing.as_deref(),
            }),
            paths: paths
                .map(|(path, stamp)| (path.as_slice(), *stamp))
                .collect(),
            searched: self
                .searched
                .iter()
                .map(|directory| Searched {
                    path: &directory.path,
                    names: &directory.names,
                    state: directory.state.clone(),
                })
                .collect(),
            terminals: self.terminals.clone(),
            counts_signals: self.counts_signals,
            directory: self.directory.as_deref(),
            facts: facts.map(|(fact, then)| (*fact, then.as_slice())).collect(),
            has_safe_path: self.has_safe_path,
            names: self.names.iter().map(String::as_str).collect(),
            modules: &self.modules,
            suffixes: module_suffixes().collect(),
        }
    }
}

/// As the launcher finds it: the C library's getauxval() has values of its own.
fn machine(counts_processors: bool) -> io::Result<Machine> {
    let vector = std::fs::read("/proc/self/auxv")?;
    let words: Vec<u64> = vector
        .chunks_exact(size_of::<u64>())
        .filter_map(|word| Some(u64::from_ne_bytes(word.try_into().ok()?)))
        .collect();
    let value = |kind| words.chunks_exact(2).find(|pair| pair[0] == kind);
    let machine = Machine::current(|kind| value(kind).map_or(0, |pair| pair[1]));
    Ok(if counts_processors {
        machine.with_processors()
    } else {
        machine
    })
}

/// Writes the memory of the child, once it has stopped.
fn write(
    path: &Path,
    child: i32,
    looked_at: &LookedAt,
    prefault: &[PrefaultRange],
    lasting_blocks: &[u64],
) -> io::Result<()> {
    const MODE: u32 = 0o600;
    let mut status = 0;
    // SAFETY: it is our child.
    if unsafe { libc::waitpid(child, &mut status, libc::WUNTRACED) } != child
        || !libc::WIFSTOPPED(status)
    {
        return Err(Error::other("the child did not freeze"));
    }
    threads::must_have_one(child)?;
    let mut unnamed = Unnamed::new(path, MODE)?;
    let memory = Memory::of(child)?;
    let mappings = memory_map::with_flags(&child.to_string())?;
    let mut dump = MemoryDump::new(&memory, Writer::new(unnamed.file())?, lasting_blocks);
    for mapping in &mappings {
        dump.add(mapping)?;
    }
    let prefault = dump.in_writable_files(prefault);
    let Dumped {
        writer,
        regions,
        fills,
        advice,
        files,
    } = dump.finish()?;
    let named = |name: &str| mappings.iter().find(|mapping| mapping.name == name);
    let vdso = named("[vdso]").ok_or_else(|| Error::other("there is no vdso"))?;
    let vdso = memory.read(vdso.start, vdso.end - vdso.start)?;
    let files = files.iter().map(|(path, identity)| BackingFile {
        path,
        identity: *identity,
    });
    let seal_ns = writer.finish(Image {
        key: looked_at.key(),
        reported: looked_at.reported.iter().map(String::as_str).collect(),
        short_lived: renewal::short_lived_before(path),
        process: process(child, &mappings, &memory, &vdso)?,
        prefault,
        regions,
        fills,
        advice,
        files: files.collect(),
        pages_hash: 0,
    })?;
    unnamed.name(seal_ns)
}

/// What the kernel knows of the child, most of which it has from its parent.
fn process<'a>(
    child: i32,
    mappings: &[Mapping],
    memory: &Memory,
    vdso_bytes: &'a [u8],
) -> io::Result<Process<'a>> {
    const PR_GET_TID_ADDRESS: i32 = 40;
    let missing = || Error::other("/proc/PID/stat is not understood");
    let stat = std::fs::read_to_string(format!("/proc/{child}/stat"))?;
    let fields: Vec<&str> = stat
        .rsplit(')')
        .next()
        .ok_or_else(missing)?
        .split_whitespace()
        .collect();
    // Fields are counted from 1, and the third is the first behind the name (proc(5)).
    let field = |number: usize| -> io::Result<u64> {
        fields
            .get(number - 3)
            .and_then(|field| field.parse().ok())
            .ok_or_else(missing)
    };
    let named = |name: &str| mappings.iter().find(|mapping| mapping.name == name);
    let start_heap = field(47)?;
    let vdso = named("[vdso]").ok_or_else(|| Error::other("there is no vdso"))?;
    let parts = mappings
        .iter()
        .filter(|mapping| mapping.name.starts_with("[vvar") || mapping.name == "[vdso]");
    let mut tid_address = 0_u64;
    let (mut head, mut length) = (0_u64, 0_u64);
    // SAFETY: all of these only ask.
    unsafe {
        if libc::prctl(PR_GET_TID_ADDRESS, &raw mut tid_address) != 0 {
            return Err(Error::other(
                "the kernel does not tell where threads have their ids (CONFIG_CHECKPOINT_RESTORE)",
            ));
        }
        libc::syscall(libc::SYS_get_robust_list, 0, &raw mut head, &raw mut length);
    }
    const SS_DISABLE: u64 = libc::SS_DISABLE as u64;
    let mut stack = [0, SS_DISABLE, 0];
    // SAFETY: asks for a `stack_t`, which has three words; forked processes have the same.
    unsafe { libc::syscall(libc::SYS_sigaltstack, 0, stack.as_mut_ptr()) };
    let signals = (1..=64_u64).filter_map(|signal| {
        let mut action = [0_u64; 4];
        // SAFETY: asks for the kernel's `struct sigaction`, which has four words.
        let result =
            unsafe { libc::syscall(libc::SYS_rt_sigaction, signal, 0, action.as_mut_ptr(), 8) };
        (result == 0 && action[..2] != [0, 0]).then_some((signal, action))
    });
    // The frozen thread's registers say how much of the stack it needs; all of it is kept.
    let context = memory.read(&raw const CONTEXT as u64, size_of::<Context>() as u64)?;
    if context.iter().all(|&byte| byte == 0) {
        return Err(Error::other("the child did not save its registers"));
    }
    Ok(Process {
        fs_base: thread_pointer(),
        tid_address,
        robust_list: (head, length),
        rseq: own_rseq(),
        code: (field(26)?, field(27)?),
        data: (field(45)?, field(46)?),
        heap: (
            start_heap,
            named("[heap]").map_or(start_heap, |heap| heap.end),
        ),
        start_stack: field(28)?,
        auxiliary: auxiliary(memory, field(28)?)?,
        vdso: Vdso {
            address: vdso.start,
            bytes: vdso_bytes,
            parts: parts
                .map(|part| {
                    (
                        part.start.wrapping_sub(vdso.start) as i64,
                        part.end - part.start,
                    )
                })
                .collect(),
        },
        alternate_stack: (stack[1] & SS_DISABLE == 0).then(|| Box::new(stack)),
        signals: signals.collect(),
        context: &raw const CONTEXT as u64,
        restored: &raw const RESTORED as u64,
    })
}

/// Kinds and places of the values of the auxiliary vector, which lies on the stack of a process behind its arguments and its
/// environment.
fn auxiliary(memory: &Memory, start_stack: u64) -> io::Result<Vec<(u64, u64)>> {
    const WORD: u64 = size_of::<u64>() as u64;
    let word = |place: u64| -> io::Result<u64> {
        let bytes = memory.read(place, WORD)?;
        Ok(bytes.try_into().map_or(0, u64::from_ne_bytes))
    };
    let mut place = start_stack + (word(start_stack)? + 2) * WORD;
    while word(place)? != 0 {
        place += WORD;
    }
    let mut values = Vec::new();
    loop {
        place += WORD;
        match word(place)? {
            libc::AT_NULL => return Ok(values),
            kind => values.push((kind, place + WORD)),
        }
        place += WORD;
    }
}

/// Where the C library registered its restartable sequences (`__rseq_offset`, glibc 2.35), if the kernel let it.
fn own_rseq() -> Option<u64> {
    // SAFETY: the symbols are constants of the C library; the area is a part of the thread's control block, and its
    // second word says whether it is registered (linux/rseq.h).
    unsafe {
        let offset = libc::dlsym(libc::RTLD_DEFAULT, c"__rseq_offset".as_ptr()).cast::<isize>();
        let size = libc::dlsym(libc::RTLD_DEFAULT, c"__rseq_size".as_ptr()).cast::<u32>();
        if offset.is_null() || size.is_null() || *size == 0 {
            return None;
        }
        let area = thread_pointer().wrapping_add_signed(*offset as i64);
        let processor = (area as *const i32).add(1).read_volatile();
        (processor >= 0).then_some(area)
    }
}
