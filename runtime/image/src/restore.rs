//! Restoring: everything is checked and prepared while the process could still do without; then there is no way back.

use alloc::borrow::ToOwned;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::ffi::CStr;
use core::mem::ManuallyDrop;
use core::ptr;

use rustix::fd::{AsRawFd, OwnedFd};
use rustix::fs::{Mode, OFlags};
use rustix::mm::{MapFlags, MremapFlags, ProtFlags};
use rustix::process::{Resource, getrlimit};

use crate::bounds::{HIGHEST, LOWEST, RSEQ_BYTES};
use crate::command_line::CommandLine;
use crate::format::{FileIdentity, Image, ImageFile, Process, Source};
use crate::start::Start;
use crate::trampoline::{self, Action, Step};
use crate::{PAGE, places, streams};

const STACK_BYTES: usize = 16 * PAGE as usize;
/// Steps that are about the kernel's state and not about memory, roughly.
const STATE_STEPS: usize = 100;
/// As the C library has it (glibc's sysdeps/unix/sysv/linux/rseq-internal.h).
const RSEQ_SIGNATURE: u64 = 0x5305_3053;

/// An image that a process was asked to be.
pub struct Request<'a> {
    start: &'a Start<'a>,
    line: CommandLine,
    path: Vec<u8>,
}

impl<'a> Request<'a> {
    /// What the command line or a variable asks for.
    pub fn of(start: &'a Start) -> Option<Self> {
        // A set-user-ID program must not take a file's name from whoever started it (secure_getenv(3)).
        if start.auxiliary(libc::AT_SECURE) != 0 {
            return None;
        }
        let arguments: Vec<&[u8]> = start.arguments.iter().map(|text| text.to_bytes()).collect();
        let line = CommandLine::parse(&arguments)?;
        let variable = |name: &[u8]| start.variable(name);
        let path = line.startup_image(variable)?;
        // What a run is to leave behind, only an ordinary one can tell.
        let records = ["cds_trace", "cds_profile", "cds_image"];
        let is_recorded = records
            .iter()
            .any(|name| line.setting(name, variable).is_some());
        (!is_recorded).then_some(Self { start, line, path })
    }

    /// Restores the image, if it fits; tells otherwise why not. None if there is none.
    ///
    /// # Safety
    /// Nothing else runs in this process, and nothing is mapped but what the kernel has mapped for a program that is not
    /// position-independent, and [`places::HEAP`]; all that is allocated lies there.
    pub unsafe fn restore(&self) -> Option<String> {
        // The image would be opened as one that is closed.
        let unusable = streams::unusable();
        let reason = match ImageFile::open(&self.path) {
            Ok(None) => return None,
            Ok(Some(_)) if let Some(name) = unusable => format!("{name} is closed, or a directory"),
            Ok(Some(file)) => match self.plan(&file) {
                // SAFETY: as promised.
                Ok(plan) => unsafe { plan.carry_out(self.start) },
                Err(reason) => reason,
            },
            Err(reason) => reason,
        };
        let path = String::from_utf8_lossy(&self.path);
        Some(format!("{path} is not used: {reason}"))
    }

    fn plan<'f>(&self, file: &'f ImageFile) -> Result<Plan<'f>, String> {
        check(file, file.image()?, self.start, &self.line)
    }
}

/// What is needed to restore.
struct Plan<'a> {
    image: Image<'a>,
    file: &'a OwnedFd,
    files: Vec<OwnedFd>,
    /// Where the kernel has mapped its own code.
    vdso: u64,
}

fn check<'a>(
    file: &'a ImageFile,
    image: Image<'a>,
    start: &Start,
    line: &CommandLine,
) -> Result<Plan<'a>, String> {
    if [Resource::As, Resource::Data]
        .iter()
        .any(|&resource| getrlimit(resource).current.is_some())
    {
        return Err("address space is limited (ulimit -v, ulimit -d)".to_owned());
    }
    if let Some(reason) = image.key.mismatch(start, line) {
        return Err(reason);
    }
    let vdso = start.auxiliary(libc::AT_SYSINFO_EHDR);
    // SAFETY: the kernel has said where it is.
    if !unsafe { image.process.vdso.is_at(vdso) } {
        return Err("it was made with another kernel".to_owned());
    }
    let opened = image.files.iter().map(|backing| {
        let changed = || format!("{} has changed", String::from_utf8_lossy(backing.path));
        let flags = OFlags::RDONLY | OFlags::CLOEXEC;
        let file = rustix::fs::open(backing.path, flags, Mode::empty()).map_err(|_| changed())?;
        let status = rustix::fs::fstat(&file).map_err(|_| changed())?;
        if FileIdentity::of(&status) == backing.identity {
            Ok(file)
        } else {
            Err(changed())
        }
    });
    let files = opened.collect::<Result<Vec<_>, String>>()?;
    Ok(Plan {
        image,
        file: &file.file,
        files,
        vdso,
    })
}

