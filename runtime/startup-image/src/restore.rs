//! Restoring: everything is checked and prepared while the process could still do without; then there is no way back.

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
    /// Whether the image has no process restored any more, however it is started.
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
    pub unsafe fn restore(&self) -> Option<Refusal> {
        // The image would be opened as one that is closed.
        let unusable = streams::unusable();
        let mut refusal = match ImageFile::open(&self.path) {
            Ok(None) => return None,
            Ok(Some(_)) if let Some(name) = unusable => {
                Refusal::of_this(format!("{name} is closed, or a directory"))
            }
            Ok(Some(file)) => match self.plan(&file) {
                // SAFETY: nothing else runs or is mapped, as the caller knows, so the memory of the process can be replaced.
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
    // SAFETY: the kernel has said where it is.
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
    /// Replaces this process; returns the reason if that was not possible.
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
            return "the address that restoring needs is taken".to_owned();
        };
        let constants: Vec<_> = start.constant_segments().collect();
        // SAFETY: file and image come from an `ImageFile`, and the files were opened for this image.
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
        // From here on nothing may be allocated, nor freed.
        let context = process.context;
        // SAFETY: the steps were made for it.
        unsafe { trampoline::jump(steps.as_slice(), context, top - top % 16) }
    }
}
