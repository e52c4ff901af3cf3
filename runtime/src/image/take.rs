//! Taking an image: an interpreter that has done its imports forks, and its parent writes the memory of the child, which
//! is stopped, to a file.
//!
//! It is the child that is written because a fork is what libraries are prepared for: their handlers stop threads that
//! could not be restored (pthread_atfork(3)).

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Error};
use std::mem::ManuallyDrop;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use cds_image::command_line::CommandLine;
use cds_image::format::{BackingFile, Fetch, FileIdentity, Image, Process, Region, Source, Vdso};
use cds_image::key::{self, Key, Machine, Stamp};
use cds_image::restore::ignored_signals;
use cds_image::streams::Terminal;
use cds_image::trampoline::{self, Context};
use cds_image::{PAGE, places};
use rustix::process::{Resource, getrlimit};

use super::memory_map::{self, Mapping, PageMap};
use super::rehearse::{self, Rehearsal};
use super::resume::{self, RESTORED};
use super::writer::Writer;
use crate::cpython::object::{Object, Raised};
use crate::cpython::{extension_suffixes, image, mortality};
use crate::runtime::{self, Runtime};
use crate::sealed::Unnamed;

/// Gaps that are shorter are filled, since each region costs a system call.
const SHORTEST_GAP: u64 = 64;
const DEFAULT_STACK: u64 = 8 << 20;
const LARGEST: u64 = 1 << 36;

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
/// call returns none.
pub fn take() -> Option<i32> {
    let runtime = runtime::current()?;
    let request = runtime.options.image.clone()?;
    match freeze(runtime, &request) {
        Ok(outcome) => outcome,
        Err(failure) => {
            match failure {
                Failure::Told(text) => runtime::complain(&format!("no startup image: {text}")),
                Failure::Raised(raised) => raised.report(),
            }
            Some(1)
        }
    }
}

/// Why there is no image.
enum Failure {
    Told(String),
    Raised(Raised),
}

impl From<Raised> for Failure {
    fn from(raised: Raised) -> Self {
        Self::Raised(raised)
    }
}

impl From<&str> for Failure {
    fn from(text: &str) -> Self {
        Self::Told(text.to_owned())
    }
}

fn freeze(runtime: &Runtime, request: &Path) -> Result<Option<i32>, Failure> {
    let preparing = Object::import(c"cds.preparing")?;
    let environment: BTreeMap<_, _> = std::env::vars_os()
        .map(|(name, value)| (name.into_vec(), value.into_vec()))
        .collect();
    let request = Object::str(&request.to_string_lossy())?;
    let preparation = preparing.attribute(c"Preparation")?.call(vec![request])?;
    let is_restorable = preparation.attribute(c"is_restorable")?;
    let is_restorable = || Ok::<_, Raised>(is_restorable.call(Vec::new())?.is_true());
    if is_restorable()? {
        // What another process has survived, this one may do, too. What it looks at is noted.
        if rehearsed()?.is_none() {
            return Ok(None);
        }
        for _ in 0..ROUNDS {
            if is_restorable()? {
                // SAFETY: there are no other threads, and the GIL is held.
                unsafe { resume::practise()? };
            }
        }
    }
    let prepared = preparation.attribute(c"conclude")?.call(Vec::new())?;
    let prepared = <[Object; 7]>::try_from(prepared.to_items()?);
    let Ok([path, read, paths, names, counts, terminals, problem]) = prepared else {
        return Err("the package cds is another one".into());
    };
    if !problem.is_none() {
        return Err(problem.to_str()?.into());
    }
    let ignored = ignored_signals();
    if ignored != 0 {
        return Err(Failure::Told(format!(
            "signal {} is ignored here (nohup, &), and would be in each restored process",
            ignored.trailing_zeros() + 1
        )));
    }
    let looked_at = LookedAt::new(
        runtime,
        environment,
        [&read, &paths, &names, &counts, &terminals],
    )?;
    let path = PathBuf::from(path.to_str()?);
    drop((preparing, preparation, read, paths, names));
    drop((counts, terminals, problem));
    // A restored process returns from here, too, and freeing this would cost it a page for each.
    let (looked_at, path) = (ManuallyDrop::new(looked_at), ManuallyDrop::new(path));
    image::forget_audit_hooks();
    let freeze = Object::import(c"gc")?.attribute(c"freeze")?;
    IS_IMMORTAL.store(true, Ordering::Relaxed);
    mortality::immortalize(|| freeze.call(Vec::new()).map(drop))?;
    image::use_up_free_memory();
    let Some(fetches) = rehearsed()? else {
        return Ok(None);
    };
    let Some(child) = fork()? else {
        // SAFETY: this is the only thread of a process that was just forked, with the GIL; and later of a restored one.
        unsafe {
            trampoline::freeze(&raw mut CONTEXT);
            resume::resume()?;
        }
        Object::import(c"cds.hooks")?
            .attribute(c"run_after_restore")?
            .call(Vec::new())?;
        return Ok(None);
    };
    let result = write(&path, child, &looked_at, &fetches);
    // SAFETY: it is our child, and stopped.
    unsafe {
        libc::kill(child, libc::SIGKILL);
        libc::waitpid(child, std::ptr::null_mut(), 0);
    }
    result.map_err(|error| Failure::Told(format!("cannot write {}: {error}", path.display())))?;
    Ok(Some(0))
}