/// The signals that are ignored, and that the interpreter does not ignore by itself, as a bit for each, from 1 on.
pub fn ignored_signals() -> u64 {
    const SIG_IGN: u64 = 1;
    const INTERNAL: [u64; 2] = [32, 33];
    let own = [libc::SIGPIPE as u64, libc::SIGXFSZ as u64];
    let ignored = (1..=64).filter(|signal| {
        let mut action = [0_u64; 4];
        let arguments = [*signal, 0, action.as_mut_ptr() as u64, 8, 0, 0];
        // SAFETY: asks for the kernel's `struct sigaction`, which has four words.
        unsafe { trampoline::call(libc::SYS_rt_sigaction as u64, &arguments) };
        action[0] == SIG_IGN && !own.contains(signal) && !INTERNAL.contains(signal)
    });
    ignored.fold(0, |set, signal| set | 1 << (signal - 1))
}

impl Plan<'_> {
    /// Replaces this process; returns the reason if that was not possible.
    ///
    /// # Safety
    /// That of [`restore`].
    unsafe fn carry_out(self, start: &Start) -> String {
        if !self.is_memory_granted() {
            return "the kernel does not grant so much memory (vm.overcommit_memory)".to_owned();
        }
        let bytes = Strings::bytes(start);
        if !reserve(places::STRINGS, bytes) {
            return "the address that restoring needs is taken".to_owned();
        }
        let process = &self.image.process;
        // SAFETY: so many bytes were reserved.
        let strings = unsafe { Strings::copy(start, process) };
        let layout = strings.layout(process);
        let pieces = 2 * self.image.regions.len() + self.image.fetches.len() + self.files.len();
        let mut steps = Steps(Vec::with_capacity(pieces + STATE_STEPS));
        self.add_memory(&mut steps, start);
        self.add_kernel_state(&mut steps, &strings);
        let mut stack: Vec<u8> = Vec::with_capacity(STACK_BYTES);
        let top = stack.as_mut_ptr() as u64 + STACK_BYTES as u64;
        if let Err(reason) = self.take_leave(&layout) {
            // SAFETY: nobody uses them.
            let _ = unsafe { rustix::mm::munmap(address(places::STRINGS), bytes as usize) };
            return reason.to_owned();
        }
        // From here on nothing may be allocated, nor freed.
        let context = process.context;
        let (steps, _plan, _stack) = (
            ManuallyDrop::new(steps),
            ManuallyDrop::new(self),
            ManuallyDrop::new(stack),
        );
        // SAFETY: the steps were made for it.
        unsafe { trampoline::jump(&steps.0, context, top - top % 16) }
    }

    /// Whether the kernel would let the frozen process write to all that it may (Linux,
    /// Documentation/mm/overcommit-accounting.rst): where it counts what it has promised, a step could fail otherwise.
    fn is_memory_granted(&self) -> bool {
        let regions = self.image.regions.iter();
        let writable = regions.filter(|region| region.protection & libc::PROT_WRITE as u32 != 0);
        let bytes = writable.fold(0, |bytes: u64, region| bytes.saturating_add(region.bytes));
        let protection = ProtFlags::READ | ProtFlags::WRITE;
        // SAFETY: takes no address that is in use, and nobody uses what is mapped.
        unsafe {
            let mapped = rustix::mm::mmap_anonymous(
                ptr::null_mut(),
                bytes as usize,
                protection,
                MapFlags::PRIVATE,
            );
            mapped.is_ok_and(|mapped| rustix::mm::munmap(mapped, bytes as usize).is_ok())
        }
    }

    /// Ends what the kernel has to do with the memory of this process. If it does not allow that, all is as before.
    fn take_leave(&self, layout: &[u64; LAYOUT_WORDS]) -> Result<(), &'static str> {
        let parts = &self.image.process.vdso.parts;
        let move_back = |parts: &[(i64, u64)]| {
            for part in parts {
                move_part(places::VDSO, self.vdso, part);
            }
        };
        for (index, part) in parts.iter().enumerate() {
            if !move_part(self.vdso, places::VDSO, part) {
                move_back(&parts[..index]);
                return Err("the kernel does not let its own code be moved");
            }
        }
        if !set_layout(layout) {
            move_back(parts);
            return Err("the kernel does not let a process have another heap (prctl)");
        }
        Ok(())
    }

    fn add_memory(&self, steps: &mut Steps, start: &Start) {
        // What lies between the regions goes.
        let regions = self.image.regions.iter();
        let mut kept: Vec<(u64, u64)> = regions.map(|r| (r.address, r.address + r.bytes)).collect();
        kept.push((places::ALL.start, places::ALL.end));
        kept.push((HIGHEST, HIGHEST));
        kept.sort_unstable();
        let mut end = LOWEST;
        for (from, to) in kept {
            if from > end {
                steps.must(libc::SYS_munmap, [end, from - end, 0, 0, 0, 0]);
            }
            end = end.max(to);
        }
        for region in &self.image.regions {
            let private = (libc::MAP_PRIVATE | libc::MAP_FIXED) as u64;
            let anonymous = private | (libc::MAP_ANONYMOUS | libc::MAP_NORESERVE) as u64;
            let (flags, file, offset) = match region.source {
                Source::Zero => (anonymous, u64::MAX, 0),
                Source::Image(offset) => (private, self.file.as_raw_fd() as u64, offset),
                Source::File(index, offset) => {
                    let range = region.address..region.address + region.bytes;
                    let is_own = |segment: core::ops::Range<u64>| {
                        segment.start <= range.start && range.end <= segment.end
                    };
                    // This very code, and its constants.
                    if start.constant_segments().any(is_own) {
                        continue;
                    }
                    let file = &self.files[index as usize];
                    (private, file.as_raw_fd() as u64, offset)
                }
            };
            let protection = u64::from(region.protection);
            let arguments = [
                region.address,
                region.bytes,
                protection,
                flags,
                file,
                offset,
            ];
            steps.must(libc::SYS_mmap, arguments);
        }
        for fetch in &self.image.fetches {
            // Linux 5.14. What cannot be fetched now is fetched when it is touched.
            const MADV_POPULATE_WRITE: u64 = 23;
            let bytes = fetch.end.saturating_sub(fetch.start);
            let arguments = [fetch.start, bytes, MADV_POPULATE_WRITE, 0, 0, 0];
            steps.may(libc::SYS_madvise, arguments);
        }
        for file in self.files.iter().chain([self.file]) {
            steps.must(libc::SYS_close, [file.as_raw_fd() as u64, 0, 0, 0, 0, 0]);
        }
    }

    fn add_kernel_state(&self, steps: &mut Steps, strings: &Strings) {
        const ARCH_SET_FS: u64 = 0x1002;
        const SIGNAL_SET_BYTES: u64 = 8;
        let process = &self.image.process;
        for (distance, bytes) in &process.vdso.parts {
            let from = places::VDSO.wrapping_add_signed(*distance);
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
                let arguments = [area + offset, u64::from(value), 0, 0, 0, 0];
                steps.add(Action::Write32, arguments);
            }
            steps.may(libc::SYS_rseq, [area, RSEQ_BYTES, 0, RSEQ_SIGNATURE, 0, 0]);
        }
        if let Some(stack) = &process.alternate_stack {
            let address = stack.as_ptr() as u64;
            steps.must(libc::SYS_sigaltstack, [address, 0, 0, 0, 0, 0]);
        }
        let ignored = ignored_signals();
        for (signal, action) in &process.signals {
            if ignored & 1 << (signal - 1) != 0 {
                // What is ignored when a process starts stays so (nohup, a shell's `&`).
                continue;
            }
            let action = action.as_ptr() as u64;
            let arguments = [*signal, action, 0, SIGNAL_SET_BYTES, 0, 0];
            steps.must(libc::SYS_rt_sigaction, arguments);
        }
        // A `Restored`, word for word.
        let words = [strings.argc, strings.argv, strings.envp, ignored];
        for (word, offset) in words.into_iter().zip((0..).step_by(size_of::<u64>())) {
            let address = process.restored + offset;
            steps.add(Action::Write64, [address, word, 0, 0, 0, 0]);
        }
    }
}

