//! Takes an image. An interpreter has done its imports, or has run a program for a while. It forks, and the child
//! stops. The parent writes the memory of the child to a file.
//!
//! The image is taken of a forked child because libraries are prepared for a fork: their handlers stop threads that
//! could not be restored (pthread_atfork(3)).

use std::io::{self, Error};
use std::mem::ManuallyDrop;
use std::path::{Path, PathBuf};

use startup_image::format::{BackingFile, Image, PrefaultRange};
use startup_image::signals::ignored_signals;

use super::dry_run::{self, DefaultAtChild, DryRun};
use super::failure::Failure;
use super::fork::{fork, left_behind};
use super::frozen_process;
use super::memory_dump::{Dumped, Memory, MemoryDump};
use super::memory_flags;
use super::memory_map;
use super::observed::Observed;
use super::postponed;
use super::process_attributes::{changed_attributes, note_attributes};
use super::program::{self, Chosen};
use super::threads;
use super::writer::Writer;
use crate::cpython::ending::Ending;
use crate::cpython::graph::Graph;
use crate::cpython::image::{self, AtForkHandlers, AuditHooks, Collections};
use crate::cpython::mortality;
use crate::cpython::native_stack::NativeStack;
use crate::cpython::object::{Object, Raised};
use crate::cpython::own;
use crate::files::sealed::Unnamed;
use crate::image::file::renewal;
use crate::image::observation::looks;
use crate::image::restored::{program_name, resume, variables};
use crate::runtime::{self, Runtime};

const CHANGED_BY_SITE: &str =
    "sitecustomize or a .pth file has changed attributes of the process that no image keeps";

/// The number of warm-ups: one more than it takes until instructions are specialized (CPython,
/// Include/internal/pycore_backoff.h).
const ROUNDS: usize = 4;

/// The role of this process after the attempt to take an image.
enum Role {
    /// The process that takes the image. It ends with this status.
    Parent(i32),
    /// The process that does a dry run, and ends soon.
    DryRun,
    Restored,
    /// The process that runs the program, and continues with it.
    Program,
}

/// Takes an image, if the process was started for this, and returns the exit status of the process. Returns none in a
/// dry run, in a restored process, and in a process that runs a program of which an image is to be taken.
pub fn take() -> Option<i32> {
    let runtime = runtime::current()?;
    let request = runtime.options.image.clone()?;
    outcome(begin(runtime, &request), &request)
}

/// Forks a candidate for the image of a program, if this process runs such a program. If the candidate is chosen, it
/// takes the image and ends. The call returns in the program and in restored processes.
pub fn module_imported(module: &Object) {
    let asked = program::request().filter(|_| program::is_running());
    if let Some((runtime, request)) = runtime::current().zip(asked)
        && let Some(status) = outcome(fork_candidate(runtime, Some(module)), request)
    {
        // SAFETY: the call takes a number. It ends a candidate, not the program.
        unsafe { libc::_exit(status) };
    }
}

fn outcome(result: Result<Role, Failure>, request: &Path) -> Option<i32> {
    match result {
        Ok(Role::Parent(status)) => Some(status),
        Ok(Role::DryRun | Role::Restored | Role::Program) => None,
        Err(failure) => {
            failure.report(request);
            Some(1)
        }
    }
}

fn begin(runtime: &Runtime, request: &Path) -> Result<Role, Failure> {
    threads::watch_forks();
    program_name::begin();
    if let Some(text) = what_prints_or_traces(runtime) {
        return Err(text.into());
    }
    note_attributes(request);
    let changed = changed_attributes(request);
    if !changed.is_empty() {
        return Err(Failure::Reason(format!(
            "{CHANGED_BY_SITE}: {}",
            changed.join(", ")
        )));
    }
    let module = Object::import(c"cds.image.taking")?;
    let path = Object::str(&request.to_string_lossy())?;
    let preparation = module.attribute(c"prepare")?.call(vec![path])?;
    drop(module);
    postponed::begin();
    let early = Object::import(c"cds.image.arguments")?.attribute(c"end_early")?;
    looks::end_watch(&early.call(Vec::new())?)?;
    looks::watch(&preparation.attribute(c"looks")?)?;
    if preparation.attribute(c"is_of_program")?.is_true() {
        program::begin(&preparation, request)?;
        drop(preparation);
        return fork_candidate(runtime, None);
    }
    preparation.attribute(c"do_imports")?.call(Vec::new())?;
    let left = left_by_imports(request)?;
    freeze(runtime, preparation, left, None)
}

