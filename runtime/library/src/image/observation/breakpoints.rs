//! What a traced process does without a system call: breakpoints in functions of the C library that are about the
//! environment, and in those of the kernel and the interpreter that tell the time, and a watchpoint on the variable
//! `environ`, for code that reads or writes it by itself.
//!
//! The functions read `environ`, too, as does the dynamic linker; what they look for is known or goes to nobody. Any
//! other code that reads the variable may look at the whole environment.

use std::collections::BTreeSet;
use std::ffi::CStr;
use std::io;
use std::ops::Range;

use super::tracee::{ptrace, registers, text, word};
use super::watch::ClockFunctions;
use crate::cpython::image;
use crate::cpython::object::{Object, Raised};
use crate::image::taking::memory_dump;
use crate::image::taking::memory_map::{self, Mapping};
use crate::kernel::process_memory::ProcessMemory;

/// Kinds of entries in the record, and what follows each.
pub const VARIABLE: u8 = b'v';
/// `NAME=VALUE`
pub const SET: u8 = b'S';
/// `NAME=VALUE`, if there is no such variable yet.
pub const SET_DEFAULT: u8 = b'D';
pub const REMOVED: u8 = b'U';
pub const CLEARED: u8 = b'C';
/// Not for the record: it is up to the observer what that means.
pub const CLOCK_READ: u8 = b'T';
const CLOCK: Option<Entry> = Some((CLOCK_READ, Vec::new()));
/// `time.tzset()` is called: what it asks for does not count, but it makes of the variable TZ what is known of the time zone.
const ZONE_SET: u8 = b'Z';
/// With the number of a standard stream: somebody asks for the modes of the terminal.
pub const TERMINAL_MODES: u8 = b'h';
/// The file of the code that may have looked at the whole environment; nothing if there is no watchpoint.
pub const WALKED: u8 = b'W';

/// How the variables begin that the allocator mimalloc reads. It searches `environ` for them by itself, since it is used
/// before `getenv()` can be.
const OF_MIMALLOC: &[u8] = b"mimalloc_";

/// An entry of the record.
pub type Entry = (u8, Vec<u8>);

/// What a call tells, from the process and its registers.
type Question = fn(i32, &libc::user_regs_struct) -> io::Result<Option<Entry>>;

/// `secure_getenv()` calls `getenv()`.
const FUNCTIONS: [(&CStr, Question); 12] = [
    // What Python code calls ends in these, or in `ClockFunctions`. The interpreter itself, which computes when to wait
    // no longer, calls others.
    (c"PyTime_Time", |_, _| Ok(CLOCK)),
    (c"PyTime_Monotonic", |_, _| Ok(CLOCK)),
    (c"PyTime_PerfCounter", |_, _| Ok(CLOCK)),
    (c"clock_gettime", |pid, registers| {
        let caller = word(pid, registers.rsp);
        Ok(CLOCK.filter(|_| !memory_dump::is_in_program(caller)))
    }),
    // These two are found in the vdso.
    (c"gettimeofday", |_, _| Ok(CLOCK)),
    (c"time", |_, _| Ok(CLOCK)),
    // The C library asks by itself whether there is a terminal (isatty(3)).
    (c"tcgetattr", |pid, registers| {
        let number = registers.rdi as i32;
        let is_stream = (0..=2).contains(&number);
        let entry = || (TERMINAL_MODES, number.to_string().into_bytes());
        Ok((is_stream && !is_called_from_library(pid, registers)?).then(entry))
    }),
    (c"getenv", |pid, registers| {
        Ok(text(pid, registers.rdi).map(|name| (VARIABLE, name)))
    }),
    (c"setenv", |pid, registers| {
        let (name, value) = (text(pid, registers.rdi), text(pid, registers.rsi));
        let overwrites = registers.rdx as i32 != 0;
        let kind = if overwrites { SET } else { SET_DEFAULT };
        Ok(name
            .filter(|name| is_name(name))
            .zip(value)
            .map(|(name, value)| (kind, [&name[..], b"=", &value].concat())))
    }),
    (c"putenv", |pid, registers| {
        Ok(text(pid, registers.rdi).map(|text| {
            let kind = if is_name(&text) { REMOVED } else { SET };
            (kind, text)
        }))
    }),
    (c"unsetenv", |pid, registers| {
        let name = text(pid, registers.rdi).filter(|name| is_name(name));
        Ok(name.map(|name| (REMOVED, name)))
    }),
    (c"clearenv", |_, _| Ok(Some((CLEARED, Vec::new())))),
];

