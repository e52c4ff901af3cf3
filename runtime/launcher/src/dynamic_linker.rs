//! Loads and enters the dynamic linker, as the kernel does for programs that ask for one (Linux, fs/binfmt_elf.c,
//! `load_elf_binary()`).

use core::arch::asm;
use core::ffi::{CStr, c_void};
use core::{mem, ptr, slice};

use libc::{Elf64_Ehdr as Header, Elf64_Phdr as Segment};
use rustix::fd::OwnedFd;
use rustix::fs::{CWD, Mode, OFlags};
use rustix::mm::{MapFlags, ProtFlags};
use startup_image::start::auxiliary_vector;

/// The path of the dynamic linker: the one that the system's compiler writes into programs.
const PATH: &CStr = {
    let path = concat!(env!("CDS_DYNAMIC_LINKER"), "\0");
    match CStr::from_bytes_with_nul(path.as_bytes()) {
        Ok(path) => path,
        Err(_) => panic!("a path with a NUL"),
    }
};

const PAGE: u64 = startup_image::PAGE;
/// An upper limit of segments. No dynamic linker and no interpreter has as many.
const MOST_SEGMENTS: usize = 32;

unsafe extern "C" {
    /// The entry point of the C library.
    fn _start();
}

/// The program headers that the dynamic linker gets: those of the program, and one that names the dynamic linker.
static mut HEADERS: [Segment; MOST_SEGMENTS] = {
    // SAFETY: a header is a structure of integers; zeros are a header of type PT_NULL.
    unsafe { mem::zeroed() }
};

/// Starts the program in the ordinary way.
///
/// # Safety
/// The stack is as the kernel has made it, and no code has a reference to it.
pub unsafe fn enter(stack: *mut u64) -> ! {
    // SAFETY: the caller passes the stack that the kernel has made, and `load()` returns the entry point of the dynamic
    // linker.
    unsafe {
        let Some((base, entry)) = load() else { fail() };
        amend(stack, base);
        asm!(
            "mov rsp, {stack}",
            "xor edx, edx",
            "xor ebp, ebp",
            "jmp {entry}",
            stack = in(reg) stack,
            entry = in(reg) entry,
            options(noreturn),
        )
    }
}

/// Changes the auxiliary vector to what the kernel passes for a program that asks for a dynamic linker.
///
/// # Safety
/// The same as for [`enter`].
unsafe fn amend(stack: *mut u64, base: u64) {
    // SAFETY: the caller passes the stack of the kernel. The program's headers are mapped, and `HEADERS` has room for
    // them, which is checked. No other thread uses `HEADERS`.
    unsafe {
        let (pairs, count) = auxiliary_vector(stack);
        let pairs = slice::from_raw_parts_mut(pairs, count);
        let value = |kind| {
            pairs
                .iter()
                .find(|pair| pair[0] == kind)
                .map(|pair| pair[1])
        };
        let (Some(address), Some(headers)) = (value(libc::AT_PHDR), value(libc::AT_PHNUM)) else {
            fail()
        };
        let headers = headers as usize;
        if headers >= MOST_SEGMENTS {
            fail();
        }
        let copy: *mut Segment = (&raw mut HEADERS).cast();
        let own: *const Segment = ptr::with_exposed_provenance(address as usize);
        copy.add(1).copy_from_nonoverlapping(own, headers);
        let path = PATH.to_bytes_with_nul();
        copy.write(Segment {
            p_type: libc::PT_INTERP,
            p_flags: libc::PF_R,
            p_offset: 0,
            p_vaddr: path.as_ptr() as u64,
            p_paddr: path.as_ptr() as u64,
            p_filesz: path.len() as u64,
            p_memsz: path.len() as u64,
            p_align: 1,
        });
        for pair in pairs {
            match pair[0] {
                libc::AT_PHDR => pair[1] = copy as u64,
                libc::AT_PHNUM => pair[1] = headers as u64 + 1,
                libc::AT_BASE => pair[1] = base,
                libc::AT_ENTRY => pair[1] = _start as *const () as u64,
                _ => {}
            }
        }
    }
}

