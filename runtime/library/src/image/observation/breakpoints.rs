//! Detects what a traced process does without a system call. Breakpoints are set in functions of the C library that use
//! the environment, and in functions of the vdso and the interpreter that return the time. A watchpoint is set on the
//! variable `environ`, for code that uses the variable directly.
//!
//! These functions and the dynamic linker read `environ`, too. That is no look at the whole environment: a breakpoint
//! reports the name, or no other code gets the result. Any other code that reads `environ` may look at all of it.

use std::collections::BTreeSet;
use std::ffi::CStr;
use std::io;
use std::ops::Range;

use super::entries::{Entry, Kind};
use super::tracee::{ptrace, registers, text, word};
use super::watch::ClockFunctions;
use crate::cpython::image;
use crate::cpython::object::{Object, Raised};
use crate::image::taking::memory_dump;
use crate::image::taking::memory_map::{self, Mapping};
use crate::kernel::process_memory::ProcessMemory;

const CLOCK: Option<Entry> = Some((Kind::ClockRead, Vec::new()));

/// The start of the names of variables that the allocator mimalloc reads. It searches `environ` itself, because it runs
/// before `getenv()` is usable.
const OF_MIMALLOC: &[u8] = b"mimalloc_";

/// Returns the entry of a call, from the process id and the registers.
type Question = fn(i32, &libc::user_regs_struct) -> io::Result<Option<Entry>>;

/// The functions with a breakpoint. `secure_getenv()` is not among them because it calls `getenv()`.
const FUNCTIONS: [(&CStr, Question); 12] = [
    // Python code that asks for the time reaches one of these, or of `ClockFunctions`. The interpreter computes its own
    // timeouts with other functions.
    (c"PyTime_Time", |_, _| Ok(CLOCK)),
    (c"PyTime_Monotonic", |_, _| Ok(CLOCK)),
    (c"PyTime_PerfCounter", |_, _| Ok(CLOCK)),
    (c"clock_gettime", |pid, registers| {
        let caller = word(pid, registers.rsp);
        Ok(CLOCK.filter(|_| !memory_dump::is_in_program(caller)))
    }),
    // These two are in the vdso.
    (c"gettimeofday", |_, _| Ok(CLOCK)),
    (c"time", |_, _| Ok(CLOCK)),
    // A call from the C library itself only asks whether the stream is a terminal (isatty(3)).
    (c"tcgetattr", |pid, registers| {
        let number = registers.rdi as i32;
        let is_stream = (0..=2).contains(&number);
        let entry = || (Kind::TerminalModes, number.to_string().into_bytes());
        Ok((is_stream && !is_called_from_library(pid, registers)?).then(entry))
    }),
    (c"getenv", |pid, registers| {
        Ok(text(pid, registers.rdi).map(|name| (Kind::Variable, name)))
    }),
    (c"setenv", |pid, registers| {
        let (name, value) = (text(pid, registers.rdi), text(pid, registers.rsi));
        let overwrites = registers.rdx as i32 != 0;
        let kind = if overwrites {
            Kind::Set
        } else {
            Kind::SetDefault
        };
        Ok(name
            .filter(|name| is_name(name))
            .zip(value)
            .map(|(name, value)| (kind, [&name[..], b"=", &value].concat())))
    }),
    (c"putenv", |pid, registers| {
        Ok(text(pid, registers.rdi).map(|text| {
            let kind = if is_name(&text) {
                Kind::Removed
            } else {
                Kind::Set
            };
            (kind, text)
        }))
    }),
    (c"unsetenv", |pid, registers| {
        let name = text(pid, registers.rdi).filter(|name| is_name(name));
        Ok(name.map(|name| (Kind::Removed, name)))
    }),
    (c"clearenv", |_, _| Ok(Some((Kind::Cleared, Vec::new())))),
];

/// The addresses of functions of the module `time`, which are the same in all processes of this interpreter.
///
/// # Errors
/// The functions do not exist.
pub fn clock_functions() -> Result<ClockFunctions, Raised> {
    let module = Object::import(c"time")?;
    let address = |name: &CStr| image::address_of_function(&module.attribute(name)?);
    Ok(ClockFunctions {
        telling: vec![address(c"clock_gettime")?, address(c"clock_gettime_ns")?],
        tzset: address(c"tzset")?,
    })
}

