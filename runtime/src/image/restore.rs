//! Restoring: everything is checked and prepared while the process could still do without; then there is no way back.

use std::ffi::{CStr, OsStr, OsString, c_char, c_int};
use std::fs::File;
use std::os::fd::AsRawFd;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::ptr::{self, NonNull};
use std::sync::OnceLock;
use std::{mem, slice};

use rustix::process::{Resource, getrlimit};

use super::PAGE;
use super::command_line::CommandLine;
use super::format::{self, FileIdentity, Image, Source};
use super::resume::RESTORED;
use super::trampoline::{self, Action, Step};
use crate::fingerprint;
use crate::options::WITH_IMAGE;

/// Where the steps, their stack, and the arguments of the new process lie: far from everything else.
pub const SCRATCH: u64 = 0x0100_0000_0000;
const STACK_BYTES: u64 = 16 * PAGE;
/// Behind it the kernel's own code waits while the memory changes.
const VDSO_PLACE: u64 = SCRATCH + (1 << 30);
pub const SCRATCH_END: u64 = SCRATCH + (2 << 30);
const LOWEST: u64 = 0x1_0000;
const HIGHEST: u64 = 0x7fff_ffff_f000;
/// What the C library registers restartable sequences with (rseq(2), glibc's sysdeps/unix/sysv/linux/rseq-internal.h).
const RSEQ_BYTES: u64 = 32;
const RSEQ_SIGNATURE: u64 = 0x5305_3053;
const RSEQ_UNREGISTER: u64 = 1;
/// Of a `struct prctl_mm_map` (linux/prctl.h).
const LAYOUT_BYTES: u64 = 104;
/// Steps that are about the kernel's state and not about memory, at most.
const STATE_STEPS: usize = 100;

static REFUSAL: OnceLock<String> = OnceLock::new();

/// Why this process was not restored although there is an image.
pub fn refusal() -> Option<&'static str> {
    REFUSAL.get().map(String::as_str)
}

/// What an option about archives says, or the variable that stands for it.
pub fn setting(line: &CommandLine, name: &str) -> Option<OsString> {
    let option = line.cds(name).map(|value| OsStr::from_bytes(value).into());
    let variable = || {
        let variable = format!("PYTHON_{}", name.to_uppercase());
        std::env::var_os(variable).filter(|_| !line.ignores_environment())
    };
    option.or_else(variable).filter(|value| !value.is_empty())
}

/// The image beside the archive that the command line, or a variable, asks for.
pub fn requested(line: &CommandLine) -> Option<PathBuf> {
    let automatic = || {
        let value = setting(line, "cds_auto")?.into_vec();
        let archive = value.strip_suffix(WITH_IMAGE.as_bytes())?;
        Some(OsStr::from_bytes(archive).to_owned())
    };
    let mut name = setting(line, "cds").or_else(automatic)?;
    if name == "off" {
        return None;
    }
    name.push(".startup");
    Some(name.into())
}

/// Restores the image that the command line asks for, if there is one and it fits.
///
/// # Safety
/// The arguments are those of `main()`, which has done nothing else yet.
pub unsafe fn restore(argc: c_int, argv: *const *const c_char) {
    let count = usize::try_from(argc).unwrap_or_default();
    // SAFETY: `main()` gets so many strings.
    let arguments: Vec<&[u8]> = unsafe {
        slice::from_raw_parts(argv, count)
            .iter()
            .map(|&argument| CStr::from_ptr(argument).to_bytes())
            .collect()
    };
    let Some(line) = CommandLine::parse(&arguments) else {
        return;
    };
    let Some(path) = requested(&line) else {
        return;
    };
    // What a run is to leave behind, only an ordinary one can tell.
    let records = ["cds_trace", "cds_profile", "cds_image"];
    if records.iter().any(|name| setting(&line, name).is_some()) || is_set_user_id() {
        return;
    }
    let Ok(file) = open(&path) else {
        return;
    };
    let plan = match check(file, &line, &arguments) {
        Ok(plan) => plan,
        Err(reason) => {
            let _ = REFUSAL.set(format!("{} is not used: {reason}", path.display()));
            return;
        }
    };
    // SAFETY: as promised.
    let reason = unsafe { plan.carry_out(argv, count) };
    let _ = REFUSAL.set(format!("{} is not used: {reason}", path.display()));
}

