//! Where a watched program is stopped: before it first looks at what differs from run to run, or does what others can
//! see.
//!
//! At the ends of imports the program forks *candidates* (`program.rs`), which the tracer keeps stopped. When the
//! program is about to look, the tracer kills the program and continues the last candidate, which becomes the image. So
//! an image depends on nothing that its key does not compare, and nothing that others can see is done.

use std::collections::BTreeSet;
use std::ffi::c_long;
use std::path::Path;

use startup_image::facts::Fact;

use super::looks;
use super::watch::Watch;
use crate::cpython::frames::Files;
use crate::image::taking::message::{ASKS, BEGINS, EARLY, FORKS, KEEPS, LEAVES, LOOKS, NOTED};
use crate::image::taking::process_attributes;

/// What follows from a look of the program.
pub enum Verdict {
    Harmless,
    /// The key of the image compares it.
    Compared(Fact),
    /// The program is stopped.
    Counts,
}

/// System calls that stop a program, although `looks.rs` lists most of them as harmless. With these the process ends,
/// executes another program, waits for children, or gets memory that no image can contain.
const ENDING: [(c_long, &str); 9] = [
    (libc::SYS_execve, "the execution of another program"),
    (libc::SYS_execveat, "the execution of another program"),
    (libc::SYS_exit_group, ITS_END),
    (libc::SYS_mlock, MEMORY),
    (libc::SYS_mlock2, MEMORY),
    (libc::SYS_mlockall, MEMORY),
    (libc::SYS_wait4, "waiting for child processes"),
    (libc::SYS_waitid, "waiting for child processes"),
    (libc::SYS_userfaultfd, MEMORY),
];
const MEMORY: &str = "memory that cannot be restored";
pub const ITS_END: &str = "its end";

/// The program while it runs.
pub struct Program<'a> {
    watch: Watch<'a>,
    has_begun: bool,
    /// Whether the process is currently forking a candidate.
    pub is_forking: bool,
    /// Whether the attributes of the process are known to be as the process has noted them.
    pub has_same_attributes: bool,
    forked: Option<i32>,
    candidate: Option<Candidate>,
    /// Candidates that have stopped before their first instruction.
    waiting: BTreeSet<i32>,
    /// All candidates so far. The tracer hides their end from the program.
    all: BTreeSet<i32>,
}

/// A process that may become the image.
#[derive(Clone, Copy)]
pub struct Candidate {
    pub process: i32,
    /// The length of the record at the fork. Later entries do not concern the image.
    pub recorded: usize,
}

/// What the tracer has to do after a system call that may be a message.
pub enum Message {
    /// The call is no message.
    Nothing,
    /// Nothing more is to be done.
    Mark,
    /// The process asks whether its attributes are as it has noted them.
    Asks,
    /// This candidate is not needed any more, and is to be killed.
    Superseded(i32),
    /// The program looks at this, and is to be stopped.
    Look(String),
}

impl<'a> Program<'a> {
    pub fn new(watch: Watch<'a>) -> Self {
        Self {
            watch,
            has_begun: false,
            is_forking: false,
            has_same_attributes: false,
            forked: None,
            candidate: None,
            waiting: BTreeSet::new(),
            all: BTreeSet::new(),
        }
    }

    /// Whether a path may be a message.
    pub fn is_mark(&self, path: &[u8]) -> bool {
        path.starts_with(self.watch.request)
    }

    /// The message of a path in a system call of the process. `recorded` is the length of the record.
    pub fn message(&mut self, path: &[u8], recorded: usize) -> Message {
        let Some(mark) = path.strip_prefix(self.watch.request) else {
            return Message::Nothing;
        };
        let mark = String::from_utf8_lossy(mark);
        if let Some(what) = mark.strip_prefix(LOOKS) {
            let counts = self.has_begun && !self.is_forking;
            return if counts {
                Message::Look(what.to_owned())
            } else {
                Message::Mark
            };
        }
        if let Some(what) = mark.strip_prefix(EARLY) {
            return Message::Look(what.to_owned());
        }
        match &*mark {
            NOTED => self.has_same_attributes = true,
            ASKS => return Message::Asks,
            BEGINS => self.has_begun = true,
            FORKS => self.is_forking = true,
            KEEPS | LEAVES => {
                self.is_forking = false;
                let forked = self.forked.take();
                if mark == LEAVES {
                    return forked.map_or(Message::Mark, Message::Superseded);
                }
                let kept = forked.map(|process| Candidate { process, recorded });
                let former = std::mem::replace(&mut self.candidate, kept);
                if let Some(former) = former {
                    return Message::Superseded(former.process);
                }
            }
            _ => return Message::Nothing,
        }
        Message::Mark
    }