/// Where functions of the module `time` lie, in this process and in others.
///
/// # Errors
/// There are none.
pub fn clock_functions() -> Result<ClockFunctions, Raised> {
    let module = Object::import(c"time")?;
    let address = |name: &CStr| image::address_of_function(&module.attribute(name)?);
    Ok(ClockFunctions {
        telling: vec![address(c"clock_gettime")?, address(c"clock_gettime_ns")?],
        tzset: address(c"tzset")?,
    })
}

/// The kernel's own library.
const VDSO: &str = "[vdso]";

/// What a breakpoint stops with (`int3`).
const INT3: u8 = 0xcc;

/// `siginfo_t.si_code` of a stop at a watchpoint (asm-generic/siginfo.h).
const TRAP_HWBKPT: i32 = 4;
/// The same of a single step.
const TRAP_TRACE: i32 = 2;
/// The same of a debug exception for which the processor names no reason. A virtual machine may lose the reason, which
/// is the watchpoint then: nobody else sets one. It is that of the instruction `int1`, too.
const TRAP_BRKPT: i32 = 1;
const INT1: u8 = 0xf1;

/// Bits of the debug register 7: the first address is watched, for reading and writing, with its eight bytes.
const WATCHES: u64 = 1 | 0b11 << 16 | 0b10 << 18;

/// Whether the function that has met a breakpoint was called by another one of its library.
fn is_called_from_library(pid: i32, registers: &libc::user_regs_struct) -> io::Result<bool> {
    let mappings = memory_map::of_process(&pid.to_string())?;
    let file = |address| {
        let mut mappings = mappings.iter();
        mappings
            .find(|mapping| (mapping.start..mapping.end).contains(&address))
            .map(|mapping| mapping.inode)
    };
    Ok(file(word(pid, registers.rsp)) == file(registers.rip))
}

fn is_name(name: &[u8]) -> bool {
    !name.is_empty() && !name.contains(&b'=')
}

/// Where code lies in a file.
struct Place {
    inode: u64,
    name: String,
    offset: u64,
}

impl Place {
    /// Of a function. This process has the libraries that the watched one is going to have.
    fn of(address: u64, mappings: &[Mapping]) -> Option<Self> {
        let mapping = mappings
            .iter()
            .find(|mapping| (mapping.start..mapping.end).contains(&address))?;
        (mapping.inode != 0 || mapping.name == VDSO).then(|| Self {
            inode: mapping.inode,
            offset: address - mapping.start + mapping.offset,
            name: mapping.name.clone(),
        })
    }

    /// Its address, if the code is mapped, and that of all code around it.
    fn within(&self, mapping: &Mapping) -> Option<(u64, Range<u64>)> {
        let is_code = mapping.protection & memory_map::EXECUTE != 0;
        let distance = self.offset.checked_sub(mapping.offset)?;
        let address = mapping.start + distance;
        (is_code
            && mapping.inode == self.inode
            && mapping.name == self.name
            && address < mapping.end)
            .then_some((address, mapping.start..mapping.end))
    }
}

/// Whether an address in another process is one of a function of a library, which has so many bytes at most.
pub fn is_within(pid: i32, address: u64, function: &CStr, bytes: u64) -> io::Result<bool> {
    let own = memory_map::of_process("self")?;
    let others = memory_map::of_process(&pid.to_string())?;
    let function = Place::of(address_of(function), &own);
    let place = Place::of(address, &others);
    Ok(function.zip(place).is_some_and(|(function, place)| {
        let distance = place.offset.checked_sub(function.offset);
        function.inode == place.inode && distance.is_some_and(|distance| distance < bytes)
    }))
}

fn address_of(symbol: &CStr) -> u64 {
    // SAFETY: only looks the name up.
    unsafe { libc::dlsym(libc::RTLD_DEFAULT, symbol.as_ptr()) as u64 }
}

#[derive(Clone, Copy)]
pub struct Breakpoint {
    address: u64,
    original: u8,
    question: Question,
}

impl Breakpoint {
    /// Writes a byte where the breakpoint is, to a process that is stopped.
    fn write(&self, pid: i32, byte: u8) -> io::Result<()> {
        let word = self.address & !7;
        let mut bytes = [0; 8];
        ProcessMemory(pid).read(&mut bytes, word)?;
        bytes[(self.address - word) as usize] = byte;
        ptrace(libc::PTRACE_POKETEXT, pid, word, u64::from_le_bytes(bytes)).map(drop)
    }

    pub fn set(&self, pid: i32) -> io::Result<()> {
        self.write(pid, INT3)
    }