/// Has a forked process rehearse; returns the pages that it has written to, and none in that process.
fn rehearsed() -> Result<Option<Vec<Fetch>>, Failure> {
    let (reader, report) = std::io::pipe().map_err(|error| Failure::Told(error.to_string()))?;
    let Some(child) = fork()? else {
        drop(reader);
        // SAFETY: this is the only thread of a process that was just forked, with the GIL.
        unsafe { rehearse::begin(report)? };
        return Ok(None);
    };
    drop(report);
    let pages = Rehearsal::new(child, reader).result();
    pages.map(Some).map_err(Failure::Told)
}

/// Forks, as os.fork() does; returns none in the child, which does not outlive its parent.
fn fork() -> Result<Option<i32>, Failure> {
    // SAFETY: the GIL is held, and each process does what it has to do after a fork. (Of the child it is told in
    // `resume()`.)
    let child = unsafe {
        image::before_fork();
        let child = libc::fork();
        if child == 0 {
            libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
            return Ok(None);
        }
        image::after_fork_in_parent();
        child
    };
    if child < 0 {
        let error = Error::last_os_error();
        return Err(Failure::Told(format!("cannot fork: {error}")));
    }
    Ok(Some(child))
}

/// What the imports looked at, and what the process was started with.
struct LookedAt {
    build_id: String,
    executable: Vec<u8>,
    options: Vec<Vec<u8>>,
    environment: Vec<(Vec<u8>, Option<Vec<u8>>)>,
    paths: Vec<(Vec<u8>, Stamp)>,
    terminals: Vec<Terminal>,
    directory: Option<Vec<u8>>,
    host: Option<Vec<u8>>,
    has_safe_path: bool,
    names: Vec<String>,
    machine: Machine,
}

impl LookedAt {
    fn new(
        runtime: &Runtime,
        environment: BTreeMap<Vec<u8>, Vec<u8>>,
        [read, paths, names, counts, terminals]: [&Object; 5],
    ) -> Result<Self, Failure> {
        let own = std::fs::read("/proc/self/cmdline")
            .map_err(|_| Failure::from("cannot read /proc/self/cmdline"))?;
        let arguments: Vec<&[u8]> = own
            .strip_suffix(b"\0")
            .unwrap_or(&own)
            .split(|&byte| byte == 0)
            .collect();
        let line = CommandLine::parse(&arguments)
            .ok_or_else(|| Failure::from("these options do not go with an image"))?;
        let mut recorded: Vec<(Vec<u8>, Option<Vec<u8>>)> = Vec::new();
        for name in read.to_items()? {
            let name = name.to_bytes()?.to_vec();
            let value = environment.get(&name).cloned();
            // What libraries might read must not be new anyway.
            if value.is_some() || !key::may_be_read(&name) {
                recorded.push((name, value));
            }
        }
        for (name, value) in environment {
            if key::may_be_read(&name) && !recorded.iter().any(|(known, _)| *known == name) {
                recorded.push((name, Some(value)));
            }
        }
        let mut files = Vec::new();
        for item in paths.to_items()? {
            let fields = item.to_items()?;
            let [path, kind, mtime_ns, size] = fields.as_slice() else {
                return Err("the package cds is another one".into());
            };
            let mtime_ns = mtime_ns.to_i64()?;
            let stamp = match kind.to_str()? {
                "contents" => Stamp::Contents {
                    mtime_ns,
                    size: size.to_i64()? as u64,
                },
                "directory" => Stamp::Directory,
                "link" => Stamp::Link { mtime_ns },
                _ => Stamp::Missing,
            };
            files.push((path.to_bytes()?.to_vec(), stamp));
        }
        let mut modules = Vec::new();
        for name in names.to_items()? {
            modules.push(name.to_str()?.to_owned());
        }
        modules.sort();
        let counts = counts.to_items()?;
        let [processors, directory, host] = counts.as_slice() else {
            return Err("the package cds is another one".into());
        };
        let here = directory.is_true().then(std::env::current_dir).transpose();
        let here = here.map_err(|_| Failure::from("there is no working directory"))?;
        let here = here.map(|path| path.into_os_string().into_vec());
        let mut asked = Vec::new();
        for item in terminals.to_items()? {
            let fields = item.to_items()?;
            let [number, with_size] = fields.as_slice() else {
                return Err("the package cds is another one".into());
            };
            asked.push(Terminal::of(number.to_i64()? as u8, with_size.is_true()));
        }
        Ok(Self {
            build_id: runtime.image.build_id().unwrap_or_default().to_owned(),
            executable: runtime.config.executable().unwrap_or_default().into_bytes(),
            options: line.options,
            environment: recorded,
            paths: files,
            terminals: asked,
            directory: here,
            host: host.is_true().then(key::host),
            has_safe_path: runtime.config.has_safe_path(),
            names: modules,
            machine: machine(processors.is_true())
                .map_err(|_| Failure::from("cannot read /proc/self/auxv"))?,
        })
    }

