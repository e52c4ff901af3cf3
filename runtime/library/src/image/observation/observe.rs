//! Running an interpreter that is watched while it imports (ptrace(2)): what files does it look at, and what variables
//! does it read, be it from Python or from C?
//!
//! Of files the system calls tell, of variables breakpoints and a watchpoint ([`mod@super::breakpoints`]).
//!
//! The interpreter says that it has done its imports by opening the record: then it is let go, so that nothing of this
//! is in its memory when it is frozen. A program is watched in the same way, and stopped where its image is to be taken
//! ([`mod@super::point`]).

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::{CString, OsStr, c_int, c_long, c_uint};
use std::fs;
use std::io::{self, Error, PipeWriter, Write};
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::ptr;
use std::sync::atomic::{AtomicI32, Ordering};

use startup_image::key::counts_in_whole;

use super::breakpoints::{Breakpoint, Breakpoints, CLOCK_READ, Entry, Trap, VARIABLE, WALKED};
use super::creations::made_by;
use super::looks;
use super::point::{self, AS_BEFORE, Candidate, Message, Program, Verdict};
use super::pseudo_terminal::PseudoTerminal;
use super::same_processor::SameProcessor;
use super::tracee::{
    absolute, answer, entered, go_on, kill, ptrace, text, wait, wait_for_adopted, word,
};
use super::watch::{ABANDONED, Command, Outcome, Watch};
use crate::cpython::frames::{self, Files};

/// The first byte of what the record says; a name follows, and a NUL.
const OPENED: u8 = b'o';
/// The path finder has listed a directory.
const SEARCHED: u8 = b'f';
const CREATED: u8 = b'c';
const LOOKED_AT: u8 = b'l';
/// The same by code that is interested in more than whether it is a directory.
const STATUS: u8 = b'a';
/// It was not there before this call, which may have made it.
const MADE: u8 = b'm';
/// Without a name: the number of processors was asked for.
const PROCESSORS: u8 = b'p';
/// With the number of a standard stream: it was asked whether that is a terminal, or for the terminal's size.
const TERMINAL: u8 = b't';
const TERMINAL_SIZE: u8 = b's';
/// Without a name: what is done at a signal was changed. Whoever starts the process may have had it ignored.
const SIGNALS: u8 = b'g';
/// Without a name: the working directory was asked for, or a path was relative to it.
const DIRECTORY: u8 = b'd';
const RELATIVE: u8 = b'r';
/// The name of a fact that a program has asked for.
const FACT: u8 = b'n';

/// What differs from run to run, or can be seen by others; two lines follow, of files with tabs
/// between them: of the functions that did so, and of the modules that were being imported then.
const LOOK: u8 = b'x';
/// What a program was stopped at.
const ENDED: u8 = b'e';

/// Programs whose answers depend on no variables but those that are compared anyway; `platform` asks them.
const INDIFFERENT: [&str; 2] = ["/usr/bin/uname", "/bin/uname"];

/// How a stop at a system call differs from a signal (PTRACE_O_TRACESYSGOOD).
const SYSTEM_CALL: c_int = libc::SIGTRAP | 0x80;
const OPTIONS: c_int = libc::PTRACE_O_TRACESYSGOOD
    | libc::PTRACE_O_TRACECLONE
    | libc::PTRACE_O_TRACEFORK
    | libc::PTRACE_O_TRACEVFORK
    | libc::PTRACE_O_TRACEEXEC
    | libc::PTRACE_O_EXITKILL;