    pub fn remove(&self, pid: i32) -> io::Result<()> {
        self.write(pid, self.original)
    }

    /// Has a process that has met it go on with the instruction that it is in place of.
    pub fn step_back(&self, pid: i32) -> io::Result<()> {
        let mut registers = registers(pid)?;
        registers.rip = self.address;
        ptrace(libc::PTRACE_SETREGS, pid, 0, &raw mut registers as u64).map(drop)
    }
}

/// Why a process has got SIGTRAP.
pub enum Trap {
    Breakpoint(Breakpoint),
    /// With what is to be recorded, unless the C library has read the variable.
    Watchpoint(Option<Entry>),
    /// A single step that a signal has come before.
    Step,
    /// A process has sent the signal.
    Sent,
    /// Nothing that is known: what the kernel says of it, and where the process is.
    Unknown(String),
}

/// Breakpoints and watchpoint of all that are traced.
pub struct Breakpoints {
    functions: Vec<(Place, Question)>,
    dynamic_linker: Place,
    /// The address of `environ`. The interpreter has a copy of it (R_X86_64_COPY) that all libraries use, and is not
    /// position-independent.
    environ: u64,
    set: Vec<Breakpoint>,
    /// Code of the C library and the dynamic linker.
    library: Vec<Range<u64>>,
    /// Threads that have the watchpoint, or cannot have it.
    watched: BTreeSet<i32>,
    /// The last call of a function that asks for what does not count.
    harmless: Option<Call>,
}

/// A call of a function by a thread: where its return address lies, and that.
struct Call {
    pid: i32,
    place: u64,
    caller: u64,
}

impl Breakpoints {
    /// None if the functions are not found.
    pub fn new(clock: &ClockFunctions) -> Option<Self> {
        let mappings = memory_map::of_process("self").ok()?;
        let named = FUNCTIONS.map(|(name, question)| (address_of(name), question));
        let telling = clock.telling.iter();
        let telling = telling.map(|address| (*address, (|_, _| Ok(CLOCK)) as Question));
        let zone_set: Question = |_, _| Ok(Some((ZONE_SET, Vec::new())));
        let functions = named
            .into_iter()
            .chain(telling)
            .chain([(clock.tzset, zone_set)])
            .map(|(address, question)| Some((Place::of(address, &mappings)?, question)));
        Some(Self {
            functions: functions.collect::<Option<_>>()?,
            dynamic_linker: Place::of(address_of(c"__tls_get_addr"), &mappings)?,
            environ: address_of(c"environ"),
            set: Vec::new(),
            library: Vec::new(),
            watched: BTreeSet::new(),
            harmless: None,
        })
    }

    /// What the call tells that has met a breakpoint.
    pub fn asked(&mut self, pid: i32, breakpoint: Breakpoint) -> io::Result<Option<Entry>> {
        let registers = registers(pid)?;
        let asked = (breakpoint.question)(pid, &registers)?;
        match asked {
            Some((ZONE_SET, _)) => {
                let place = registers.rsp;
                self.harmless = Some(Call {
                    pid,
                    place,
                    caller: word(pid, place),
                });
                Ok(asked)
            }
            Some((CLOCK_READ, _)) if self.is_harmless(pid, registers.rsp) => Ok(None),
            asked => Ok(asked),
        }
    }

    /// Whether a call in which nothing counts has not returned yet, where the stack of the process ends here.
    fn is_harmless(&self, pid: i32, stack: u64) -> bool {
        self.harmless.as_ref().is_some_and(|call| {
            call.pid == pid && stack < call.place && word(pid, call.place) == call.caller
        })
    }

    pub fn are_set(&self) -> bool {
        !self.set.is_empty()
    }

    /// Sets them once the C library is mapped, which `ld.so` does with several system calls.
    pub fn set(&mut self, leader: i32) -> io::Result<()> {
        let mappings = memory_map::of_process(&leader.to_string())?;
        let find = |place: &Place| mappings.iter().find_map(|mapping| place.within(mapping));
        let mut set = Vec::new();
        let mut library = Vec::new();
        library.extend(find(&self.dynamic_linker).map(|(_, code)| code));
        for (place, question) in &self.functions {
            let Some((address, code)) = find(place) else {
                return Ok(());
            };
            if !memory_dump::is_in_program(address) {
                library.push(code);
            }
            let mut original = [0];
            ProcessMemory(leader).read(&mut original, address)?;
            set.push(Breakpoint {
                address,
                original: original[0],
                question: *question,
            });
        }
        for breakpoint in &set {
            breakpoint.set(leader)?;
        }
        (self.set, self.library) = (set, library);
        Ok(())
    }