/// `imported` is the module that the program has just imported; none before the program begins.
fn fork_candidate(runtime: &Runtime, imported: Option<&Object>) -> Result<Role, Failure> {
    let Some(Chosen {
        preparation,
        audit_hooks,
    }) = program::fork_candidate(imported)?
    else {
        return Ok(Role::Program);
    };
    preparation.attribute(c"end_program")?.call(Vec::new())?;
    let left = left_in_memory()?;
    let role = freeze(runtime, preparation, left, imported)?;
    if let (Role::DryRun | Role::Restored, Some(hooks)) = (&role, audit_hooks) {
        hooks.put_back();
    }
    Ok(role)
}

/// Takes the image of this process. `left` names what the process has and an image cannot have.
fn freeze(
    runtime: &Runtime,
    preparation: Object,
    left: Vec<String>,
    imported: Option<&Object>,
) -> Result<Role, Failure> {
    postponed::end();
    let looks = preparation.attribute(c"looks")?;
    looks::end_watch(&looks)?;
    let collections = Collections::now();
    let keep_environment = preparation.attribute(c"keep_environment")?;
    let started = keep_environment.call(vec![variables::of_c()?])?;
    let at_fork = preparation.attribute(c"called_at_forks")?;
    // Never freed: a restored process returns from this function, too, and would have to write to a page to free this.
    let at_fork = ManuallyDrop::new(AtForkHandlers::set_aside(&at_fork)?);
    let is_of_program = preparation.attribute(c"is_of_program")?.is_true();
    // The preparation is freed before the image is taken. Otherwise a process would find its objects at its end, and
    // treat them as objects that C code holds.
    let is_restorable = || {
        let is_restorable = preparation.attribute(c"is_restorable")?;
        Ok::<_, Raised>(is_restorable.call(Vec::new())?.is_true())
    };
    if left.is_empty() && is_restorable()? {
        // The warm-up does in this process what a dry run has survived. What both look at is recorded.
        if do_dry_run()?.is_none() {
            return Ok(Role::DryRun);
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
            // Another process takes the image.
            return Ok(Role::Parent(1));
        }
        problems.insert(0, problem.to_owned());
    }
    if !problems.is_empty() {
        return Err(Failure::Reason(problems.join("; ")));
    }
    let ignored = ignored_signals().unwrap_or_default();
    if ignored != 0 {
        return Err(Failure::Reason(format!(
            "signal {} is ignored (nohup, &), and each restored process would ignore it, too",
            ignored.trailing_zeros() + 1
        )));
    }
    let observed = Observed::new(runtime, &observation)?;
    let path = PathBuf::from(observation.attribute(c"image")?.to_str()?);
    drop((preparation, looks, keep_environment, started));
    drop((observation, problem));
    if !is_of_program {
        // Garbage must not become immortal. In a program, nothing is collected, because the program could observe it.
        Ending::collect();
    }
    // Never freed, for the same reason as `at_fork`: each would cost a restored process a page.
    let (observed, path) = (ManuallyDrop::new(observed), ManuallyDrop::new(path));
    drop(AuditHooks::set_aside());
    let freeze = own::module(c"gc")?.attribute(c"freeze")?;
    let stack = NativeStack::of_this_thread().map_err(|error| {
        Failure::Reason(format!(
            "cannot determine where the stack of this thread ends: {error}"
        ))
    })?;
    let freeze = || freeze.call(Vec::new()).map(drop);
    let lasting_blocks = mortality::immortalize(imported, &stack, freeze)?;
    drop(stack);
    image::use_up_free_memory();
    // SAFETY: the call gives only unused memory of the heap back.
    unsafe { libc::malloc_trim(0) };
    collections.restore();
    let Some(prefault) = do_dry_run()? else {
        return Ok(Role::DryRun);
    };
    Graph::record()?;
    let Some(child) = fork()? else {
        drop(lasting_blocks);
        // SAFETY: this is the only thread of a process that was just forked, and later of a restored process. It holds
        // the GIL.
        unsafe {
            frozen_process::freeze();
            resume::resume()?;
        }
        // Not done in a dry run: the looks of the set-up would be recorded.
        postponed::finish()?;
        at_fork.put_back();
        own::module(c"cds.image.hooks")?
            .attribute(c"run_after_restore")?
            .call(Vec::new())?;
        return Ok(Role::Restored);
    };
    let observed = ManuallyDrop::into_inner(observed);
    let result = write(&path, child, observed, &prefault, &lasting_blocks);
    // SAFETY: `child` is a child of this process that has not been reaped, so its id is not reused.
    unsafe {
        libc::kill(child, libc::SIGKILL);
        libc::waitpid(child, std::ptr::null_mut(), 0);
    }
    result.map_err(|error| Failure::Reason(format!("cannot write {}: {error}", path.display())))?;
    Ok(Role::Parent(0))
}