/// Runs a command with an environment, and with its output on standard error; if that is a program that an image is to be taken
/// of, until it is to be stopped. Then it is the process that becomes the image whose end is waited for.
///
/// The calling thread becomes the tracer, and must end afterwards. `child` gets the process id.
///
/// # Errors
/// It cannot be watched. It has been killed then, if it ran at all.
pub fn run_observed(
    command: &Command,
    record: &Path,
    child: &AtomicI32,
    watch: Option<Watch>,
) -> Result<Outcome, String> {
    let breakpoints =
        Breakpoints::new(&command.clock).ok_or("functions to be watched are not found")?;
    let terminal = command.terminal.as_ref().map(PseudoTerminal::new);
    let terminal = terminal
        .transpose()
        .map_err(|error| format!("cannot make a pseudo-terminal: {error}"))?;
    // The process that is to be waited for is a child of the program, which is killed.
    let _adopts = watch.is_some().then(Adoption::begin);
    let (pid, gate) =
        start(command, terminal.as_ref()).map_err(|error| format!("cannot fork: {error}"))?;
    child.store(pid, Ordering::Relaxed);
    let mut observer = Observer {
        leader: pid,
        child,
        program: watch.map(Program::new),
        candidates: Vec::new(),
        looked_at: None,
        has_started: false,
        tracees: BTreeSet::from([pid]),
        breakpoints,
        passed: BTreeMap::new(),
        processor: SameProcessor::with(pid),
        path: record,
        record: Vec::new(),
        end: None,
    };
    let status = ptrace(libc::PTRACE_SEIZE, pid, 0, OPTIONS as u64).and_then(|_| {
        (&gate).write_all(b"\n")?;
        drop(gate);
        observer.follow()
    });
    let status = status.map_err(|error| {
        // SAFETY: it is our child, and not waited for yet.
        unsafe { libc::kill(pid, libc::SIGKILL) };
        while wait(pid).is_ok_and(|(_, status)| libc::WIFSTOPPED(status)) {}
        format!("ptrace: {error}")
    })?;
    for &candidate in &observer.candidates {
        // SAFETY: it was a child of the program, and is one of this process now.
        unsafe { libc::waitpid(candidate, ptr::null_mut(), libc::WNOHANG | libc::__WALL) };
    }
    Ok(Outcome {
        status: if libc::WIFSIGNALED(status) {
            -libc::WTERMSIG(status)
        } else {
            libc::WEXITSTATUS(status)
        },
        looked_at: observer.looked_at,
    })
}

/// While there is one, this process becomes the parent of processes whose parents have ended.
struct Adoption(c_int);

impl Adoption {
    fn begin() -> Self {
        let mut former = 0;
        // SAFETY: writes to the variable.
        unsafe { libc::prctl(libc::PR_GET_CHILD_SUBREAPER, &raw mut former) };
        Self::set(1);
        Self(former)
    }

    fn set(adopts: c_int) {
        // SAFETY: takes a number.
        unsafe { libc::prctl(libc::PR_SET_CHILD_SUBREAPER, c_long::from(adopts)) };
    }
}

impl Drop for Adoption {
    fn drop(&mut self) {
        Self::set(self.0);
    }
}

/// Forks a process that runs a command once something is written to the pipe.
fn start(command: &Command, terminal: Option<&PseudoTerminal>) -> io::Result<(i32, PipeWriter)> {
    let (waits, gate) = io::pipe()?;
    let array = |texts: &[CString]| -> Vec<_> {
        let texts = texts.iter().map(|text| text.as_ptr());
        texts.chain([ptr::null()]).collect()
    };
    let (argv, envp) = (array(&command.arguments), array(&command.environment));
    let own_gate = gate.as_raw_fd();
    // SAFETY: the child calls nothing but what signal handlers may call (signal-safety(7)), and the arrays end with NULL.
    let pid = unsafe {
        let pid = libc::fork();
        if pid == 0 {
            libc::close(own_gate);
            let mut byte = 0_u8;
            if libc::read(waits.as_raw_fd(), (&raw mut byte).cast(), 1) == 1 {
                libc::dup2(libc::STDERR_FILENO, libc::STDOUT_FILENO);
                // Imports that ask for a terminal are to find the one that there is.
                if libc::isatty(libc::STDIN_FILENO) == 0 {
                    libc::close(libc::STDIN_FILENO);
                    libc::open(c"/dev/null".as_ptr(), libc::O_RDONLY);
                }
                if let Some(terminal) = terminal {
                    terminal.become_streams();
                }
                // No signal is ignored, though this process may (nohup, a shell's `&`).
                for signal in 1..=libc::SIGRTMAX() {
                    libc::signal(signal, libc::SIG_DFL);
                }
                libc::syscall(
                    libc::SYS_close_range,
                    3,
                    c_uint::MAX,
                    libc::CLOSE_RANGE_CLOEXEC,
                );
                libc::execve(argv[0], argv.as_ptr(), envp.as_ptr());
            }
            libc::_exit(127);
        }
        pid
    };
    if pid < 0 {
        return Err(Error::last_os_error());
    }
    Ok((pid, gate))
}