    /// Takes notice that the process runs another program, in whose memory there are none.
    pub fn forget(&mut self) {
        self.set.clear();
        self.watched.clear();
    }

    pub fn forget_thread(&mut self, pid: i32) {
        self.watched.remove(&pid);
    }

    /// Sets the watchpoint in a thread that is stopped, if it has none yet. Returns what is to be recorded if that is not
    /// possible.
    pub fn watch(&mut self, pid: i32) -> Option<Entry> {
        if !self.are_set() || !self.watched.insert(pid) {
            return None;
        }
        let is_set = set_debug_register(pid, 0, self.environ)
            .and_then(|()| set_debug_register(pid, 7, WATCHES));
        is_set.err().map(|_| (WALKED, Vec::new()))
    }

    /// What a process has met that has got SIGTRAP.
    pub fn met(&self, pid: i32) -> io::Result<Trap> {
        let registers = registers(pid)?;
        let next = registers.rip;
        let code = code_of_signal(pid)?;
        if code == TRAP_TRACE {
            return Ok(Trap::Step);
        }
        if code == TRAP_HWBKPT || code == TRAP_BRKPT && !is_behind_int1(pid, next) {
            // It stops behind the instruction.
            let is_in_library = self.library.iter().any(|code| code.contains(&next));
            let is_known = is_in_library || is_in_mimalloc(pid, &registers);
            let walker = (!is_known).then(|| {
                let mappings = memory_map::of_process(&pid.to_string()).unwrap_or_default();
                let mut mappings = mappings.into_iter();
                let found = mappings.find(|mapping| (mapping.start..mapping.end).contains(&next));
                let name = found.map_or_else(String::new, |mapping| mapping.name);
                (WALKED, name.into_bytes())
            });
            return Ok(Trap::Watchpoint(walker));
        }
        let mut set = self.set.iter();
        let found = set.find(|breakpoint| next == breakpoint.address + 1);
        Ok(match found {
            Some(found) => Trap::Breakpoint(*found),
            // The codes of the kernel are positive (sigaction(2)).
            None if code <= 0 => Trap::Sent,
            None => Trap::Unknown(format!("code {code} at {next:#x}")),
        })
    }

    /// Whether an array of variables, by its address, is the environment of the process.
    pub fn is_environment(&self, pid: i32, array: u64) -> io::Result<bool> {
        Ok(ProcessMemory(pid).word(self.environ)? == array)
    }

    /// Takes all of them from a process that is stopped.
    pub fn remove(&mut self, pid: i32) -> io::Result<()> {
        if self.watched.remove(&pid) {
            set_debug_register(pid, 7, 0)?;
        }
        self.set
            .iter()
            .try_for_each(|breakpoint| breakpoint.remove(pid))
    }
}

fn is_behind_int1(pid: i32, next: u64) -> bool {
    let mut byte = [0];
    let read = ProcessMemory(pid).read(&mut byte, next.wrapping_sub(1));
    read.is_ok() && byte == [INT1]
}

/// Whether the code that has read `environ` searches for one of these variables: it has the name in a register then.
fn is_in_mimalloc(pid: i32, registers: &libc::user_regs_struct) -> bool {
    let mut values = [
        registers.rax,
        registers.rbx,
        registers.rcx,
        registers.rdx,
        registers.rsi,
        registers.rdi,
        registers.rbp,
        registers.r8,
        registers.r9,
        registers.r10,
        registers.r11,
        registers.r12,
        registers.r13,
        registers.r14,
        registers.r15,
    ]
    .into_iter();
    values.any(|value| {
        let name = text(pid, value).unwrap_or_default();
        let start = name.get(..OF_MIMALLOC.len());
        start.is_some_and(|start| start.eq_ignore_ascii_case(OF_MIMALLOC))
    })
}

fn set_debug_register(pid: i32, number: usize, value: u64) -> io::Result<()> {
    let registers = std::mem::offset_of!(libc::user, u_debugreg);
    let offset = registers + number * size_of::<u64>();
    ptrace(libc::PTRACE_POKEUSER, pid, offset as u64, value).map(drop)
}

fn code_of_signal(pid: i32) -> io::Result<i32> {
    // SAFETY: zeros are valid, and the kernel fills it in.
    let mut info: libc::siginfo_t = unsafe { std::mem::zeroed() };
    ptrace(libc::PTRACE_GETSIGINFO, pid, 0, &raw mut info as u64)?;
    Ok(info.si_code)
}
