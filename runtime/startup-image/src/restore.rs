//! Restoring an image. First everything is checked and prepared so that the process can still fall back to the ordinary
//! start. After that there is no way back.

use alloc::borrow::ToOwned;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use rustix::fd::OwnedFd;
use rustix::fs::{CWD, Mode, OFlags};
use rustix::process::{Resource, getrlimit};

use crate::arguments::Arguments;
use crate::command_line::CommandLine;
use crate::format::{FileIdentity, Image};
use crate::image_file::ImageFile;
use crate::memory::Memory;
use crate::start::Start;
use crate::steps::Steps;
use crate::{PAGE, kernel_state, signals, streams, trampoline};

const STACK_BYTES: usize = 16 * PAGE as usize;

/// Why a process is not restored.
pub struct Refusal {
    pub text: String,
    /// Whether no process can be restored from the image, however it is started.
    pub is_of_everybody: bool,
}

impl Refusal {
    fn of_everybody(text: String) -> Self {
        Self {
            text,
            is_of_everybody: true,
        }
    }

    fn of_this(text: String) -> Self {
        Self {
            text,
            is_of_everybody: false,
        }
    }
}

/// The image that a start asks for.
pub struct Request<'a> {
    start: &'a Start<'a>,
    line: CommandLine,
    path: Vec<u8>,
}

impl<'a> Request<'a> {
    /// The request of the command line or of a variable.
    pub fn of(start: &'a Start) -> Option<Self> {
        // A set-user-ID program must not take the name of a file from the user who started it (secure_getenv(3)).
        if start.auxiliary(libc::AT_SECURE) != 0 {
            return None;
        }
        let arguments: Vec<&[u8]> = start.arguments.iter().map(|text| text.to_bytes()).collect();
        let line = CommandLine::parse(&arguments)?;
        let variable = |name: &[u8]| start.variable(name);
        let path = line.startup_image(variable)?;
        // Only an ordinary start can write these records.
        let records = ["cds_trace", "cds_profile", "cds_image"];
        let is_recorded = records
            .iter()
            .any(|name| line.setting(name, variable).is_some());
        (!is_recorded).then_some(Self { start, line, path })
    }

    /// Restores the image if it fits, and does not return then. Returns the reason if the image does not fit, and none
    /// if there is no image.
    ///
    /// # Safety
    /// This process has no other thread. It has only the mappings that the kernel makes for a program that is not
    /// position-independent, and [`places::HEAP`], where all allocated memory lies.
    pub unsafe fn restore(&self) -> Option<Refusal> {
        // If a standard stream is closed, the image is opened with its file descriptor. So look before.
        let unusable = streams::unusable();
        let mut refusal = match ImageFile::open(&self.path) {
            Ok(None) => return None,
            Ok(Some(_)) if let Some(name) = unusable => {
                Refusal::of_this(format!("{name} is closed or is a directory"))
            }
            Ok(Some(file)) => match self.plan(&file) {
                // SAFETY: the caller guarantees that no other thread runs and that nothing else is mapped.
                Ok(plan) => Refusal::of_this(unsafe { plan.carry_out(self.start) }),
                Err(refusal) => refusal,
            },
            Err(reason) => Refusal::of_everybody(reason),
        };
        let path = String::from_utf8_lossy(&self.path);
        refusal.text = format!("{path} is not used: {}", refusal.text);
        Some(refusal)
    }

    fn plan<'f>(&self, file: &'f ImageFile) -> Result<Plan<'f>, Refusal> {
        let image = file.image().map_err(Refusal::of_everybody)?;
        check(file, image, self.start, &self.line)
    }
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
        file: &file.file,
        files,
        vdso,
    })
}

impl Plan<'_> {
    /// Replaces this process by the frozen one. Returns the reason if that is not possible.
    ///
    /// # Safety
    /// That of [`Request::restore`].
    unsafe fn carry_out(self, start: &Start) -> String {
        let process = &self.image.process;
        let refused = |name| format!("the system call {name} is refused (a filter of seccomp?)");
        if let Err(name) = kernel_state::check(process) {
            return refused(name);
        }
        let Some(ignored) = signals::ignored_signals() else {
            return refused("rt_sigaction");
        };
        let Some(arguments) = Arguments::place(start, process) else {
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