struct Observer<'a> {
    leader: i32,
    /// Who might want to kill it finds it here.
    child: &'a AtomicI32,
    /// The program, until it is stopped; none if the process only imports.
    program: Option<Program<'a>>,
    /// All processes that the program has forked to become the image.
    candidates: Vec<i32>,
    /// What a program has looked at that has forked none.
    looked_at: Option<String>,
    /// Whether it runs the command yet, and not the fork of this process.
    has_started: bool,
    /// All that are traced: the threads of the process, and processes that it has forked, until they run something else.
    /// These have the breakpoints in their memory, too.
    tracees: BTreeSet<i32>,
    breakpoints: Breakpoints,
    /// What processes get from the environment that are about to run something else.
    passed: BTreeMap<i32, Vec<Entry>>,
    processor: SameProcessor,
    path: &'a Path,
    record: Vec<u8>,
    /// How the process has ended.
    end: Option<c_int>,
}

impl Observer<'_> {
    /// Returns how the process has ended.
    fn follow(&mut self) -> io::Result<c_int> {
        loop {
            if let Some(status) = self.end {
                self.let_go(None)?;
                return Ok(status);
            }
            let (pid, status) = match wait(-1) {
                // The program is dead, and what goes on in its place is not traced any more.
                Err(error) if error.raw_os_error() == Some(libc::ECHILD) => {
                    let (pid, status) = wait_for_adopted(self.leader)?;
                    self.ended(pid, status)?;
                    continue;
                }
                changed => changed?,
            };
            unless_killed(self.changed(pid, status))?;
        }
    }

    fn changed(&mut self, pid: i32, status: c_int) -> io::Result<()> {
        if !libc::WIFSTOPPED(status) {
            return self.ended(pid, status);
        }
        let is_new = self.tracees.insert(pid);
        let is_new_process = is_new && !self.is_thread(pid);
        if let Some(program) = &mut self.program
            && (program.has_forked(pid) || is_new_process && program.forks(pid))
        {
            program.waits(pid);
            return Ok(());
        }
        if let Some((kind, name)) = self.breakpoints.watch(pid) {
            self.add(kind, &name);
        }
        let signal = libc::WSTOPSIG(status);
        match status >> 16 {
            0 if signal == SYSTEM_CALL => {
                if self.system_call(pid)? {
                    return self.finish(pid);
                }
                go_on(pid, 0)
            }
            0 if signal == libc::SIGTRAP => self.trapped(pid),
            0 if signal == libc::SIGCHLD && self.is_about_candidate(pid)? => go_on(pid, 0),
            0 => go_on(pid, signal),
            libc::PTRACE_EVENT_EXEC if pid == self.leader => {
                self.has_started = true;
                self.breakpoints.forget();
                go_on(pid, 0)
            }
            libc::PTRACE_EVENT_EXEC => {
                self.program_started(pid);
                self.forget(pid);
                ptrace(libc::PTRACE_DETACH, pid, 0, 0).map(drop)
            }
            libc::PTRACE_EVENT_STOP if signal != libc::SIGTRAP => {
                // It is stopped as without a tracer (Ctrl-Z).
                ptrace(libc::PTRACE_LISTEN, pid, 0, 0).map(drop)
            }
            event => {
                self.add_new(pid, event)?;
                go_on(pid, 0)
            }
        }
    }

    fn forget(&mut self, pid: i32) {
        self.tracees.remove(&pid);
        self.passed.remove(&pid);
        self.breakpoints.forget_thread(pid);
        self.processor.forget(pid);
    }

    fn ended(&mut self, pid: i32, status: c_int) -> io::Result<()> {
        self.forget(pid);
        if pid == self.leader && self.program.is_some() {
            // It was not stopped at its end, which is waited for already.
            let how = if libc::WIFSIGNALED(status) {
                format!("by signal {}", libc::WTERMSIG(status))
            } else {
                format!("with status {}", libc::WEXITSTATUS(status))
            };
            self.go_on_without(format!("{} {how}", point::ITS_END))?;
        }
        if pid == self.leader {
            self.end = Some(status);
        }
        Ok(())
    }

    /// Whether a signal to a process is about the end of a child that it does not know.
    fn is_about_candidate(&self, pid: i32) -> io::Result<bool> {
        let Some(program) = &self.program else {
            return Ok(false);
        };
        // SAFETY: zeros are valid, and the kernel fills it in.
        let child = unsafe {
            let mut info: libc::siginfo_t = std::mem::zeroed();
            ptrace(libc::PTRACE_GETSIGINFO, pid, 0, &raw mut info as u64)?;
            info.si_pid()
        };
        Ok(program.has_forked(child))
    }

    /// Waits until a process is dead that was killed: its candidate would die with it.
    fn wait_for_death(&mut self, program: i32, candidate: i32) -> io::Result<()> {
        loop {
            let (pid, status) = wait(-1)?;
            if !libc::WIFSTOPPED(status) {
                self.forget(pid);
            } else if pid == candidate
                && let Some(program) = &mut self.program
            {
                program.waits(pid);
            }
            if pid == program && !libc::WIFSTOPPED(status) {
                return Ok(());
            }
        }
    }

    /// Kills the program, which is about to look at something, from code in these files; and has the candidate go on that it has
    /// forked last.
    fn stop_program(&mut self, what: &str, files: &Files) -> io::Result<()> {
        let Some(program) = &self.program else {
            return Ok(());
        };
        let what = program.described(what, files);
        let candidate = program.candidate();
        let leader = self.leader;
        kill(leader);
        if let Some(candidate) = candidate {
            self.wait_for_death(leader, candidate.process)?;
        }
        self.go_on_without(what)
    }

    /// Has the candidate go on that the program has forked last, which is dead, or dies.
    fn go_on_without(&mut self, what: String) -> io::Result<()> {
        let Some(program) = self.program.take() else {
            return Ok(());
        };
        self.candidates = program.all().collect();
        let chosen = program.candidate();
        for &tracee in &self.tracees {
            if chosen.is_none_or(|chosen| chosen.process != tracee) {
                kill(tracee);
            }
        }
        let Some(Candidate { process, recorded }) = chosen else {
            self.looked_at = Some(what);
            return Ok(());
        };
        if !program.is_waiting(process) {
            wait(process)?;
        }
        self.record.truncate(recorded);
        self.add(ENDED, in_a_line(&what).as_bytes());
        self.leader = process;
        if self.child.swap(process, Ordering::Relaxed) == ABANDONED {
            kill(process);
            return Ok(());
        }
        if let Some((kind, name)) = self.breakpoints.watch(process) {
            self.add(kind, &name);
        }
        go_on(process, 0)
    }

    /// Notes what a thread or process has just started.
    fn add_new(&mut self, pid: i32, event: c_int) -> io::Result<()> {
        let starts = [
            libc::PTRACE_EVENT_CLONE,
            libc::PTRACE_EVENT_FORK,
            libc::PTRACE_EVENT_VFORK,
        ];
        if starts.contains(&event) {
            let mut new: libc::c_ulong = 0;
            ptrace(libc::PTRACE_GETEVENTMSG, pid, 0, &raw mut new as u64)?;
            let new = new as i32;
            self.tracees.insert(new);
            if let Some(program) = &mut self.program
                && event == libc::PTRACE_EVENT_FORK
            {
                program.forks(new);
            }
        }
        Ok(())
    }

    /// Records a system call that is about a path; returns whether it is the one that ends the record.
    fn system_call(&mut self, pid: i32) -> io::Result<bool> {
        let Some((number, arguments)) = entered(pid)? else {
            return Ok(false);
        };
        if !self.has_started {
            return Ok(false);
        }
        self.processor.calls(pid, number);
        if !self.breakpoints.are_set() && pid == self.leader {
            self.breakpoints.set(pid)?;
        }
        let is_forking = |program: &Program| program.is_forking;
        if !self.program.as_ref().is_some_and(is_forking) {
            if let Some(program) = &mut self.program {
                program.calls(number);
            }
            self.note_creation(pid, number, arguments)?;
            let ending = self
                .program
                .as_ref()
                .and_then(|program| program.of_system_call(number, arguments));
            let what = match ending {
                Some(what) => Some(what.to_owned()),
                None if self.is_mark(pid, number, arguments[0]) => None,
                None => looks::of_system_call(pid, number, arguments)?,
            };
            if let Some(what) = what
                && self.note_look(pid, &what)?
            {
                return Ok(false);
            }
        }
        let [first, second, third, ..] = arguments;
        let here = libc::AT_FDCWD as u64;
        let (directory, path, kind) = match number {
            libc::SYS_open => (here, first, use_of(second)),
            libc::SYS_openat => (first, second, use_of(third)),
            // The flags are the first word of `struct open_how`.
            libc::SYS_openat2 => (first, second, use_of(word(pid, third))),
            libc::SYS_stat | libc::SYS_lstat | libc::SYS_access | libc::SYS_readlink => {
                (here, first, Some(LOOKED_AT))
            }
            libc::SYS_newfstatat
            | libc::SYS_statx
            | libc::SYS_faccessat
            | libc::SYS_faccessat2
            | libc::SYS_readlinkat => (first, second, Some(LOOKED_AT)),
            libc::SYS_sched_getaffinity => {
                self.add(PROCESSORS, b"");
                return Ok(false);
            }
            libc::SYS_rt_sigaction => {
                // These are the C library's own.
                let is_internal = [32, 33].contains(&first);
                if second != 0 && !is_internal {
                    self.add(SIGNALS, b"");
                }
                return Ok(false);
            }
            libc::SYS_getcwd => {
                self.add(DIRECTORY, b"");
                return Ok(false);
            }
            libc::SYS_execve | libc::SYS_execveat => {
                let is_at = number == libc::SYS_execveat;
                self.program_starts(pid, arguments[if is_at { 3 } else { 2 }])?;
                return Ok(false);
            }
            libc::SYS_ioctl => {
                self.terminal_asked(first, second);
                return Ok(false);
            }
            _ => return Ok(false),
        };
        let Some(mut kind) = kind else {
            return Ok(false);
        };
        let Some(path) = text(pid, path).filter(|path| !path.is_empty()) else {
            return Ok(false);
        };
        self.processor.uses(pid, &path);
        if let Some(program) = &mut self.program {
            match program.message(&path, self.record.len()) {
                Message::Nothing if program.is_forking => return Ok(false),
                Message::Nothing => {}
                Message::Mark => return Ok(false),
                Message::Forks => {
                    if program.has_same_attributes {
                        answer(pid, AS_BEFORE)?;
                    }
                    return Ok(false);
                }
                Message::Superseded(candidate) => {
                    kill(candidate);
                    return Ok(false);
                }
                Message::Look(what) => {
                    let files = frames::files_of(pid).unwrap_or_default();
                    self.stop_program(&what, &files)?;
                    return Ok(false);
                }
            }
        }
        let is_link = matches!(number, libc::SYS_readlink | libc::SYS_readlinkat);
        if kind == LOOKED_AT && !is_link && !frames::asks_for_kind(pid).unwrap_or(false) {
            kind = STATUS;
        }
        let is_listed = third as c_int & libc::O_DIRECTORY != 0;
        if number == libc::SYS_openat && is_listed && frames::is_path_finder(pid).unwrap_or(false) {
            kind = SEARCHED;
        }
        if pid == self.leader && path == self.path.as_os_str().as_bytes() {
            return Ok(true);
        }
        if directory as i32 == libc::AT_FDCWD && !path.starts_with(b"/") {
            self.add(RELATIVE, b"");
        }
        if let Some(path) = absolute(pid, directory as i32, path) {
            self.add(kind, &path);
        }
        Ok(false)
    }

    /// Whether a system call with this first argument is the way in which the program tells something (`program.rs`).
    fn is_mark(&self, pid: i32, number: c_long, path: u64) -> bool {
        match &self.program {
            Some(program) if number == libc::SYS_access => {
                text(pid, path).is_some_and(|path| program.is_mark(&path))
            }
            _ => false,
        }
    }

    /// Takes notice of a look. Returns whether the process, which is stopped, does not go on.
    fn note_look(&mut self, pid: i32, what: &str) -> io::Result<bool> {
        if let Some(program) = &self.program {
            let files = files_of(pid, what).unwrap_or_default();
            match program.judge(what, &files) {
                Verdict::Harmless => return Ok(false),
                Verdict::Compared(fact) => {
                    self.add(FACT, fact.name().as_bytes());
                    return Ok(false);
                }
                Verdict::Counts => {
                    self.stop_program(what, &files)?;
                    return Ok(true);
                }
            }
        }
        // Another process that was forked is one look itself.
        if self.is_thread(pid)
            && let Ok(Files { functions, modules }) = files_of(pid, what)
            && !modules.is_empty()
        {
            let line = |texts: &[String]| {
                let texts: Vec<String> = texts.iter().map(|text| in_a_line(text)).collect();
                texts.join("\t")
            };
            let what = in_a_line(what);
            let look = format!("{what}\n{}\n{}", line(&functions), line(&modules));
            self.add(LOOK, look.as_bytes());
        }
        Ok(false)
    }

    /// Records the path that a system call is going to make, if there is nothing there yet.
    fn note_creation(&mut self, pid: i32, number: c_long, arguments: [u64; 6]) -> io::Result<()> {
        if let Some((directory, path)) = made_by(number, arguments, |address| word(pid, address))
            && let Some(path) = text(pid, path)
            && let Some(path) = absolute(pid, directory as i32, path)
            && fs::symlink_metadata(OsStr::from_bytes(&path)).is_err()
        {
            self.add(MADE, &path);
        }
        Ok(())
    }

    /// Records a question about a standard stream.
    fn terminal_asked(&mut self, stream: u64, request: u64) {
        let kind = match request {
            libc::TCGETS => TERMINAL,
            libc::TIOCGWINSZ => TERMINAL_SIZE,
            _ => return,
        };
        let number: &[u8] = match stream {
            0 => b"0",
            1 => b"1",
            2 => b"2",
            _ => return,
        };
        self.add(kind, number);
    }

    fn add(&mut self, kind: u8, name: &[u8]) {
        self.record.push(kind);
        self.record.extend_from_slice(name);
        self.record.push(0);
    }

    /// Notes the variables that another program is about to get.
    fn program_starts(&mut self, pid: i32, array: u64) -> io::Result<()> {
        let mut passed = Vec::new();
        for place in (array..).step_by(size_of::<u64>()) {
            let Some(variable) = text(pid, word(pid, place)) else {
                break;
            };
            let name = variable.split(|&byte| byte == b'=').next();
            let name = name.unwrap_or_default();
            if counts_in_whole(name) {
                passed.push((VARIABLE, name.to_vec()));
            }
        }
        if self.breakpoints.is_environment(pid, array)? {
            passed.push((WALKED, b"exec".to_vec()));
        }
        self.passed.insert(pid, passed);
        Ok(())
    }

    /// Records the variables that another program has got.
    fn program_started(&mut self, pid: i32) {
        let program = fs::read_link(format!("/proc/{pid}/exe")).unwrap_or_default();
        let passed = self.passed.remove(&pid).unwrap_or_default();
        if !INDIFFERENT.map(Path::new).contains(&program.as_path()) {
            for (kind, name) in passed {
                self.add(kind, &name);
            }
        }
    }

    fn trapped(&mut self, pid: i32) -> io::Result<()> {
        match self.breakpoints.met(pid)? {
            Trap::Breakpoint(breakpoint) => self.pass_breakpoint(pid, breakpoint),
            Trap::Watchpoint(walker) => {
                if let Some((kind, name)) = walker {
                    self.add(kind, &name);
                }
                go_on(pid, 0)
            }
            Trap::Step => go_on(pid, 0),
            Trap::Sent => go_on(pid, libc::SIGTRAP),
            Trap::Unknown(what) => Err(Error::other(format!(
                "it was stopped by a trap that nobody has set ({what})"
            ))),
        }
    }

    /// Records what the call tells, and executes the instruction that the breakpoint is in place of.
    ///
    /// The other threads run meanwhile, and if one calls the function in just these microseconds, that is not recorded. To
    /// stop them all each time would be slow; and with threads that go on there is no image.
    fn pass_breakpoint(&mut self, pid: i32, breakpoint: Breakpoint) -> io::Result<()> {
        match self.breakpoints.asked(pid, breakpoint)? {
            Some((CLOCK_READ, _)) if self.note_look(pid, looks::CLOCK)? => return Ok(()),
            Some((CLOCK_READ, _)) => {}
            Some((kind, name)) if kind == VARIABLE || self.is_thread(pid) => self.add(kind, &name),
            _ => {}
        }
        breakpoint.step_back(pid)?;
        breakpoint.remove(pid)?;
        ptrace(libc::PTRACE_SINGLESTEP, pid, 0, 0)?;
        let (_, status) = wait(pid)?;
        if libc::WIFSTOPPED(status) {
            breakpoint.set(pid)?;
            if status >> 16 == 0 && libc::WSTOPSIG(status) == libc::SIGTRAP {
                return go_on(pid, 0);
            }
        }
        // A signal came first: when its handler returns, the breakpoint is met again.
        self.changed(pid, status)
    }

    /// Whether it is a thread of the process; others that it has forked have an environment of their own.
    fn is_thread(&self, pid: i32) -> bool {
        Path::new(&format!("/proc/{}/task/{pid}", self.leader)).exists()
    }

    /// Writes the record for the process that is about to read it, and lets it go.
    fn finish(&mut self, pid: i32) -> io::Result<()> {
        if !self.breakpoints.are_set() {
            return Err(Error::other(
                "the process has loaded another C library than this one",
            ));
        }
        fs::write(self.path, &self.record)?;
        self.let_go(Some(pid))
    }

    /// Takes the breakpoints from all that are traced, and detaches from them; one of them may be stopped already.
    fn let_go(&mut self, stopped: Option<i32>) -> io::Result<()> {
        let mut others = std::mem::take(&mut self.tracees);
        others.retain(|&pid| Some(pid) != stopped);
        others.retain(|&pid| ptrace(libc::PTRACE_INTERRUPT, pid, 0, 0).is_ok());
        while !others.is_empty() {
            let (pid, status) = wait(-1)?;
            others.remove(&pid);
            if libc::WIFSTOPPED(status) {
                unless_killed(self.add_new(pid, status >> 16))?;
                others.append(&mut self.tracees);
                unless_killed(self.detach(pid, status))?;
            } else {
                self.ended(pid, status)?;
            }
        }
        stopped.map_or(Ok(()), |pid| self.detach(pid, SYSTEM_CALL << 8))
    }

    fn detach(&mut self, pid: i32, status: c_int) -> io::Result<()> {
        let mut signal = libc::WSTOPSIG(status);
        if status >> 16 != 0 || signal == SYSTEM_CALL {
            signal = 0;
        }
        if signal == libc::SIGTRAP {
            match self.breakpoints.met(pid)? {
                Trap::Breakpoint(breakpoint) => {
                    breakpoint.step_back(pid)?;
                    signal = 0;
                }
                Trap::Watchpoint(_) | Trap::Step => signal = 0,
                Trap::Sent | Trap::Unknown(_) => {}
            }
        }
        self.breakpoints.remove(pid)?;
        self.processor.release(pid);
        ptrace(libc::PTRACE_DETACH, pid, 0, signal as u64).map(drop)
    }
}