/// Maps the dynamic linker and returns its base address and its entry point.
fn load() -> Option<(u64, u64)> {
    let file =
        rustix::fs::openat(CWD, PATH, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()).ok()?;
    // SAFETY: `Header` is a structure of integers, for which zeros are valid.
    let mut header: Header = unsafe { mem::zeroed() };
    read(&file, slice::from_mut(&mut header), 0)?;
    let count = usize::from(header.e_phnum);
    if !header.e_ident.starts_with(b"\x7fELF") || count > MOST_SEGMENTS {
        return None;
    }
    // SAFETY: `Segment` is a structure of integers, for which zeros are valid.
    let mut segments: [Segment; MOST_SEGMENTS] = unsafe { mem::zeroed() };
    read(&file, &mut segments[..count], header.e_phoff)?;
    let segments = &segments[..count];
    let loaded = || {
        segments
            .iter()
            .filter(|segment| segment.p_type == libc::PT_LOAD)
    };
    let end = loaded()
        .map(|segment| segment.p_vaddr + segment.p_memsz)
        .max()?;
    let private = MapFlags::PRIVATE;
    // SAFETY: the kernel chooses an unused address.
    let base = unsafe {
        let bytes = end.next_multiple_of(PAGE) as usize;
        rustix::mm::mmap_anonymous(ptr::null_mut(), bytes, ProtFlags::empty(), private).ok()?
    };
    let base = base.expose_provenance() as u64;
    for segment in loaded() {
        let into_page = segment.p_vaddr % PAGE;
        let start = address(base + segment.p_vaddr - into_page);
        let in_file = base + segment.p_vaddr + segment.p_filesz;
        let end = (base + segment.p_vaddr + segment.p_memsz).next_multiple_of(PAGE);
        let mapped = in_file.next_multiple_of(PAGE);
        let protection = protection(segment.p_flags);
        // SAFETY: the segment lies in the range that was reserved above, and nothing else uses this range.
        unsafe {
            rustix::mm::mmap(
                start,
                (segment.p_filesz + into_page) as usize,
                protection,
                private | MapFlags::FIXED,
                &file,
                segment.p_offset - into_page,
            )
            .ok()?;
            if segment.p_memsz > segment.p_filesz {
                address(in_file)
                    .cast::<u8>()
                    .write_bytes(0, (mapped - in_file) as usize);
            }
            if end > mapped {
                let bytes = (end - mapped) as usize;
                let fixed = private | MapFlags::FIXED;
                rustix::mm::mmap_anonymous(address(mapped), bytes, protection, fixed).ok()?;
            }
        }
    }
    Some((base, base + header.e_entry))
}

fn address(number: u64) -> *mut c_void {
    ptr::with_exposed_provenance_mut(number as usize)
}

fn protection(flags: u32) -> ProtFlags {
    let mut protection = ProtFlags::empty();
    for (flag, right) in [
        (libc::PF_R, ProtFlags::READ),
        (libc::PF_W, ProtFlags::WRITE),
        (libc::PF_X, ProtFlags::EXEC),
    ] {
        protection.set(right, flags & flag != 0);
    }
    protection
}

/// Fills structures of integers from a file.
fn read<T: Copy>(file: &OwnedFd, values: &mut [T], offset: u64) -> Option<()> {
    let bytes = size_of_val(values);
    // SAFETY: the buffer covers the values, and the callers pass structures of integers, for which all bytes are valid.
    let buffer = unsafe { slice::from_raw_parts_mut(values.as_mut_ptr().cast::<u8>(), bytes) };
    (rustix::io::pread(file, buffer, offset) == Ok(bytes)).then_some(())
}

/// Reports that the dynamic linker cannot be loaded, and ends the process.
fn fail() -> ! {
    const COMMAND_NOT_FOUND: u64 = 127;
    // SAFETY: the descriptor is only written to; if standard error is closed, the write fails.
    let stderr = unsafe { rustix::fd::BorrowedFd::borrow_raw(2) };
    for text in [&b"python: cannot load "[..], PATH.to_bytes(), b"\n"] {
        let _ = rustix::io::write(stderr, text);
    }
    loop {
        // SAFETY: the call ends the process and takes no addresses.
        unsafe {
            startup_image::system_call::call(
                libc::SYS_exit_group as u64,
                &[COMMAND_NOT_FOUND, 0, 0, 0, 0, 0],
            )
        };
    }
}