fn is_set_user_id() -> bool {
    // SAFETY: reads the auxiliary vector.
    unsafe { libc::getauxval(libc::AT_SECURE) != 0 }
}

fn open(path: &Path) -> std::io::Result<File> {
    let flags = libc::O_NOCTTY | libc::O_NONBLOCK | libc::O_NOFOLLOW;
    std::fs::OpenOptions::new()
        .read(true)
        .custom_flags(flags)
        .open(path)
}

/// What is needed to restore.
struct Plan {
    image: Image,
    file: File,
    files: Vec<File>,
}

fn check(file: File, line: &CommandLine, arguments: &[&[u8]]) -> Result<Plan, String> {
    let status = file.metadata().map_err(|error| error.to_string())?;
    let is_own = status.uid() == rustix::process::geteuid().as_raw();
    if !status.is_file() || !is_own || status.mode() & 0o077 != 0 {
        return Err(
            "it must be a file of your own that nobody else may read (mode 600)".to_owned(),
        );
    }
    if [Resource::As, Resource::Data]
        .iter()
        .any(|&resource| getrlimit(resource).current.is_some())
    {
        return Err("address space is limited (ulimit -v, ulimit -d)".to_owned());
    }
    let image = format::read(&file)?;
    let interpreter = fingerprint::Image::current();
    let build_id = interpreter.as_ref().and_then(fingerprint::Image::build_id);
    if let Some(reason) = image.key.mismatch(line, arguments, build_id) {
        return Err(reason);
    }
    let vdso = &image.process.vdso;
    // SAFETY: the kernel maps its own code there; an equal one has as many bytes.
    let is_same_kernel = unsafe {
        let address = libc::getauxval(libc::AT_SYSINFO_EHDR);
        address != 0
            && vdso.bytes.chunks_exact(8).enumerate().all(|(index, word)| {
                let here = (address as *const [u8; 8]).add(index).read();
                word == here
            })
    };
    if !is_same_kernel {
        return Err("it was made with another kernel".to_owned());
    }
    let opened = image.files.iter().map(|backing| {
        let path = Path::new(OsStr::from_bytes(&backing.path));
        let changed = || format!("{} has changed", path.display());
        let file = File::open(path).map_err(|_| changed())?;
        let found = identity(&file).ok_or_else(changed)?;
        if found == backing.identity {
            Ok(file)
        } else {
            Err(changed())
        }
    });
    let files = opened.collect::<Result<Vec<_>, String>>()?;
    Ok(Plan { image, file, files })
}

pub fn identity(file: &File) -> Option<FileIdentity> {
    let status = file.metadata().ok()?;
    Some(FileIdentity {
        device: status.dev(),
        inode: status.ino(),
        size: status.size(),
        mtime_ns: status.mtime() * 1_000_000_000 + status.mtime_nsec(),
    })
}

/// The signals that are ignored, and that the interpreter does not ignore by itself.
pub fn ignored_signals() -> impl Iterator<Item = c_int> {
    (1..=libc::SIGRTMAX()).filter(|&signal| {
        // SAFETY: asks without changing anything.
        let action = unsafe {
            let mut action: libc::sigaction = mem::zeroed();
            libc::sigaction(signal, ptr::null(), &mut action);
            action.sa_sigaction
        };
        action == libc::SIG_IGN && ![libc::SIGPIPE, libc::SIGXFSZ].contains(&signal)
    })
}