/// A process that is gone all of a sudden was killed; waiting for it tells that.
fn unless_killed(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(error) if error.raw_os_error() == Some(libc::ESRCH) => Ok(()),
        result => result,
    }
}

/// What a file is opened for: none if only to be written.
fn use_of(flags: u64) -> Option<u8> {
    let flags = flags as c_int;
    if flags & (libc::O_CREAT | libc::O_EXCL) == libc::O_CREAT | libc::O_EXCL {
        return Some(CREATED);
    }
    if flags & libc::O_PATH != 0 {
        return Some(LOOKED_AT);
    }
    let is_written = flags & libc::O_ACCMODE == libc::O_WRONLY
        || flags & libc::O_TRUNC != 0
        || flags & libc::O_TMPFILE == libc::O_TMPFILE;
    (!is_written).then_some(OPENED)
}

/// A text without what lines and their parts end with.
fn in_a_line(text: &str) -> String {
    text.replace(['\t', '\n'], "?")
}

/// The files of what a stopped thread runs that looks at something. Random bytes may be asked for by an extension module, which
/// comes first then.
fn files_of(pid: i32, what: &str) -> io::Result<Files> {
    let mut files = frames::files_of(pid)?;
    if what == looks::RANDOM
        && let Ok(Some(library)) = looks::library_that_draws(pid)
    {
        files.functions.insert(0, library);
    }
    Ok(files)
}