/// The name of the mapping of the vdso.
const VDSO: &str = "[vdso]";

/// The instruction `int3`, which a breakpoint consists of.
const INT3: u8 = 0xcc;

/// `siginfo_t.si_code` of a stop at a watchpoint (asm-generic/siginfo.h).
const TRAP_HWBKPT: i32 = 4;
/// `si_code` of a single step.
const TRAP_TRACE: i32 = 2;
/// `si_code` of a debug exception without a reason from the processor, and of the instruction `int1`. A virtual machine
/// may lose the reason. The reason is then the watchpoint, because nothing else sets one.
const TRAP_BRKPT: i32 = 1;
const INT1: u8 = 0xf1;

/// Bits of debug register 7: eight bytes at the address in register 0 are watched for reads and writes.
const WATCHES: u64 = 1 | 0b11 << 16 | 0b10 << 18;

/// Whether a function with a breakpoint was called from the library that contains it.
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

/// The place of code in a file.
struct Place {
    inode: u64,
    name: String,
    offset: u64,
}

impl Place {
    /// The place of a function. It is found in this process, which has the same libraries as the watched process.
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

    /// The address of the place and the range of the mapping, if the mapping contains the code.
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

/// Whether an address in another process is in a function of a library. `bytes` is the largest size of the function.
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
    // SAFETY: the name ends with NUL. The call only looks the name up.
    unsafe { libc::dlsym(libc::RTLD_DEFAULT, symbol.as_ptr()) as u64 }
}

#[derive(Clone, Copy)]
pub struct Breakpoint {
    address: u64,
    original: u8,
    question: Question,
}

impl Breakpoint {
    /// Writes a byte at the address of the breakpoint, in a stopped process.
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

    /// Makes a process that is stopped at the breakpoint continue with the instruction that the breakpoint replaces.
    pub fn step_back(&self, pid: i32) -> io::Result<()> {
        let mut registers = registers(pid)?;
        registers.rip = self.address;
        ptrace(libc::PTRACE_SETREGS, pid, 0, &raw mut registers as u64).map(drop)
    }
}

/// Why a process got SIGTRAP.
pub enum Trap {
    Breakpoint(Breakpoint),
    /// With the entry to record, unless known code (the C library, mimalloc) has used `environ`.
    Watchpoint(Option<Entry>),
    /// The end of a single step that a signal had interrupted.
    Step,
    /// A process sent the signal.
    Sent,
    /// An unknown cause, with the code of the signal and the address of the next instruction.
    Unknown(String),
}

/// The breakpoints and the watchpoint of all tracees.
pub struct Breakpoints {
    functions: Vec<(Place, Question)>,
    dynamic_linker: Place,
    /// The address of `environ`. It is the same in all processes: the interpreter contains the variable
    /// (R_X86_64_COPY), all libraries use that copy, and the interpreter is not position-independent.
    environ: u64,
    set: Vec<Breakpoint>,
    /// Code of the C library and the dynamic linker.
    library: Vec<Range<u64>>,
    /// Threads in which the watchpoint is set or cannot be set.
    watched: BTreeSet<i32>,
    /// The last call of a function whose looks do not count.
    harmless: Option<Call>,
}

/// A call of a function by a thread: `caller` is the return address, and `place` is its address on the stack.
struct Call {
    pid: i32,
    place: u64,
    caller: u64,
}