impl Plan {
    /// Replaces this process; returns the reason if that was not possible.
    ///
    /// # Safety
    /// The arguments are those of `main()`, which has done nothing else yet.
    unsafe fn carry_out(self, argv: *const *const c_char, argc: usize) -> String {
        // SAFETY: as promised.
        let strings = unsafe { Strings::of_process(argv, argc) };
        let mut steps = Steps::default();
        self.add_memory(&mut steps);
        let signals = size_of_val(self.image.process.signals.as_slice());
        let tables = signals + (steps.0.len() + STATE_STEPS) * size_of::<Step>();
        let scratch_bytes = STACK_BYTES + strings.bytes() + tables as u64;
        let scratch_bytes = scratch_bytes.next_multiple_of(PAGE);
        let Some(scratch) = reserve(scratch_bytes) else {
            return "the address that restoring needs is taken".to_owned();
        };
        // SAFETY: as much was reserved there.
        let places = unsafe { furnish(SCRATCH + STACK_BYTES, &strings, &self.image.process) };
        self.add_kernel_state(&mut steps, &places);
        let start = places.end;
        if start + (steps.0.len() * size_of::<Step>()) as u64 > SCRATCH + scratch_bytes {
            return "there are more steps than expected".to_owned();
        }
        // SAFETY: they fit, as was just seen.
        unsafe {
            ptr::copy_nonoverlapping(steps.0.as_ptr(), start as *mut Step, steps.0.len());
        }
        if let Err(reason) = self.take_leave(places.layout) {
            // SAFETY: nobody uses it.
            let _ = unsafe { rustix::mm::munmap(scratch.as_ptr().cast(), scratch_bytes as usize) };
            return reason.to_owned();
        }
        // From here on nothing may be allocated.
        let count = steps.0.len();
        mem::forget(self);
        // SAFETY: the steps were made for it.
        unsafe { trampoline::jump(start as *const Step, count, SCRATCH + STACK_BYTES) }
    }

