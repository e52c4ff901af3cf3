//! Taking an image: an interpreter that has done its imports, or has run a program for a while, forks, and its parent writes the
//! memory of the child, which is stopped, to a file.
//!
//! It is the child that is written because a fork is what libraries are prepared for: their handlers stop threads that
//! could not be restored (pthread_atfork(3)).

use std::io::{self, Error};
use std::mem::ManuallyDrop;
use std::path::{Path, PathBuf};

use startup_image::format::{BackingFile, Image, PrefaultRange};
use startup_image::signals::ignored_signals;

use super::dry_run::{self, DryRun, Unheard};
use super::failure::Failure;
use super::fork::{fork, left_behind};
use super::frozen_process;
use super::memory_dump::{Dumped, Memory, MemoryDump};
use super::memory_flags;
use super::memory_map;
use super::observed::Observed;
use super::postponed;
use super::process_attributes::ProcessAttributes;
use super::program::{self, Chosen};
use super::threads;
use super::writer::Writer;
use crate::cpython::bindings::PyObject;
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

/// As often as it takes until instructions are specialized (CPython, Include/internal/pycore_backoff.h), and once more.
const ROUNDS: usize = 4;

/// What this process is when the image is taken, or when there cannot be one.
enum Role {
    /// The one that takes it, and ends with this status.
    Parent(i32),
    /// The one that tries what a restored process does, and ends soon.
    DryRun,
    Restored,
    /// The one that runs the program, and goes on.
    Program,
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

fn outcome(result: Result<Role, Failure>, request: &Path) -> Option<i32> {
    match result {
        Ok(Role::Parent(status)) => Some(status),
        Ok(Role::DryRun | Role::Restored | Role::Program) => None,
        Err(failure) => {
            failure.tell(request);
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
    let kernel = ProcessAttributes::of_this_process();
    let module = Object::import(c"cds.image.taking")?;
    let path = Object::str(&request.to_string_lossy())?;
    let preparation = module.attribute(c"prepare")?.call(vec![path])?;
    drop(module);
    postponed::begin();
    let early = Object::import(c"cds.image.arguments")?.attribute(c"end_early")?;
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
fn fork_candidate(runtime: &Runtime, imported: Option<*mut PyObject>) -> Result<Role, Failure> {
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

/// Takes the image of this process. `left` names what it cannot have.
fn freeze(
    runtime: &Runtime,
    preparation: Object,
    left: Vec<String>,
    imported: Option<*mut PyObject>,
) -> Result<Role, Failure> {
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
            // It is taken anew, by another process.
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
            "signal {} is ignored here (nohup, &), and would be in each restored process",
            ignored.trailing_zeros() + 1
        )));
    }
    let observed = Observed::new(runtime, &observation)?;
    let path = PathBuf::from(observation.attribute(c"image")?.to_str()?);
    drop((preparation, looks, keep_environment, started));
    drop((observation, problem));
    if !is_of_program {
        // What is garbage is not to be immortal. A program may see when its own is collected.
        Ending::collect();
    }
    // A restored process returns from here, too, and freeing this would cost it a page for each.
    let (observed, path) = (ManuallyDrop::new(observed), ManuallyDrop::new(path));
    drop(AuditHooks::set_aside());
    let freeze = own::module(c"gc")?.attribute(c"freeze")?;
    let stack = NativeStack::of_this_thread().map_err(|error| {
        Failure::Reason(format!(
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
        return Ok(Role::DryRun);
    };
    Graph::record()?;
    let Some(child) = fork()? else {
        drop(lasting_blocks);
        // SAFETY: this is the only thread of a process that was just forked, with the GIL; and later of a restored one.
        unsafe {
            frozen_process::freeze();
            resume::resume()?;
        }
        // Not in a dry run: what that looks at is noted.
        postponed::finish()?;
        at_fork.put_back();
        own::module(c"cds.image.hooks")?
            .attribute(c"run_after_restore")?
            .call(Vec::new())?;
        return Ok(Role::Restored);
    };
    let result = write(&path, child, &observed, &prefault, &lasting_blocks);
    // SAFETY: it is our child, and stopped.
    unsafe {
        libc::kill(child, libc::SIGKILL);
        libc::waitpid(child, std::ptr::null_mut(), 0);
    }
    result.map_err(|error| Failure::Reason(format!("cannot write {}: {error}", path.display())))?;
    Ok(Role::Parent(0))
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
    let memory = memory_flags::what_is_left_in_memory()
        .map_err(|error| Failure::Reason(format!("cannot read /proc/self/smaps: {error}")))?;
    Ok(memory.iter().map(|memory| left_behind(memory)).collect())
}

/// Has a forked process do a dry run; returns the pages that it has written to, and none in that process.
fn do_dry_run() -> Result<Option<Vec<PrefaultRange>>, Failure> {
    let (reader, report) = std::io::pipe().map_err(|error| Failure::Reason(error.to_string()))?;
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
    pages.map(Some).map_err(Failure::Reason)
}

/// Writes the memory of the child, once it has stopped.
fn write(
    path: &Path,
    child: i32,
    observed: &Observed,
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
        key: observed.key(),
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
