//! Runs an interpreter and watches it while it imports (ptrace(2)): which files it looks at, and which variables it
//! reads, from Python or from C.
//!
//! System calls show the files. Breakpoints and a watchpoint show the variables ([`mod@super::breakpoints`]).
//!
//! When its imports are done, the interpreter opens the record. The tracer then removes the breakpoints and detaches:
//! the memory of the frozen process must not contain them. A program is watched in the same way, and is stopped where
//! its image is taken ([`mod@super::point`]).

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

use super::breakpoints::{Breakpoint, Breakpoints, Trap};
use super::creations::made_by;
use super::entries::{self, Entry, Kind};
use super::looks;
use super::point::{self, Candidate, Message, Program, Verdict};
use super::pseudo_terminal::PseudoTerminal;
use super::same_processor::SameProcessor;
use super::tracee::{
    absolute, answer, entered, go_on, kill, ptrace, text, wait, wait_for_adopted, word,
};
use super::watch::{ABANDONED, Command, Outcome, Watch};
use crate::cpython::frames::{self, Files};
use crate::image::taking::message::AS_BEFORE;

/// Programs whose output depends only on variables that are always compared. `platform` runs them.
const INDIFFERENT: [&str; 2] = ["/usr/bin/uname", "/bin/uname"];

/// The signal of a stop at a system call (PTRACE_O_TRACESYSGOOD).
const SYSTEM_CALL: c_int = libc::SIGTRAP | 0x80;
const OPTIONS: c_int = libc::PTRACE_O_TRACESYSGOOD
    | libc::PTRACE_O_TRACECLONE
    | libc::PTRACE_O_TRACEFORK
    | libc::PTRACE_O_TRACEVFORK
    | libc::PTRACE_O_TRACEEXEC
    | libc::PTRACE_O_EXITKILL;