    /// Ends what the kernel has to do with the memory of this process. If it does not allow that, all is as before.
    fn take_leave(&self, layout: u64) -> Result<(), &'static str> {
        self.move_vdso()?;
        let move_back = || self.move_vdso_back(&self.image.process.vdso.parts);
        let area = own_rseq();
        if area.is_some_and(|area| !register_rseq(area, RSEQ_UNREGISTER)) {
            move_back();
            return Err("the kernel keeps its restartable sequences");
        }
        if !set_layout(layout) {
            area.map(|area| register_rseq(area, 0));
            move_back();
            return Err("the kernel does not let a process have another heap (prctl)");
        }
        Ok(())
    }

    /// Moves the kernel's code out of the way. If the kernel does not allow that, all is as before.
    fn move_vdso(&self) -> Result<(), &'static str> {
        // SAFETY: reads the auxiliary vector.
        let here = unsafe { libc::getauxval(libc::AT_SYSINFO_EHDR) };
        let parts = &self.image.process.vdso.parts;
        for (index, part) in parts.iter().enumerate() {
            if !move_part(here, VDSO_PLACE, part) {
                self.move_vdso_back(&parts[..index]);
                return Err("the kernel does not let its own code be moved");
            }
        }
        Ok(())
    }

    fn move_vdso_back(&self, parts: &[(i64, u64)]) {
        // SAFETY: reads the auxiliary vector.
        let home = unsafe { libc::getauxval(libc::AT_SYSINFO_EHDR) };
        for part in parts {
            move_part(VDSO_PLACE, home, part);
        }
    }

    fn add_memory(&self, steps: &mut Steps) {
        // What lies between the regions goes.
        let mut kept: Vec<(u64, u64)> = self
            .image
            .regions
            .iter()
            .map(|r| (r.address, r.address + r.bytes))
            .collect();
        kept.push((SCRATCH, SCRATCH_END));
        kept.sort_unstable();
        let mut end = LOWEST;
        for (from, to) in kept {
            if from > end {
                steps.must(libc::SYS_munmap, [end, from - end, 0, 0, 0, 0]);
            }
            end = end.max(to);
        }
        if end < HIGHEST {
            steps.must(libc::SYS_munmap, [end, HIGHEST - end, 0, 0, 0, 0]);
        }
        let image_file = self.file.as_raw_fd() as u64;
        let own = std::fs::metadata("/proc/self/exe")
            .or_else(|_| std::fs::metadata(OsStr::from_bytes(&self.image.key.executable)));
        let own = own.map(|status| (status.dev(), status.ino())).ok();
        for region in &self.image.regions {
            let protection = u64::from(region.protection);
            let private = (libc::MAP_PRIVATE | libc::MAP_FIXED) as u64;
            let anonymous = private | (libc::MAP_ANONYMOUS | libc::MAP_NORESERVE) as u64;
            let (flags, file, offset) = match region.source {
                Source::Zero => (anonymous, u64::MAX, 0),
                Source::Image(offset) => (private, image_file, offset),
                Source::File(index, offset) => {
                    let identity = &self.image.files[index as usize].identity;
                    let is_own = own == Some((identity.device, identity.inode));
                    if is_own && region.protection & libc::PROT_WRITE as u32 == 0 {
                        // This very code, and its constants.
                        continue;
                    }
                    (
                        private,
                        self.files[index as usize].as_raw_fd() as u64,
                        offset,
                    )
                }
            };
            steps.must(
                libc::SYS_mmap,
                [
                    region.address,
                    region.bytes,
                    protection,
                    flags,
                    file,
                    offset,
                ],
            );
        }
        for file in self.files.iter().chain([&self.file]) {
            steps.must(libc::SYS_close, [file.as_raw_fd() as u64, 0, 0, 0, 0, 0]);
        }
    }

    fn add_kernel_state(&self, steps: &mut Steps, places: &Places) {
        const ARCH_SET_FS: u64 = 0x1002;
        const SIGNAL_SET_BYTES: u64 = 8;
        let process = &self.image.process;
        for (distance, bytes) in &process.vdso.parts {
            let from = VDSO_PLACE.wrapping_add_signed(*distance);
            let to = process.vdso.address.wrapping_add_signed(*distance);
            let flags = (libc::MREMAP_MAYMOVE | libc::MREMAP_FIXED) as u64;
            steps.must(libc::SYS_mremap, [from, *bytes, *bytes, flags, to, 0]);
        }
        steps.must(
            libc::SYS_arch_prctl,
            [ARCH_SET_FS, process.fs_base, 0, 0, 0, 0],
        );
        steps.must(
            libc::SYS_set_tid_address,
            [process.tid_address, 0, 0, 0, 0, 0],
        );
        steps.add(Action::Store32, [process.tid_address, 0, 0, 0, 0, 0]);
        let (head, length) = process.robust_list;
        steps.may(libc::SYS_set_robust_list, [head, length, 0, 0, 0, 0]);
        if let Some(area) = process.rseq {
            // cpu_id_start, cpu_id, rseq_cs, flags (linux/rseq.h)
            for (offset, value) in [(0, 0), (4, u32::MAX), (8, 0), (12, 0), (16, 0)] {
                steps.add(
                    Action::Write32,
                    [area + offset, u64::from(value), 0, 0, 0, 0],
                );
            }
            steps.may(libc::SYS_rseq, [area, RSEQ_BYTES, 0, RSEQ_SIGNATURE, 0, 0]);
        }
        let ignored = ignored_signals().fold(0, |set, signal| set | 1_u64 << (signal - 1));
        for (index, (signal, _)) in process.signals.iter().enumerate() {
            if ignored & 1 << (signal - 1) != 0 {
                // What is ignored when a process starts stays so (nohup, a shell's `&`).
                continue;
            }
            let action = places.signals + (index * size_of::<[u64; 4]>()) as u64;
            steps.must(
                libc::SYS_rt_sigaction,
                [*signal, action, 0, SIGNAL_SET_BYTES, 0, 0],
            );
        }
        let restored = &raw mut RESTORED;
        // SAFETY: only addresses are taken.
        let fields = unsafe {
            [
                (&raw mut (*restored).argc as u64, places.argc),
                (&raw mut (*restored).argv as u64, places.argv),
                (&raw mut (*restored).envp as u64, places.envp),
                (&raw mut (*restored).ignored_signals as u64, ignored),
            ]
        };
        for (address, value) in fields {
            steps.add(Action::Write64, [address, value, 0, 0, 0, 0]);
        }
    }
}