    /// Notes a process that was forked and is stopped. Returns whether it is a candidate.
    pub fn forks(&mut self, process: i32) -> bool {
        if self.is_forking {
            self.forked = Some(process);
            self.all.insert(process);
        }
        self.is_forking
    }

    /// Whether a process is, or was, a candidate.
    pub fn has_forked(&self, process: i32) -> bool {
        self.all.contains(&process)
    }

    /// Notes that a candidate has stopped.
    pub fn waits(&mut self, process: i32) {
        self.waiting.insert(process);
    }

    /// Whether a candidate has stopped.
    pub fn is_waiting(&self, process: i32) -> bool {
        self.waiting.contains(&process)
    }

    /// All candidates so far.
    pub fn all(&self) -> impl Iterator<Item = i32> {
        self.all.iter().copied()
    }

    /// Notes a system call of the program, or of a process that it has forked.
    pub fn calls(&mut self, number: c_long, arguments: [u64; 6]) {
        self.has_same_attributes &= process_attributes::are_kept_by(number, arguments);
    }

    /// What a system call looks at or does that counts only for a program, not for imports of a list.
    pub fn of_system_call(&self, number: c_long, arguments: [u64; 6]) -> Option<&'static str> {
        const COSTLY_ADVICE: [i32; 2] = [libc::MADV_DONTFORK, libc::MADV_WIPEONFORK];
        if number == libc::SYS_madvise && COSTLY_ADVICE.contains(&(arguments[2] as i32)) {
            return Some(MEMORY);
        }
        let mut ending = ENDING.iter();
        let found = ending.find(|(ending, _)| *ending == number);
        found.map(|(_, what)| *what)
    }

    /// What follows from a look of code in these files. Looks of the interpreter before the program begins are
    /// harmless, because each start repeats them. Looks of `.pth` files and `sitecustomize` are not repeated, so they
    /// count.
    pub fn judge(&self, what: &str, files: &Files) -> Verdict {
        let is_of_program = self.has_begun || !files.modules.is_empty();
        // Code of `cds` writes only for the program: in the watched `reconfigure()` of a stream.
        let is_written = [looks::OUTPUT, looks::ERRORS].contains(&what);
        let is_own = !is_written && files.functions.iter().any(|file| self.is_own(file));
        if !is_of_program || is_own || self.is_forking {
            return Verdict::Harmless;
        }
        let module = files.modules.first();
        let function = files.functions.first();
        let excuse = module.and_then(|file| self.watch.excuse(what, file));
        let excuse =
            excuse.or_else(|| function.and_then(|file| self.watch.excuse_of_functions(what, file)));
        match excuse {
            Some(None) => Verdict::Harmless,
            Some(Some(fact)) => Verdict::Compared(fact),
            None => Fact::of_name(what).map_or(Verdict::Counts, Verdict::Compared),
        }
    }

    /// What the program looked at, and in which files, for messages.
    pub fn described(&self, what: &str, files: &Files) -> String {
        let others = |files: &[String]| files.iter().find(|file| !self.is_own(file)).cloned();
        match (others(&files.functions), others(&files.modules)) {
            (Some(function), Some(module)) if function != module => {
                format!("{what}, in {function}, called by {module}")
            }
            (Some(file), _) | (None, Some(file)) => format!("{what}, in {file}"),
            (None, None) => what.to_owned(),
        }
    }

    fn is_own(&self, file: &str) -> bool {
        Path::new(file).starts_with(self.watch.own_directory)
    }

    /// The candidate that becomes the image, if there is one.
    pub fn candidate(&self) -> Option<Candidate> {
        self.candidate
    }
}
