//! Restoring an image. First everything is checked and prepared so that the process can still fall back to the ordinary
//! start. After that there is no way back.

use alloc::borrow::ToOwned;
use alloc::format;
use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;

use rustix::fd::OwnedFd;
use rustix::fs::{Access, CWD, Mode, OFlags};
use rustix::process::{Resource, getrlimit};

use crate::arguments::{Arguments, HandedOver};
use crate::cache::{self, Entries};
use crate::command_line::{Choice, CommandLine};
use crate::file_name;
use crate::format::{FileIdentity, Image};
use crate::image_file::ImageFile;
use crate::key::OTHER_ARGUMENTS;
use crate::memory::Memory;
use crate::start::Start;
use crate::steps::Steps;
use crate::{PAGE, kernel_state, signals, streams, trampoline, uses};

const STACK_BYTES: usize = 16 * PAGE as usize;

/// Why a process is not restored from an image.
struct Refusal {
    text: String,
    /// Whether another image should take the place of this one: no process can be restored from it, however it is
    /// started, or it is for other arguments of the same program.
    is_lasting: bool,
}

impl Refusal {
    fn of_everybody(text: String) -> Self {
        Self {
            text,
            is_lasting: true,
        }
    }

    fn of_this(text: String) -> Self {
        Self {
            is_lasting: text == OTHER_ARGUMENTS,
            text,
        }
    }
}

/// Why a process is not restored from any image.
#[derive(Default)]
pub struct Refusals {
    /// The reason of the last image; empty if there is no image.
    pub text: String,
    /// A bit for each image that another one should take the place of. The first image has bit 0.
    pub lasting: u8,
}

/// The images that a start asks for. The first one that fits is restored.
pub struct Request<'a> {
    start: &'a Start<'a>,
    line: CommandLine,
    /// The images with their numbers.
    paths: Vec<(usize, Vec<u8>)>,
    /// The entries of the cache that the images belong to; none if the image was named.
    pub entries: Option<Entries>,
}

impl<'a> Request<'a> {
    /// The request of the command line, of a variable, or of the cache.
    pub fn of(start: &'a Start) -> Option<Self> {
        // A set-user-ID program must not take the name of a file from the user who started it (secure_getenv(3)).
        if start.auxiliary(libc::AT_SECURE) != 0 {
            return None;
        }
        let arguments: Vec<&[u8]> = start.arguments.iter().map(|text| text.to_bytes()).collect();
        let line = CommandLine::parse(&arguments)?;
        let variable = |name: &[u8]| start.variable(name);
        // Only an ordinary start can write these records.
        let records = ["cds_trace", "cds_profile", "cds_image"];
        if records
            .iter()
            .any(|name| line.setting(name, variable).is_some())
        {
            return None;
        }
        let (paths, entries) = if let Choice::Of(archive) = line.choice(variable) {
            (vec![(0, file_name::of_archive(archive))], None)
        } else {
            let entries = cache::entries(start, &line, &start.build_id()?)?;
            (paths_in(&entries), Some(entries))
        };
        Some(Self {
            start,
            line,
            paths,
            entries,
        })
    }

    /// Restores the first image that fits, and does not return then. Returns the reasons why none fits.
    ///
    /// # Safety
    /// This process has no other thread. It has only the mappings that the kernel makes for a program that is not
    /// position-independent, and [`places::HEAP`], where all allocated memory lies.
    pub unsafe fn restore(&self) -> Refusals {
        let mut refusals = Refusals::default();
        if self.paths.is_empty() {
            return refusals;
        }
        // If a standard stream is closed, the image is opened with its file descriptor. So look before.
        let unusable = streams::unusable();
        for (number, path) in &self.paths {
            let refusal = match ImageFile::open(path) {
                Ok(None) => continue,
                Ok(Some(_)) if let Some(name) = unusable => {
                    Refusal::of_this(format!("{name} is closed or is a directory"))
                }
                Ok(Some(file)) => match self.plan(&file) {
                    Ok(plan) => {
                        let mut entry = &[][..];
                        if let Some(entries) = &self.entries {
                            file.own.note_use();
                            // An error, such as a full disk, must not affect the program.
                            if let Some(of_image) = cache::entry_of(path) {
                                let _ = uses::count(of_image, number % cache::VARIANTS);
                            }
                            entry = entries.program.as_deref().unwrap_or(&entries.base);
                        }
                        let handed_over = HandedOver {
                            image: path,
                            entry,
                            refusal: &refusals.text,
                            lasting: refusals.lasting,
                        };
                        // SAFETY: the caller guarantees that no other thread runs and that nothing else is mapped.
                        Refusal::of_this(unsafe { plan.carry_out(self.start, &handed_over) })
                    }
                    Err(refusal) => refusal,
                },
                Err(reason) => Refusal::of_everybody(reason),
            };
            let path = String::from_utf8_lossy(path);
            refusals.text = format!("{path} is not used: {}", refusal.text);
            refusals.lasting |= u8::from(refusal.is_lasting) << number;
        }
        refusals
    }

    fn plan<'f>(&self, file: &'f ImageFile) -> Result<Plan<'f>, Refusal> {
        let image = file.image().map_err(Refusal::of_everybody)?;
        check(file, image, self.start, &self.line)
    }
}