fn move_part(from: u64, to: u64, (distance, bytes): &(i64, u64)) -> bool {
    let (from, to) = (
        from.wrapping_add_signed(*distance),
        to.wrapping_add_signed(*distance),
    );
    // SAFETY: the kernel's code is used through the C library only, which is not called before it is back, or before
    // the process is another.
    let moved = unsafe {
        libc::mremap(
            from as *mut libc::c_void,
            *bytes as usize,
            *bytes as usize,
            libc::MREMAP_MAYMOVE | libc::MREMAP_FIXED,
            to as *mut libc::c_void,
        )
    };
    moved != libc::MAP_FAILED
}

/// Where the C library of this process registered its restartable sequences (`__rseq_offset`, glibc 2.35), if the
/// kernel let it.
pub fn own_rseq() -> Option<u64> {
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

/// Tells the kernel where code, heap and arguments of the process are going to be. The heap must not grow or shrink until
/// they are.
fn set_layout(layout: u64) -> bool {
    const PR_SET_MM: i32 = 35;
    const PR_SET_MM_MAP: u64 = 14;
    // SAFETY: the kernel only takes notice of the addresses.
    unsafe { libc::prctl(PR_SET_MM, PR_SET_MM_MAP, layout, LAYOUT_BYTES, 0) == 0 }
}

/// Registers the area of this process's C library, or ends that.
fn register_rseq(area: u64, flags: u64) -> bool {
    let number = libc::SYS_rseq;
    // SAFETY: the area is what the C library registered.
    unsafe { libc::syscall(number, area, RSEQ_BYTES, flags, RSEQ_SIGNATURE) == 0 }
}

/// The thread pointer, which the C library keeps at its own address.
pub fn thread_pointer() -> u64 {
    let pointer;
    // SAFETY: reads the first word of the thread's control block (glibc's `tcbhead_t.tcb`).
    unsafe { std::arch::asm!("mov {}, fs:[0]", out(reg) pointer, options(nostack, readonly)) };
    pointer
}

fn reserve(bytes: u64) -> Option<NonNull<u8>> {
    let flags = rustix::mm::MapFlags::PRIVATE | rustix::mm::MapFlags::FIXED_NOREPLACE;
    let protection = rustix::mm::ProtFlags::READ | rustix::mm::ProtFlags::WRITE;
    // SAFETY: takes no address that is in use.
    let mapped =
        unsafe { rustix::mm::mmap_anonymous(SCRATCH as *mut _, bytes as usize, protection, flags) };
    let address = NonNull::new(mapped.ok()?.cast::<u8>())?;
    (address.as_ptr() as u64 == SCRATCH).then_some(address)
}

#[derive(Default)]
struct Steps(Vec<Step>);

impl Steps {
    fn add(&mut self, action: Action, arguments: [u64; 6]) {
        self.0.push(Step { action, arguments });
    }

    fn must(&mut self, number: libc::c_long, arguments: [u64; 6]) {
        self.add(Action::Must(number as u64), arguments);
    }

    fn may(&mut self, number: libc::c_long, arguments: [u64; 6]) {
        self.add(Action::May(number as u64), arguments);
    }
}

/// The arguments, environment and auxiliary vector of this process.
struct Strings<'a> {
    arguments: Vec<&'a CStr>,
    environment: Vec<&'a CStr>,
    auxiliary: Vec<[u64; 2]>,
}

/// Where they were copied to, and what the steps need besides.
struct Places {
    argc: u64,
    argv: u64,
    envp: u64,
    layout: u64,
    signals: u64,
    end: u64,
}