fn address(number: u64) -> *mut core::ffi::c_void {
    ptr::with_exposed_provenance_mut(number as usize)
}

fn move_part(from: u64, to: u64, (distance, bytes): &(i64, u64)) -> bool {
    let from = address(from.wrapping_add_signed(*distance));
    let to = address(to.wrapping_add_signed(*distance));
    let bytes = *bytes as usize;
    // SAFETY: the kernel's code is used through the C library only, and there is none yet.
    unsafe { rustix::mm::mremap_fixed(from, bytes, bytes, MremapFlags::MAYMOVE, to).is_ok() }
}

/// A `struct prctl_mm_map` (linux/prctl.h).
const LAYOUT_WORDS: usize = 13;

/// Tells the kernel where code, heap and arguments of the process are going to be. The heap must not grow or shrink until
/// they are.
fn set_layout(layout: &[u64; LAYOUT_WORDS]) -> bool {
    const PR_SET_MM: u64 = 35;
    const PR_SET_MM_MAP: u64 = 14;
    let (address, bytes) = (layout.as_ptr() as u64, size_of_val(layout) as u64);
    // SAFETY: the kernel only takes notice of the addresses.
    unsafe {
        trampoline::call(
            libc::SYS_prctl as u64,
            &[PR_SET_MM, PR_SET_MM_MAP, address, bytes, 0, 0],
        ) == 0
    }
}