    fn key(&self) -> Key<'_> {
        let environment = self.environment.iter();
        let paths = self.paths.iter();
        Key {
            build_id: &self.build_id,
            executable: &self.executable,
            options: self.options.iter().map(Vec::as_slice).collect(),
            machine: self.machine.clone(),
            environment: environment
                .map(|(name, value)| (name.as_slice(), value.as_deref()))
                .collect(),
            paths: paths
                .map(|(path, stamp)| (path.as_slice(), *stamp))
                .collect(),
            terminals: self.terminals.clone(),
            directory: self.directory.as_deref(),
            host: self.host.as_deref(),
            has_safe_path: self.has_safe_path,
            names: self.names.iter().map(String::as_str).collect(),
            suffixes: extension_suffixes().chain([".py", ".pyc"]).collect(),
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
fn write(path: &Path, child: i32, looked_at: &LookedAt, fetches: &[Fetch]) -> io::Result<()> {
    const MODE: u32 = 0o600;
    let mut status = 0;
    // SAFETY: it is our child.
    if unsafe { libc::waitpid(child, &mut status, libc::WUNTRACED) } != child
        || !libc::WIFSTOPPED(status)
    {
        return Err(Error::other("the child did not freeze"));
    }
    let mut unnamed = Unnamed::new(path, MODE)?;
    let memory = Memory::of(child)?;
    let mut dump = Dump {
        memory: &memory,
        writer: Writer::new(unnamed.file())?,
        regions: Vec::new(),
        files: Vec::new(),
    };
    let mappings = memory_map::of_process(&child.to_string())?;
    for mapping in &mappings {
        dump.add(mapping)?;
    }
    let Dump {
        writer,
        regions,
        files,
        ..
    } = dump;
    let named = |name: &str| mappings.iter().find(|mapping| mapping.name == name);
    let vdso = named("[vdso]").ok_or_else(|| Error::other("there is no vdso"))?;
    let vdso = memory.read(vdso.start, vdso.end - vdso.start)?;
    let files = files.iter().map(|(path, identity)| BackingFile {
        path,
        identity: *identity,
    });
    let seal_ns = writer.finish(Image {
        key: looked_at.key(),
        process: process(child, &mappings, &memory, &vdso)?,
        fetches: in_regions(fetches, &regions),
        regions,
        files: files.collect(),
        pages_hash: 0,
    })?;
    unnamed.name(seal_ns)
}

/// The memory of a stopped process.
struct Memory {
    bytes: File,
    pages: PageMap,
}

impl Memory {
    fn of(pid: i32) -> io::Result<Self> {
        Ok(Self {
            bytes: File::open(format!("/proc/{pid}/mem"))?,
            pages: PageMap::of_process(&pid.to_string())?,
        })
    }

    fn read(&self, address: u64, bytes: u64) -> io::Result<Vec<u8>> {
        let mut contents = vec![0; bytes as usize];
        self.bytes.read_exact_at(&mut contents, address)?;
        Ok(contents)
    }
}

struct Dump<'a> {
    memory: &'a Memory,
    writer: Writer<'a>,
    regions: Vec<Region>,
    files: Vec<(Vec<u8>, FileIdentity)>,
}

impl Dump<'_> {
    fn add(&mut self, mapping: &Mapping) -> io::Result<()> {
        let Mapping {
            start,
            end,
            protection,
            name,
            ..
        } = mapping;
        let (start, end, protection) = (*start, *end, *protection);
        if start < places::ALL.end && end > places::ALL.start {
            return Err(Error::other("the address that restoring needs is taken"));
        }
        if name.starts_with("[vvar") || name == "[vdso]" || name == "[vsyscall]" {
            return Ok(());
        }
        if mapping.is_shared && protection & memory_map::WRITE != 0 {
            return Err(Error::other(format!(
                "memory is shared with other processes: {name}"
            )));
        }
        if name == "[stack]" {
            let limit = getrlimit(Resource::Stack).current.unwrap_or(DEFAULT_STACK);
            let bottom = (end - limit.next_multiple_of(PAGE)).min(start);
            if self
                .regions
                .last()
                .is_some_and(|last| last.address + last.bytes > bottom)
            {
                return Err(Error::other("there is no room for the stack"));
            }
            self.push(bottom, start - bottom, Source::Zero, protection);
        }
        if protection & memory_map::READ == 0 {
            self.push(start, end - start, Source::Zero, protection);
            return Ok(());
        }
        if end - start > LARGEST {
            return Err(Error::other(
                "a part of memory is too large (AddressSanitizer?)",
            ));
        }
        match self.backing(mapping)? {
            Some((index, file)) => self.add_backed(mapping, index, &file),
            None => self.add_pages(start, end, protection),
        }
    }

