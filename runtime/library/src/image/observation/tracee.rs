//! A process that this thread traces (ptrace(2)): its registers, its memory, the system call at which it is stopped.

use std::ffi::{OsStr, c_int, c_long, c_uint};
use std::fs;
use std::io::{self, Error};
use std::os::unix::ffi::{OsStrExt, OsStringExt};

use startup_image::PAGE;

use crate::kernel::process_memory::ProcessMemory;

pub fn kill(process: i32) {
    // SAFETY: the process is traced and was not waited for yet, so its id is not reused.
    unsafe { libc::kill(process, libc::SIGKILL) };
}

/// The absolute form of a path of the process; none if the directory is unknown.
pub fn absolute(pid: i32, directory: i32, path: Vec<u8>) -> Option<Vec<u8>> {
    if path.starts_with(b"/") {
        return Some(path);
    }
    let base = match directory {
        libc::AT_FDCWD => format!("/proc/{pid}/cwd"),
        number => format!("/proc/{pid}/fd/{number}"),
    };
    let base = fs::read_link(base).ok().filter(|base| base.is_absolute())?;
    if path.is_empty() {
        // An empty path means the descriptor itself (AT_EMPTY_PATH).
        return Some(base.into_os_string().into_vec());
    }
    let joined = base.join(OsStr::from_bytes(&path));
    Some(joined.into_os_string().into_vec())
}

/// The number and the arguments of the system call that a stopped process is about to make; none if the process is not
/// stopped at the entry of a system call.
pub fn entered(pid: i32) -> io::Result<Option<(c_long, [u64; 6])>> {
    // SAFETY: zeros are valid for this struct. The kernel writes at most `bytes` bytes. It has filled in `entry` if
    // `op` says so.
    unsafe {
        let mut info: libc::ptrace_syscall_info = std::mem::zeroed();
        let bytes = size_of_val(&info) as u64;
        let place = &raw mut info as u64;
        ptrace(libc::PTRACE_GET_SYSCALL_INFO, pid, bytes, place)?;
        Ok((info.op == libc::PTRACE_SYSCALL_INFO_ENTRY)
            .then_some((info.u.entry.nr as c_long, info.u.entry.args)))
    }
}

pub fn registers(pid: i32) -> io::Result<libc::user_regs_struct> {
    // SAFETY: all fields are numbers, for which zeros are valid.
    let mut registers: libc::user_regs_struct = unsafe { std::mem::zeroed() };
    ptrace(libc::PTRACE_GETREGS, pid, 0, &raw mut registers as u64)?;
    Ok(registers)
}

/// Makes the system call at which a process is stopped fail with an error. The call is not executed.
pub fn answer(pid: i32, error: c_int) -> io::Result<()> {
    let mut registers = registers(pid)?;
    // The kernel executes no call with this number, and keeps the result in `rax` (Linux, arch/x86/entry/syscall_64.c).
    registers.orig_rax = u64::MAX;
    registers.rax = i64::from(-error) as u64;
    ptrace(libc::PTRACE_SETREGS, pid, 0, &raw mut registers as u64).map(drop)
}

pub fn go_on(pid: i32, signal: c_int) -> io::Result<()> {
    ptrace(libc::PTRACE_SYSCALL, pid, 0, signal as u64).map(drop)
}

/// The word at an address; zero if the address is not mapped. A system call with such an address fails, too.
pub fn word(pid: i32, address: u64) -> u64 {
    ProcessMemory(pid).word(address).unwrap_or_default()
}

/// The text at an address, which ends with NUL; none if the text is not mapped, or is too long for a path.
pub fn text(pid: i32, mut address: u64) -> Option<Vec<u8>> {
    let mut text = Vec::new();
    let mut block = [0; 256];
    while text.len() < libc::PATH_MAX as usize {
        // The next page may not be mapped.
        let in_page = (PAGE - address % PAGE) as usize;
        let part = &mut block[..in_page.min(256)];
        ProcessMemory(pid).read(part, address).ok()?;
        if let Some(end) = part.iter().position(|&byte| byte == 0) {
            text.extend_from_slice(&part[..end]);
            return Some(text);
        }
        text.extend_from_slice(part);
        address += part.len() as u64;
    }
    None
}

pub fn ptrace(request: c_uint, pid: i32, address: u64, data: u64) -> io::Result<c_long> {
    // SAFETY: each request that writes to this process gets the address of a variable of the right type.
    let result = unsafe { libc::ptrace(request, pid, address, data) };
    if result < 0 {
        return Err(Error::last_os_error());
    }
    Ok(result)
}

/// Waits for a change of a child or tracee of this thread.
pub fn wait(pid: i32) -> io::Result<(i32, c_int)> {
    wait_for(pid, libc::__WALL | libc::__WNOTHREAD)
}

/// Waits for the end of a child, which may be a child of another thread of this process.
pub fn wait_for_adopted(pid: i32) -> io::Result<(i32, c_int)> {
    wait_for(pid, libc::__WALL)
}

fn wait_for(pid: i32, options: c_int) -> io::Result<(i32, c_int)> {
    loop {
        let mut status = 0;
        // SAFETY: the call writes only to `status`.
        let changed = unsafe { libc::waitpid(pid, &mut status, options) };
        if changed > 0 {
            return Ok((changed, status));
        }
        let error = Error::last_os_error();
        if error.kind() != io::ErrorKind::Interrupted {
            return Err(error);
        }
    }
}