fn reserve(place: u64, bytes: u64) -> bool {
    let flags = MapFlags::PRIVATE | MapFlags::FIXED_NOREPLACE;
    let protection = ProtFlags::READ | ProtFlags::WRITE;
    // SAFETY: takes no address that is in use.
    let mapped =
        unsafe { rustix::mm::mmap_anonymous(address(place), bytes as usize, protection, flags) };
    // A kernel before 4.17 takes the address for a wish.
    mapped.is_ok_and(|mapped| mapped.addr() as u64 == place)
}

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

/// Where the arguments, the environment and the auxiliary vector of the process were copied to: start and end of the
/// texts, and the arrays of their addresses.
struct Strings {
    arguments: (u64, u64),
    environment: (u64, u64),
    argc: u64,
    argv: u64,
    envp: u64,
    auxiliary: (u64, u64),
}

impl Strings {
    /// How much they take, in whole pages.
    fn bytes(start: &Start) -> u64 {
        const WORD: usize = size_of::<u64>();
        let texts = start.arguments.iter().chain(&start.environment);
        let texts: usize = texts.map(|text| text.count_bytes() + 1 + WORD).sum();
        // Three arrays, which are aligned, and end with an element of zeros.
        let arrays = size_of_val(start.auxiliary) + 3 * 4 * WORD;
        ((texts + arrays) as u64).next_multiple_of(PAGE)
    }

    /// # Safety
    /// [`Self::bytes`] are reserved at [`places::STRINGS`].
    unsafe fn copy(start: &Start, process: &Process) -> Self {
        let mut arena = Arena {
            place: places::STRINGS,
        };
        // SAFETY: as promised.
        unsafe {
            let (mut argv, arguments) = arena.put_texts(&start.arguments);
            let (mut envp, environment) = arena.put_texts(&start.environment);
            argv.push(0);
            envp.push(0);
            let argv = arena.put_words(&argv);
            let envp = arena.put_words(&envp);
            let mut pairs = start.auxiliary.as_flattened().to_vec();
            for pair in pairs.chunks_exact_mut(2) {
                if pair[0] == libc::AT_SYSINFO_EHDR {
                    pair[1] = process.vdso.address;
                }
            }
            pairs.extend([0, 0]);
            let auxiliary = arena.put_words(&pairs);
            Self {
                arguments,
                environment,
                argc: start.arguments.len() as u64,
                argv,
                envp,
                auxiliary: (auxiliary, size_of_val(&pairs[..]) as u64),
            }
        }
    }

    /// What the kernel is told of the frozen process; the last word is a length and the file descriptor -1.
    fn layout(&self, process: &Process) -> [u64; LAYOUT_WORDS] {
        [
            process.code.0,
            process.code.1,
            process.data.0,
            process.data.1,
            process.heap.0,
            process.heap.1,
            process.start_stack,
            self.arguments.0,
            self.arguments.1,
            self.environment.0,
            self.environment.1,
            self.auxiliary.0,
            self.auxiliary.1 | u64::from(u32::MAX) << 32,
        ]
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
        unsafe { ptr::copy_nonoverlapping(bytes.as_ptr(), address(at).cast(), bytes.len()) };
        self.place += bytes.len() as u64;
        at
    }

    /// The same for words, which are aligned.
    ///
    /// # Safety
    /// As above, and for 15 bytes more.
    unsafe fn put_words(&mut self, words: &[u64]) -> u64 {
        self.place = self.place.next_multiple_of(16);
        let at = self.place;
        for word in words {
            // SAFETY: as promised.
            unsafe { self.put(&word.to_ne_bytes()) };
        }
        at
    }

    /// Copies texts one behind the other; returns where each is, and where they begin and end.
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