    /// The file behind a mapping, if it is still there.
    fn backing(&mut self, mapping: &Mapping) -> io::Result<Option<(u32, File)>> {
        if mapping.inode == 0 || !mapping.name.starts_with('/') {
            return Ok(None);
        }
        let path = Path::new(&mapping.name);
        let opened = File::open(path).and_then(|file| Ok((rustix::fs::fstat(&file)?, file)));
        let Ok((status, file)) = opened else {
            return Ok(None);
        };
        let identity = FileIdentity::of(&status);
        if identity.inode != mapping.inode {
            return Ok(None);
        }
        let known = self.files.iter().position(|(_, known)| *known == identity);
        let index = known.unwrap_or_else(|| {
            let path = path.as_os_str().as_bytes().to_vec();
            self.files.push((path, identity));
            self.files.len() - 1
        });
        Ok(Some((index as u32, file)))
    }

    /// Pages that are as in the file are not stored.
    fn add_backed(&mut self, mapping: &Mapping, index: u32, file: &File) -> io::Result<()> {
        let (start, end) = (mapping.start, mapping.end);
        let size = file.metadata()?.len();
        let contents = self.memory_or_nothing(mapping, size)?;
        let mut in_file = vec![0; contents.len()];
        let mut filled = 0;
        while filled < in_file.len() {
            match file.read_at(&mut in_file[filled..], mapping.offset + filled as u64)? {
                0 => break,
                bytes => filled += bytes,
            }
        }
        let pages = contents
            .chunks_exact(PAGE as usize)
            .zip(in_file.chunks_exact(PAGE as usize));
        if mapping.protection & memory_map::EXECUTE != 0 && pages.clone().any(has_breakpoint) {
            return Err(Error::other(format!(
                "{} has a breakpoint (a debugger's, or a uprobe)",
                mapping.name
            )));
        }
        let mut is_same: Vec<bool> = pages.map(|(here, there)| here == there).collect();
        fill_gaps(&mut is_same);
        for (from, to, same) in runs(&is_same) {
            let address = start + from * PAGE;
            let source = if same {
                Source::File(index, mapping.offset + from * PAGE)
            } else {
                Source::Image(
                    self.writer
                        .add(&contents[(from * PAGE) as usize..(to * PAGE) as usize])?,
                )
            };
            self.push(address, (to - from) * PAGE, source, mapping.protection);
        }
        // Behind the end of the file nothing can be read, nor stored.
        let stored = start + contents.len() as u64;
        if stored < end {
            self.push(
                stored,
                end - stored,
                Source::File(index, mapping.offset + contents.len() as u64),
                mapping.protection,
            );
        }
        Ok(())
    }

