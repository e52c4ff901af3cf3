//! Where a program is stopped that is watched: before it first looks at what differs from run to run, or does what
//! others can see.
//!
//! At the ends of imports the program forks *candidates* (`program.rs`), which the tracer does not let run. When the
//! program is about to look, it is killed, and the candidate that it has forked last goes on in its place, to become
//! the image. So nothing is in an image that depends on what its key does not compare, and nothing that others can see
//! is done.

use std::collections::BTreeSet;
use std::ffi::{c_int, c_long};
use std::path::Path;

use startup_image::facts::Fact;

use super::looks;
use super::watch::Watch;
use crate::cpython::frames::Files;
use crate::image::taking::process_attributes;

/// What becomes of what a program looks at.
pub enum Verdict {
    Harmless,
    /// The key of the image has it.
    Compared(Fact),
    /// The program is stopped.
    Counts,
}

/// What the process that runs the program tells by a system call for a path: that of its request, with one of these behind it.
pub const BEGINS: &str = ".begins";
/// It is about to fork a candidate. The call fails with [`AS_BEFORE`] if it has changed none of its attributes since it has
/// forked one, so that it need not ask for them.
pub const FORKS: &str = ".forks";
pub const AS_BEFORE: c_int = libc::ECANCELED;
/// It has forked one, which can become an image.
pub const KEEPS: &str = ".keeps";
/// It has forked none, or one that is of no use.
pub const LEAVES: &str = ".leaves";
/// It is about to look at what the name says that follows.
pub const LOOKS: &str = ".looks.";
/// The same before the program begins.
pub const EARLY: &str = ".early.";

/// System calls that a program is stopped at, though `looks.rs` has most of them as harmless: with these it ends, becomes another
/// program, waits for children, or gets memory that no image can have.
const ENDING: [(c_long, &str); 9] = [
    (libc::SYS_execve, "another program, which it becomes"),
    (libc::SYS_execveat, "another program, which it becomes"),
    (libc::SYS_exit_group, ITS_END),
    (libc::SYS_mlock, MEMORY),
    (libc::SYS_mlock2, MEMORY),
    (libc::SYS_mlockall, MEMORY),
    (libc::SYS_wait4, "other processes"),
    (libc::SYS_waitid, "other processes"),
    (libc::SYS_userfaultfd, MEMORY),
];
const MEMORY: &str = "memory that cannot be restored";
pub const ITS_END: &str = "its end";

/// The program while it runs.
pub struct Program<'a> {
    watch: Watch<'a>,
    has_begun: bool,
    /// Whether the process does nothing but fork a candidate.
    pub is_forking: bool,
    /// Whether the attributes of the process are known to be as they were when it has forked a candidate.
    pub has_same_attributes: bool,
    forked: Option<i32>,
    candidate: Option<Candidate>,
    /// Those that have stopped before their first instruction.
    waiting: BTreeSet<i32>,
    /// All that were ever forked: the program is not told of their end.
    all: BTreeSet<i32>,
}

/// A process that may become the image.
#[derive(Clone, Copy)]
pub struct Candidate {
    pub process: i32,
    /// How long the record was when it was forked: what comes later is not in the image.
    pub recorded: usize,
}

/// What is to be done after a system call that tells something.
pub enum Message {
    /// It tells nothing.
    Nothing,
    /// Nothing but to take notice.
    Mark,
    /// It is about to fork a candidate.
    Forks,
    /// Another candidate has taken the place of this one.
    Superseded(i32),
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

    /// Whether a path may tell something.
    pub fn is_mark(&self, path: &[u8]) -> bool {
        path.starts_with(self.watch.request)
    }

    /// What a path tells in a system call of the process; `recorded` is how long the record is.
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
            BEGINS => self.has_begun = true,
            FORKS => {
                self.is_forking = true;
                return Message::Forks;
            }
            KEEPS | LEAVES => {
                self.is_forking = false;
                let forked = self.forked.take();
                if mark == LEAVES {
                    return forked.map_or(Message::Mark, Message::Superseded);
                }
                // Otherwise it would not have forked.
                self.has_same_attributes = true;
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

    /// Takes notice of a process that was forked, and is stopped; returns whether it is a candidate.
    pub fn forks(&mut self, process: i32) -> bool {
        if self.is_forking {
            self.forked = Some(process);
            self.all.insert(process);
        }
        self.is_forking
    }

    /// Whether it is, or was, a candidate.
    pub fn has_forked(&self, process: i32) -> bool {
        self.all.contains(&process)
    }

    /// Takes notice that one of them has stopped.
    pub fn waits(&mut self, process: i32) {
        self.waiting.insert(process);
    }

    /// Whether it has stopped.
    pub fn is_waiting(&self, process: i32) -> bool {
        self.waiting.contains(&process)
    }

    /// Every process that it has forked as a candidate.
    pub fn all(&self) -> impl Iterator<Item = i32> {
        self.all.iter().copied()
    }

    /// Takes notice of a system call that the program makes, or a process that it has forked.
    pub fn calls(&mut self, number: c_long) {
        self.has_same_attributes &= process_attributes::are_kept_by(number);
    }

    /// What a system call looks at or does that counts for no other process.
    pub fn of_system_call(&self, number: c_long, arguments: [u64; 6]) -> Option<&'static str> {
        const COSTLY_ADVICE: [i32; 2] = [libc::MADV_DONTFORK, libc::MADV_WIPEONFORK];
        if number == libc::SYS_madvise && COSTLY_ADVICE.contains(&(arguments[2] as i32)) {
            return Some(MEMORY);
        }
        let mut ending = ENDING.iter();
        let found = ending.find(|(ending, _)| *ending == number);
        found.map(|(_, what)| *what)
    }

    /// What becomes of a look from code in these files. What the interpreter does before the program begins is done at
    /// each start, too; what `.pth` files and `sitecustomize` do then is not.
    pub fn judge(&self, what: &str, files: &Files) -> Verdict {
        let is_of_program = self.has_begun || !files.modules.is_empty();
        // Code of `cds` writes for the program only: `reconfigure()` of a stream does, which is watched.
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

    /// What it has looked at, and where, for messages.
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