/// Runs a command and waits for its end. The output of the command goes to standard error. With a `watch`, the command
/// runs a program, which is stopped where its image is taken: the end of the process that becomes the image is awaited.
///
/// The calling thread becomes the tracer, and must end afterwards. `child` gets the process id.
///
/// # Errors
/// The command cannot be watched. If it was started, it has been killed.
pub fn run_observed(
    command: &Command,
    record: &Path,
    child: &AtomicI32,
    watch: Option<Watch>,
) -> Result<Outcome, String> {
    let breakpoints =
        Breakpoints::new(&command.clock).ok_or("the functions to be watched are not found")?;
    let terminal = command.terminal.as_ref().map(PseudoTerminal::new);
    let terminal = terminal
        .transpose()
        .map_err(|error| format!("cannot open a pseudo-terminal: {error}"))?;
    // The awaited process is a child of the program. When the program is killed, this process adopts the child.
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
        // SAFETY: `pid` is a child of this process that was not waited for yet, so its id is not reused.
        unsafe { libc::kill(pid, libc::SIGKILL) };
        while wait(pid).is_ok_and(|(_, status)| libc::WIFSTOPPED(status)) {}
        format!("ptrace: {error}")
    })?;
    for &candidate in &observer.candidates {
        // SAFETY: a null pointer for the status is allowed. The candidate is a child of this process now.
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

/// While this value exists, this process becomes the parent of descendants whose parents have ended.
struct Adoption(c_int);

impl Adoption {
    fn begin() -> Self {
        let mut former = 0;
        // SAFETY: the call writes only to `former`.
        unsafe { libc::prctl(libc::PR_GET_CHILD_SUBREAPER, &raw mut former) };
        Self::set(1);
        Self(former)
    }

    fn set(adopts: c_int) {
        // SAFETY: the call takes only a number.
        unsafe { libc::prctl(libc::PR_SET_CHILD_SUBREAPER, c_long::from(adopts)) };
    }
}

impl Drop for Adoption {
    fn drop(&mut self) {
        Self::set(self.0);
    }
}

/// Forks a process that executes the command when a byte is written to the pipe.
fn start(command: &Command, terminal: Option<&PseudoTerminal>) -> io::Result<(i32, PipeWriter)> {
    let (waits, gate) = io::pipe()?;
    let array = |texts: &[CString]| -> Vec<_> {
        let texts = texts.iter().map(|text| text.as_ptr());
        texts.chain([ptr::null()]).collect()
    };
    let (argv, envp) = (array(&command.arguments), array(&command.environment));
    let own_gate = gate.as_raw_fd();
    // SAFETY: the child calls only functions that signal handlers may call (signal-safety(7)); the arrays end with
    // NULL.
    let pid = unsafe {
        let pid = libc::fork();
        if pid == 0 {
            libc::close(own_gate);
            let mut byte = 0_u8;
            if libc::read(waits.as_raw_fd(), (&raw mut byte).cast(), 1) == 1 {
                libc::dup2(libc::STDERR_FILENO, libc::STDOUT_FILENO);
                // Imports that ask whether there is a terminal find the terminal of this process.
                if libc::isatty(libc::STDIN_FILENO) == 0 {
                    libc::close(libc::STDIN_FILENO);
                    libc::open(c"/dev/null".as_ptr(), libc::O_RDONLY);
                }
                if let Some(terminal) = terminal {
                    terminal.become_streams();
                }
                // This process may ignore signals (nohup, `&` of a shell). The command ignores none.
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
    /// The id of the leader, for another thread that may want to kill it.
    child: &'a AtomicI32,
    /// The program, until it is stopped. None if the process only imports modules.
    program: Option<Program<'a>>,
    /// All candidates that the program has forked.
    candidates: Vec<i32>,
    /// What the program was stopped at, if it had forked no candidate.
    looked_at: Option<String>,
    /// Whether the leader has executed the command. Before, it runs the code of this process.
    has_started: bool,
    /// All traced threads and processes: the threads of the leader, and processes that it has forked until they execute
    /// another program. Forked processes have the breakpoints in their memory, too.
    tracees: BTreeSet<i32>,
    breakpoints: Breakpoints,
    /// The variables that processes pass to the program that they are about to execute.
    passed: BTreeMap<i32, Vec<Entry>>,
    processor: SameProcessor,
    path: &'a Path,
    record: Vec<u8>,
    /// The wait status of the leader, once it has ended.
    end: Option<c_int>,
}

impl Observer<'_> {
    /// Handles all stops until the leader has ended. Returns its wait status.
    fn follow(&mut self) -> io::Result<c_int> {
        loop {
            if let Some(status) = self.end {
                self.let_go(None)?;
                return Ok(status);
            }
            let (pid, status) = match wait(-1) {
                // The program is dead. The candidate that continues in its place is no longer traced.
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
                // The process stays stopped, as it would without a tracer (Ctrl-Z).
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
            // The program has ended without being stopped first.
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

    /// Whether a signal to the program reports the end of a candidate, a child that the program does not know of.
    fn is_about_candidate(&self, pid: i32) -> io::Result<bool> {
        let Some(program) = &self.program else {
            return Ok(false);
        };
        // SAFETY: zeros are valid for `siginfo_t`. The kernel has filled in the field `si_pid` of SIGCHLD.
        let child = unsafe {
            let mut info: libc::siginfo_t = std::mem::zeroed();
            ptrace(libc::PTRACE_GETSIGINFO, pid, 0, &raw mut info as u64)?;
            info.si_pid()
        };
        Ok(program.has_forked(child))
    }

    /// Waits until the killed program is dead: a candidate that continues earlier would die with it.
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

    /// Kills the program, which is about to look at `what`, and continues its last candidate. `files` are the files of
    /// the code that is about to look.
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

    /// Continues the last candidate of the program. The program is dead or about to die.
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
        self.add(Kind::Ended, in_a_line(&what).as_bytes());
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

    /// Adds the thread or process that a tracee has just started.
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

    /// Handles the entry of a system call, and records it if it is about a path. Returns whether the call ends the
    /// record.
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
                program.calls(number, arguments);
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
                (here, first, Some(Kind::LookedAt))
            }
            libc::SYS_newfstatat
            | libc::SYS_statx
            | libc::SYS_faccessat
            | libc::SYS_faccessat2
            | libc::SYS_readlinkat => (first, second, Some(Kind::LookedAt)),
            libc::SYS_sched_getaffinity => {
                self.add(Kind::Processors, b"");
                return Ok(false);
            }
            libc::SYS_rt_sigaction => {
                // The C library uses these two signals internally.
                let is_internal = [32, 33].contains(&first);
                if second != 0 && !is_internal {
                    self.add(Kind::Signals, b"");
                }
                return Ok(false);
            }
            libc::SYS_getcwd => {
                self.add(Kind::Directory, b"");
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
                Message::Asks => {
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
        if kind == Kind::LookedAt && !is_link && !frames::asks_for_kind(pid).unwrap_or(false) {
            kind = Kind::Status;
        }
        let is_listed = third as c_int & libc::O_DIRECTORY != 0;
        if number == libc::SYS_openat && is_listed && frames::is_path_finder(pid).unwrap_or(false) {
            kind = Kind::Searched;
        }
        if pid == self.leader && path == self.path.as_os_str().as_bytes() {
            return Ok(true);
        }
        if directory as i32 == libc::AT_FDCWD && !path.starts_with(b"/") {
            self.add(Kind::Relative, b"");
        }
        if let Some(path) = absolute(pid, directory as i32, path) {
            self.add(kind, &path);
        }
        Ok(false)
    }

    /// Whether a system call with this first argument is a message of the program to the tracer (`program.rs`).
    fn is_mark(&self, pid: i32, number: c_long, path: u64) -> bool {
        match &self.program {
            Some(program) if number == libc::SYS_access => {
                text(pid, path).is_some_and(|path| program.is_mark(&path))
            }
            _ => false,
        }
    }

    /// Handles a look of a stopped process. Returns whether the process was killed.
    fn note_look(&mut self, pid: i32, what: &str) -> io::Result<bool> {
        if let Some(program) = &self.program {
            let files = files_of(pid, what).unwrap_or_default();
            match program.judge(what, &files) {
                Verdict::Harmless => return Ok(false),
                Verdict::Compared(fact) => {
                    self.add(Kind::Fact, fact.name().as_bytes());
                    return Ok(false);
                }
                Verdict::Counts => {
                    self.stop_program(what, &files)?;
                    return Ok(true);
                }
            }
        }
        // The fork of another process is a look already. What that process looks at is not recorded.
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
            self.add(Kind::Look, look.as_bytes());
        }
        Ok(false)
    }

    /// Records the path that a system call may create, if it does not exist yet.
    fn note_creation(&mut self, pid: i32, number: c_long, arguments: [u64; 6]) -> io::Result<()> {
        if let Some((directory, path)) = made_by(number, arguments, |address| word(pid, address))
            && let Some(path) = text(pid, path)
            && let Some(path) = absolute(pid, directory as i32, path)
            && fs::symlink_metadata(OsStr::from_bytes(&path)).is_err()
        {
            self.add(Kind::Made, &path);
        }
        Ok(())
    }

    /// Records a question about a standard stream.
    fn terminal_asked(&mut self, stream: u64, request: u64) {
        let kind = match request {
            libc::TCGETS => Kind::Terminal,
            libc::TIOCGWINSZ => Kind::TerminalSize,
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

    fn add(&mut self, kind: Kind, text: &[u8]) {
        entries::append(&mut self.record, kind, text);
    }

    /// Notes the variables that a process is about to pass to another program.
    fn program_starts(&mut self, pid: i32, array: u64) -> io::Result<()> {
        let mut passed = Vec::new();
        for place in (array..).step_by(size_of::<u64>()) {
            let Some(variable) = text(pid, word(pid, place)) else {
                break;
            };
            let name = variable.split(|&byte| byte == b'=').next();
            let name = name.unwrap_or_default();
            if counts_in_whole(name) {
                passed.push((Kind::Variable, name.to_vec()));
            }
        }
        if self.breakpoints.is_environment(pid, array)? {
            passed.push((Kind::Walked, b"exec".to_vec()));
        }
        self.passed.insert(pid, passed);
        Ok(())
    }

    /// Records the variables that another program got.
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
                "the process was stopped by a trap that the tracer has not set ({what})"
            ))),
        }
    }

    /// Records the entry of the call, and executes the instruction that the breakpoint replaces.
    ///
    /// The other threads run meanwhile. If one of them calls the function in these microseconds, the call is not
    /// recorded. To stop all threads each time would be slow. If threads are left in the end, no image is taken.
    fn pass_breakpoint(&mut self, pid: i32, breakpoint: Breakpoint) -> io::Result<()> {
        match self.breakpoints.asked(pid, breakpoint)? {
            Some((Kind::ClockRead, _)) if self.note_look(pid, looks::CLOCK)? => return Ok(()),
            Some((Kind::ClockRead, _)) => {}
            Some((kind, name)) if kind == Kind::Variable || self.is_thread(pid) => {
                self.add(kind, &name)
            }
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
        // A signal came before the step. The process hits the breakpoint again when the handler returns.
        self.changed(pid, status)
    }

    /// Whether `pid` is a thread of the leader. Processes that the leader has forked have their own environment.
    fn is_thread(&self, pid: i32) -> bool {
        Path::new(&format!("/proc/{}/task/{pid}", self.leader)).exists()
    }

    /// Writes the record, and detaches from the process that is about to read it.
    fn finish(&mut self, pid: i32) -> io::Result<()> {
        if !self.breakpoints.are_set() {
            return Err(Error::other(
                "the process has loaded a different C library than its tracer",
            ));
        }
        fs::write(self.path, &self.record)?;
        self.let_go(Some(pid))
    }

    /// Removes the breakpoints from all tracees, and detaches. `stopped` is a tracee that is stopped already.
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

/// Ignores that a process does not exist: it was killed, and waiting for it reports that.
fn unless_killed(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(error) if error.raw_os_error() == Some(libc::ESRCH) => Ok(()),
        result => result,
    }
}

/// The kind of the entry for an opened file; none if the file is only written.
fn use_of(flags: u64) -> Option<Kind> {
    let flags = flags as c_int;
    if flags & (libc::O_CREAT | libc::O_EXCL) == libc::O_CREAT | libc::O_EXCL {
        return Some(Kind::Created);
    }
    if flags & libc::O_PATH != 0 {
        return Some(Kind::LookedAt);
    }
    let is_written = flags & libc::O_ACCMODE == libc::O_WRONLY
        || flags & libc::O_TRUNC != 0
        || flags & libc::O_TMPFILE == libc::O_TMPFILE;
    (!is_written).then_some(Kind::Opened)
}

/// The text with each tab and line break replaced: they separate the parts of an entry.
fn in_a_line(text: &str) -> String {
    text.replace(['\t', '\n'], "?")
}

/// The files of the code of a stopped thread that looks at something. If a library asks for random bytes, the file of
/// the library comes first.
fn files_of(pid: i32, what: &str) -> io::Result<Files> {
    let mut files = frames::files_of(pid)?;
    if what == looks::RANDOM
        && let Ok(Some(library)) = looks::library_that_draws(pid)
    {
        files.functions.insert(0, library);
    }
    Ok(files)
}