impl Strings<'_> {
    /// # Safety
    /// `argv` is `main()`'s; the environment follows it and has not been changed.
    unsafe fn of_process(argv: *const *const c_char, argc: usize) -> Self {
        // SAFETY: the kernel puts a NULL behind the arguments, one behind the environment, and then the vector, which a
        // pair of zeros ends (Linux, fs/binfmt_elf.c).
        unsafe {
            let strings = |start: *const *const c_char| {
                (0..)
                    .map_while(move |index| NonNull::new((*start.add(index)).cast_mut()))
                    .map(|text| CStr::from_ptr(text.as_ptr()))
                    .collect::<Vec<_>>()
            };
            let arguments = strings(argv);
            let envp = argv.add(argc + 1);
            let environment = strings(envp);
            let vector = envp.add(environment.len() + 1).cast::<[u64; 2]>();
            let auxiliary = (0..).map(|index| *vector.add(index));
            Self {
                arguments,
                auxiliary: auxiliary.take_while(|pair| pair[0] != 0).collect(),
                environment,
            }
        }
    }

    /// An upper limit of what the copies take.
    fn bytes(&self) -> u64 {
        let strings = self.arguments.iter().chain(&self.environment);
        let strings: usize = strings.map(|text| text.count_bytes() + 1 + 8).sum();
        (strings + 16 * self.auxiliary.len() + 1024) as u64
    }
}

/// Memory of the new process that is filled from the start.
struct Arena {
    place: u64,
}

impl Arena {
    /// Copies bytes there and returns where they are.
    ///
    /// # Safety
    /// So many bytes may be written.
    unsafe fn put(&mut self, bytes: &[u8]) -> u64 {
        let at = self.place;
        // SAFETY: as promised.
        unsafe { ptr::copy_nonoverlapping(bytes.as_ptr(), at as *mut u8, bytes.len()) };
        self.place += bytes.len() as u64;
        at
    }

    /// The same for words, which are aligned.
    ///
    /// # Safety
    /// As above, and for 15 bytes more.
    unsafe fn put_words(&mut self, words: impl IntoIterator<Item = u64>) -> u64 {
        self.place = self.place.next_multiple_of(16);
        let bytes: Vec<u8> = words.into_iter().flat_map(u64::to_le_bytes).collect();
        // SAFETY: as promised.
        unsafe { self.put(&bytes) }
    }

    /// Copies texts one behind the other; returns where each is, and where they end.
    ///
    /// # Safety
    /// As above.
    unsafe fn put_texts(&mut self, texts: &[&CStr]) -> (Vec<u64>, (u64, u64)) {
        let start = self.place;
        // SAFETY: as promised.
        let places = texts
            .iter()
            .map(|text| unsafe { self.put(text.to_bytes_with_nul()) });
        (places.collect(), (start, self.place))
    }
}

/// Copies everything that the kernel and the new process want to find in memory.
///
/// # Safety
/// As much as [`Strings::bytes`] and the signals need may be written from `start` on.
unsafe fn furnish(start: u64, strings: &Strings, process: &format::Process) -> Places {
    let mut arena = Arena { place: start };
    // SAFETY: as promised.
    unsafe {
        let (mut argv, arguments) = arena.put_texts(&strings.arguments);
        let (mut envp, environment) = arena.put_texts(&strings.environment);
        argv.push(0);
        envp.push(0);
        let argv = arena.put_words(argv);
        let envp = arena.put_words(envp);
        let pairs = strings.auxiliary.iter().map(|&[kind, value]| match kind {
            libc::AT_SYSINFO_EHDR => [kind, process.vdso.address],
            _ => [kind, value],
        });
        let pairs: Vec<[u64; 2]> = pairs.chain([[0, 0]]).collect();
        let auxiliary = arena.put_words(pairs.iter().flatten().copied());
        // `struct prctl_mm_map` (linux/prctl.h); its last word is a length and the file descriptor -1.
        let layout = [
            process.code.0,
            process.code.1,
            process.data.0,
            process.data.1,
            process.heap.0,
            process.heap.1,
            process.start_stack,
            arguments.0,
            arguments.1,
            environment.0,
            environment.1,
            auxiliary,
            (pairs.len() * size_of::<[u64; 2]>()) as u64 | u64::from(u32::MAX) << 32,
        ];
        let layout = arena.put_words(layout);
        let actions = process.signals.iter().flat_map(|(_, action)| *action);
        let signals = arena.put_words(actions);
        Places {
            argc: strings.arguments.len() as u64,
            argv,
            envp,
            layout,
            signals,
            end: arena.place.next_multiple_of(16),
        }
    }
}