/// The images in the entries of a process. A program with an archive gets no base image: the archive has the code of its
/// modules, and is mapped when an interpreter starts.
fn paths_in(entries: &Entries) -> Vec<(usize, Vec<u8>)> {
    let exists = |path: &[u8]| rustix::fs::access(path, Access::EXISTS).is_ok();
    let has_archive = |entry: &[u8]| exists(&cache::archive(entry, 0));
    let has_crashed = |entry: &[u8]| exists(&[entry, cache::CRASHED].concat());
    let (entry, first) = match &entries.program {
        Some(entry) if has_crashed(entry) => return Vec::new(),
        Some(entry) if has_archive(entry) => (entry, 0),
        _ if exists(&entries.base) => (&entries.base, cache::FIRST_OF_BASE),
        _ => return Vec::new(),
    };
    let path = |variant| file_name::of_archive(&cache::archive(entry, variant));
    (0..cache::VARIANTS)
        .map(|variant| (first + variant, path(variant)))
        .collect()
}

/// The image and the open files that restoring needs.
struct Plan<'a> {
    image: Image<'a>,
    file: &'a OwnedFd,
    files: Vec<OwnedFd>,
    /// Address of the vdso of this process.
    vdso: u64,
}

fn check<'a>(
    file: &'a ImageFile,
    image: Image<'a>,
    start: &Start,
    line: &CommandLine,
) -> Result<Plan<'a>, Refusal> {
    if [Resource::As, Resource::Data]
        .iter()
        .any(|&resource| getrlimit(resource).current.is_some())
    {
        let limited = "address space is limited (ulimit -v, ulimit -d)";
        return Err(Refusal::of_this(limited.to_owned()));
    }
    if let Some(reason) = image.key.mismatch(start, line) {
        return Err(Refusal::of_this(reason));
    }
    if let Some(path) = image.key.changed().next() {
        let path = String::from_utf8_lossy(path);
        return Err(Refusal::of_everybody(format!("{path} has changed")));
    }
    let vdso = start.auxiliary(libc::AT_SYSINFO_EHDR);
    // SAFETY: the address is the kernel's AT_SYSINFO_EHDR, or zero.
    if !unsafe { image.process.vdso.is_at(vdso) } {
        let kernel = "it was made with another kernel";
        return Err(Refusal::of_everybody(kernel.to_owned()));
    }
    let opened = image.files.iter().map(|backing| {
        let changed = || format!("{} has changed", String::from_utf8_lossy(backing.path));
        let flags = OFlags::RDONLY | OFlags::CLOEXEC;
        let file =
            rustix::fs::openat(CWD, backing.path, flags, Mode::empty()).map_err(|_| changed())?;
        let status = rustix::fs::fstat(&file).map_err(|_| changed())?;
        if FileIdentity::of(&status) == backing.identity {
            Ok(file)
        } else {
            Err(changed())
        }
    });
    let files = opened.collect::<Result<Vec<_>, String>>();
    let files = files.map_err(Refusal::of_everybody)?;
    Ok(Plan {
        image,
        file: &file.own.file,
        files,
        vdso,
    })
}

impl Plan<'_> {
    /// Replaces this process by the frozen one. Returns the reason if that is not possible.
    ///
    /// # Safety
    /// That of [`Request::restore`].
    unsafe fn carry_out(self, start: &Start, handed_over: &HandedOver) -> String {
        let process = &self.image.process;
        let refused = |name| format!("the system call {name} is refused (a filter of seccomp?)");
        if let Err(name) = kernel_state::check(process) {
            return refused(name);
        }
        let Some(ignored) = signals::ignored_signals() else {
            return refused("rt_sigaction");
        };
        let Some(arguments) = Arguments::place(start, handed_over, process) else {
            return "an address that restoring needs is in use".to_owned();
        };
        let constants: Vec<_> = start.constant_segments().collect();
        // SAFETY: an `ImageFile` has checked the image, and `check()` has opened its files in their order.
        let memory = unsafe { Memory::place(&self.image, self.file, &self.files, &constants) };
        let memory = match memory {
            Ok(memory) => memory,
            Err(reason) => {
                arguments.give_back();
                return reason;
            }
        };
        let pieces = process.signals.len() + 2 * process.vdso.parts.len();
        let most_steps = memory.most_steps() + pieces + kernel_state::STEPS;
        let mut steps = Steps::with_capacity(most_steps);
        memory.add_steps(&mut steps);
        kernel_state::add_steps(process, &arguments, ignored, &mut steps);
        let mut stack: Vec<u8> = Vec::with_capacity(STACK_BYTES);
        let top = stack.as_mut_ptr() as u64 + STACK_BYTES as u64;
        let layout = arguments.layout(process);
        if let Err(reason) = kernel_state::take_leave(process, self.vdso, &layout) {
            memory.give_back();
            arguments.give_back();
            return reason.to_owned();
        }
        // From here on, nothing may be allocated or freed.
        let context = process.context;
        // SAFETY: the steps replace all memory of this process, and they and the stack were allocated in
        // `places::HEAP`.
        unsafe { trampoline::jump(steps.as_slice(), context, top - top % 16) }
    }
}