/// Names an option or hook that takes effect at each import: restored processes, which do not import, would miss it.
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

/// Names what imports have left in the process and Python code cannot see.
fn left_by_imports(request: &Path) -> Result<Vec<String>, Failure> {
    let changed = changed_attributes(request);
    let mut left = Vec::new();
    if !changed.is_empty() {
        left.push(format!(
            "imports have changed attributes of the process that no image keeps: {}",
            changed.join(", ")
        ));
    }
    if !postponed::is_as_before() {
        left.push("imports have loaded readline, and then changed LC_CTYPE or the handler of SIGWINCH, which readline uses".to_owned());
    }
    if program::has_exceeded_recursion() {
        left.push("imports have exceeded the recursion limit, which is reached earlier while an image is taken".to_owned());
    }
    left.extend(left_in_memory()?);
    Ok(left)
}

fn left_in_memory() -> Result<Vec<String>, Failure> {
    let memory = memory_flags::what_is_left_in_memory()
        .map_err(|error| Failure::Reason(format!("cannot read /proc/self/smaps: {error}")))?;
    Ok(memory.iter().map(|memory| left_behind(memory)).collect())
}

/// Forks a process that does a dry run. Returns the pages that the dry run has written to; none in the forked process.
fn do_dry_run() -> Result<Option<Vec<PrefaultRange>>, Failure> {
    let (reader, report) = std::io::pipe().map_err(|error| Failure::Reason(error.to_string()))?;
    let default_at_child = DefaultAtChild::begin();
    let Some(child) = fork()? else {
        drop((reader, default_at_child));
        // SAFETY: this is the only thread of a process that was just forked, with the GIL.
        if let Err(raised) = unsafe { dry_run::begin(report) } {
            raised.report();
            // The interpreter cannot end in the ordinary way before the steps after the fork are complete.
            // SAFETY: the call takes a number and ends the process.
            unsafe { libc::_exit(1) };
        }
        if program::request().is_some() {
            // The program must not continue, so the interpreter ends here.
            // SAFETY: this is the main thread of a dry run, with the GIL.
            unsafe { dry_run::end_here() };
        }
        return Ok(None);
    };
    drop(report);
    let pages = DryRun::new(child, reader).result();
    pages.map(Some).map_err(Failure::Reason)
}

/// Waits until the child has stopped, and writes the image.
fn write(
    path: &Path,
    child: i32,
    observed: Observed,
    prefault: &[PrefaultRange],
    lasting_blocks: &[u64],
) -> io::Result<()> {
    const MODE: u32 = 0o600;
    let mut status = 0;
    // SAFETY: the call writes only to `status`.
    if unsafe { libc::waitpid(child, &mut status, libc::WUNTRACED) } != child
        || !libc::WIFSTOPPED(status)
    {
        return Err(Error::other("the forked process did not stop"));
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
    let vdso = named("[vdso]").ok_or_else(|| Error::other("the process has no vdso"))?;
    let vdso = memory.read(vdso.start, vdso.end - vdso.start)?;
    let files = files.iter().map(|(path, identity)| BackingFile {
        path,
        identity: *identity,
    });
    let seal_ns = writer.finish(Image {
        key: observed.key,
        reported: observed.reported.iter().map(String::as_str).collect(),
        short_lived: renewal::short_lived_before(path),
        process: frozen_process::of(child, &mappings, &memory, &vdso)?,
        prefault,
        regions,
        fills,
        advice,
        files: files.collect(),
        pages_hash: 0,
    })?;
    unnamed.name(seal_ns)
}