impl Breakpoints {
    /// Returns none if a function is not found.
    pub fn new(clock: &ClockFunctions) -> Option<Self> {
        let mappings = memory_map::of_process("self").ok()?;
        let named = FUNCTIONS.map(|(name, question)| (address_of(name), question));
        let telling = clock.telling.iter();
        let telling = telling.map(|address| (*address, (|_, _| Ok(CLOCK)) as Question));
        let zone_set: Question = |_, _| Ok(Some((Kind::ZoneSet, Vec::new())));
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

    /// The entry of a call that is stopped at a breakpoint.
    pub fn asked(&mut self, pid: i32, breakpoint: Breakpoint) -> io::Result<Option<Entry>> {
        let registers = registers(pid)?;
        let asked = (breakpoint.question)(pid, &registers)?;
        match asked {
            Some((Kind::ZoneSet, _)) => {
                let place = registers.rsp;
                self.harmless = Some(Call {
                    pid,
                    place,
                    caller: word(pid, place),
                });
                Ok(asked)
            }
            Some((Kind::ClockRead, _)) if self.is_harmless(pid, registers.rsp) => Ok(None),
            asked => Ok(asked),
        }
    }

    /// Whether the call in `harmless` has not returned yet. `stack` is the stack pointer of the thread.
    fn is_harmless(&self, pid: i32, stack: u64) -> bool {
        self.harmless.as_ref().is_some_and(|call| {
            call.pid == pid && stack < call.place && word(pid, call.place) == call.caller
        })
    }

    pub fn are_set(&self) -> bool {
        !self.set.is_empty()
    }

    /// Sets the breakpoints once all functions are mapped. `ld.so` maps the C library with several system calls.
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

    /// Forgets all breakpoints: the process executes another program, whose memory has none.
    pub fn forget(&mut self) {
        self.set.clear();
        self.watched.clear();
    }

    pub fn forget_thread(&mut self, pid: i32) {
        self.watched.remove(&pid);
    }

    /// Sets the watchpoint in a stopped thread that has none yet. Returns the entry to record if this is impossible.
    pub fn watch(&mut self, pid: i32) -> Option<Entry> {
        if !self.are_set() || !self.watched.insert(pid) {
            return None;
        }
        let is_set = set_debug_register(pid, 0, self.environ)
            .and_then(|()| set_debug_register(pid, 7, WATCHES));
        is_set.err().map(|_| (Kind::Walked, Vec::new()))
    }

    /// Why a process got SIGTRAP.
    pub fn met(&self, pid: i32) -> io::Result<Trap> {
        let registers = registers(pid)?;
        let next = registers.rip;
        let code = code_of_signal(pid)?;
        if code == TRAP_TRACE {
            return Ok(Trap::Step);
        }
        if code == TRAP_HWBKPT || code == TRAP_BRKPT && !is_behind_int1(pid, next) {
            // The processor stops after the instruction.
            let is_in_library = self.library.iter().any(|code| code.contains(&next));
            let is_known = is_in_library || is_in_mimalloc(pid, &registers);
            let walker = (!is_known).then(|| {
                let mappings = memory_map::of_process(&pid.to_string()).unwrap_or_default();
                let mut mappings = mappings.into_iter();
                let found = mappings.find(|mapping| (mapping.start..mapping.end).contains(&next));
                let name = found.map_or_else(String::new, |mapping| mapping.name);
                (Kind::Walked, name.into_bytes())
            });
            return Ok(Trap::Watchpoint(walker));
        }
        let mut set = self.set.iter();
        let found = set.find(|breakpoint| next == breakpoint.address + 1);
        Ok(match found {
            Some(found) => Trap::Breakpoint(*found),
            // Codes of signals from the kernel are positive (sigaction(2)).
            None if code <= 0 => Trap::Sent,
            None => Trap::Unknown(format!("code {code} at {next:#x}")),
        })
    }

    /// Whether the array at an address is the environment of the process.
    pub fn is_environment(&self, pid: i32, array: u64) -> io::Result<bool> {
        Ok(ProcessMemory(pid).word(self.environ)? == array)
    }

    /// Removes the breakpoints and the watchpoint from a stopped process.
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

/// Whether the code that has read `environ` searches for a variable of mimalloc: a register then points to the name.
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
    // SAFETY: all fields are plain data, for which zeros are valid.
    let mut info: libc::siginfo_t = unsafe { std::mem::zeroed() };
    ptrace(libc::PTRACE_GETSIGINFO, pid, 0, &raw mut info as u64)?;
    Ok(info.si_code)
}