    fn memory_or_nothing(&self, mapping: &Mapping, file_bytes: u64) -> io::Result<Vec<u8>> {
        let in_file = file_bytes
            .next_multiple_of(PAGE)
            .saturating_sub(mapping.offset);
        self.memory
            .read(mapping.start, in_file.min(mapping.end - mapping.start))
    }

    /// Pages that were never touched, or are zero, are not stored.
    fn add_pages(&mut self, start: u64, end: u64, protection: u32) -> io::Result<()> {
        let flags = self.memory.pages.flags(start, end)?;
        let mut is_zero = Vec::with_capacity(flags.len());
        for (flags, address) in flags.iter().zip((start..).step_by(PAGE as usize)) {
            let is_blank = || -> io::Result<bool> {
                let page = self.memory.read(address, PAGE)?;
                Ok(page.iter().all(|&byte| byte == 0))
            };
            is_zero.push(!flags.is_touched() || is_blank()?);
        }
        fill_gaps(&mut is_zero);
        for (from, to, zero) in runs(&is_zero) {
            let (address, bytes) = (start + from * PAGE, (to - from) * PAGE);
            let source = if zero {
                Source::Zero
            } else {
                Source::Image(self.writer.add(&self.memory.read(address, bytes)?)?)
            };
            self.push(address, bytes, source, protection);
        }
        Ok(())
    }

    /// Adds a region, to the last one if it continues that.
    fn push(&mut self, address: u64, bytes: u64, source: Source, protection: u32) {
        if bytes == 0 {
            return;
        }
        if let Some(last) = self.regions.last_mut()
            && last.address + last.bytes == address
            && last.protection == protection
            && match (last.source, source) {
                (Source::Zero, Source::Zero) => true,
                (Source::Image(before), Source::Image(now)) => before + last.bytes == now,
                (Source::File(a, before), Source::File(b, now)) => {
                    a == b && before + last.bytes == now
                }
                _ => false,
            }
        {
            last.bytes += bytes;
            return;
        }
        self.regions.push(Region {
            address,
            bytes,
            source,
            protection,
        });
    }
}

/// Whether code that is the first has a breakpoint where the second, its file, has none: nobody would be there to handle it
/// in a restored process.
fn has_breakpoint((here, there): (&[u8], &[u8])) -> bool {
    const INT3: u8 = 0xcc;
    here != there
        && here
            .iter()
            .zip(there)
            .any(|(here, there)| *here == INT3 && *there != INT3)
}

/// What of some pages lies in the image.
fn in_regions(fetches: &[Fetch], regions: &[Region]) -> Vec<Fetch> {
    let mut inside: Vec<Fetch> = Vec::new();
    for fetch in fetches {
        for region in regions {
            let start = fetch.start.max(region.address);
            let end = fetch.end.min(region.address + region.bytes);
            if start >= end || region.protection & memory_map::WRITE == 0 {
                continue;
            }
            match inside.last_mut() {
                Some(last) if last.end == start => last.end = end,
                _ => inside.push(Fetch { start, end }),
            }
        }
    }
    inside
}

/// Stores pages that need not be stored where only few of them lie between others.
fn fill_gaps(is_left_out: &mut [bool]) {
    let gaps: Vec<_> = runs(is_left_out)
        .filter(|&(_, _, left_out)| left_out)
        .collect();
    let count = is_left_out.len() as u64;
    for (from, to, _) in gaps {
        if from > 0 && to < count && to - from < SHORTEST_GAP {
            is_left_out[from as usize..to as usize].fill(false);
        }
    }
}

/// Runs of equal values: first index, index behind the last, value.
fn runs(values: &[bool]) -> impl Iterator<Item = (u64, u64, bool)> {
    let mut start = 0;
    values.chunk_by(|a, b| a == b).map(move |run| {
        let from = start;
        start += run.len() as u64;
        (from, start, run[0])
    })
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

/// The thread pointer, which the C library keeps at its own address.
fn thread_pointer() -> u64 {
    let pointer;
    // SAFETY: reads the first word of the thread's control block (glibc's `tcbhead_t.tcb`).
    unsafe { std::arch::asm!("mov {}, fs:[0]", out(reg) pointer, options(nostack, readonly)) };
    pointer
}
