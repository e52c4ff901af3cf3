//! The data that the kernel gives to a new process.

use alloc::string::String;
use alloc::vec::Vec;
use core::ffi::{CStr, c_char};
use core::ops::Range;
use core::{ptr, slice};

use rustix::fs::{Access, FileType};

use crate::elf;

/// The arguments, environment and auxiliary vector on the stack of a new process (Linux, fs/binfmt_elf.c,
/// `create_elf_tables()`).
pub struct Start<'a> {
    pub arguments: Vec<&'a CStr>,
    pub environment: Vec<&'a CStr>,
    pub auxiliary: &'a [[u64; 2]],
}

impl Start<'_> {
    /// # Safety
    /// The kernel has put the tables there, and nothing changes them.
    pub unsafe fn at(stack: *const u64) -> Self {
        // SAFETY: the tables are those of the kernel: the number of arguments comes first, and a NULL ends both arrays.
        unsafe {
            let texts = |first: *const u64| -> Vec<&CStr> {
                (0..)
                    .map_while(|index| {
                        let text = first.add(index).read() as *const c_char;
                        (!text.is_null()).then(|| CStr::from_ptr(text))
                    })
                    .collect()
            };
            let (pairs, count) = auxiliary_vector(stack.cast_mut());
            Self {
                arguments: texts(stack.add(1)),
                environment: texts(stack.add(stack.read() as usize + 2)),
                auxiliary: slice::from_raw_parts(pairs, count),
            }
        }
    }

    /// A value of the auxiliary vector (getauxval(3)); zero if it has none of this kind.
    pub fn auxiliary(&self, kind: u64) -> u64 {
        let mut pairs = self.auxiliary.iter();
        pairs.find(|pair| pair[0] == kind).map_or(0, |pair| pair[1])
    }

    /// The contents that values of the auxiliary vector point to: the name of the processor, the name of the executed
    /// file, and random bytes (getauxval(3)).
    pub fn auxiliary_contents(&self) -> impl Iterator<Item = (u64, &[u8])> {
        const RANDOM_BYTES: usize = 16;
        self.auxiliary.iter().filter_map(|&[kind, value]| {
            let place: *const u8 = ptr::with_exposed_provenance(value as usize);
            // SAFETY: for these kinds, the kernel has put 16 bytes or a text with NUL on the stack.
            let bytes = unsafe {
                match kind {
                    libc::AT_RANDOM => slice::from_raw_parts(place, RANDOM_BYTES),
                    libc::AT_PLATFORM | libc::AT_BASE_PLATFORM | libc::AT_EXECFN => {
                        CStr::from_ptr(place.cast()).to_bytes_with_nul()
                    }
                    _ => return None,
                }
            };
            Some((kind, bytes))
        })
    }

    /// The value of a variable.
    pub fn variable(&self, name: &[u8]) -> Option<&[u8]> {
        self.variables()
            .find(|(known, _)| *known == name)
            .map(|(_, value)| value)
    }

    /// Names and values of all variables.
    pub fn variables(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        self.environment.iter().filter_map(|text| {
            let text = text.to_bytes();
            let equals = text.iter().position(|&byte| byte == b'=')?;
            Some((&text[..equals], &text[equals + 1..]))
        })
    }

    /// The path that the interpreter computes for itself, `sys.executable`.
    pub fn executable(&self) -> Option<Vec<u8>> {
        executable(self.arguments.first()?.to_bytes(), self.variable(b"PATH"))
    }

    fn headers(&self) -> &[libc::Elf64_Phdr] {
        let (address, count) = (
            self.auxiliary(libc::AT_PHDR),
            self.auxiliary(libc::AT_PHNUM),
        );
        if address == 0 {
            return &[];
        }
        // SAFETY: the kernel has mapped the program and gives the address and the number of its headers.
        unsafe {
            slice::from_raw_parts(
                ptr::with_exposed_provenance(address as usize),
                count as usize,
            )
        }
    }

    /// The build id of the program, which is not position-independent.
    pub fn build_id(&self) -> Option<String> {
        let notes = self
            .headers()
            .iter()
            .filter(|header| header.p_type == libc::PT_NOTE);
        let contents = notes.map(|header| {
            // SAFETY: the notes are part of a readable segment that the kernel has mapped at this address.
            unsafe {
                slice::from_raw_parts(
                    ptr::with_exposed_provenance(header.p_vaddr as usize),
                    header.p_memsz as usize,
                )
            }
        });
        contents.filter_map(elf::build_id).next()
    }

    /// Addresses of the program's code and constants.
    pub fn constant_segments(&self) -> impl Iterator<Item = Range<u64>> {
        let loaded = |header: &&libc::Elf64_Phdr| {
            header.p_type == libc::PT_LOAD && header.p_flags & libc::PF_W == 0
        };
        self.headers().iter().filter(loaded).map(|header| {
            let start = header.p_vaddr - header.p_vaddr % crate::PAGE;
            start..(header.p_vaddr + header.p_memsz).next_multiple_of(crate::PAGE)
        })
    }
}

/// The address of the auxiliary vector on the stack of a new process, and its number of pairs, without the last pair,
/// which is zero.
///
/// # Safety
/// The kernel has put the tables there.
pub unsafe fn auxiliary_vector(stack: *mut u64) -> (*mut [u64; 2], usize) {
    // SAFETY: the tables are those of the kernel: a NULL ends the arguments, the environment follows, a NULL ends it,
    // the vector follows, and a pair that begins with zero ends the vector.
    unsafe {
        let mut word = stack.add(stack.read() as usize + 2);
        while word.read() != 0 {
            word = word.add(1);
        }
        let pairs = word.add(1).cast::<[u64; 2]>();
        let is_pair = |&index: &usize| (*pairs.add(index))[0] != libc::AT_NULL;
        (pairs, (0..).take_while(is_pair).count())
    }
}

/// The path that the interpreter computes for itself (Modules/getpath.py, `program_full_path`).
fn executable(name: &[u8], search_path: Option<&[u8]>) -> Option<Vec<u8>> {
    if name.contains(&b'/') {
        let path = if name.starts_with(b"/") {
            name.to_vec()
        } else {
            let here = rustix::process::getcwd(Vec::new()).ok()?;
            [here.to_bytes(), b"/", name].concat()
        };
        return Some(normalized(&path));
    }
    let directories = search_path?.split(|&byte| byte == b':');
    let mut candidates = directories.map(|directory| [directory, b"/", name].concat());
    candidates.find(|candidate| {
        let is_file = || {
            let status = rustix::fs::stat(&candidate[..]).ok();
            status.is_some_and(|status| {
                FileType::from_raw_mode(status.st_mode) == FileType::RegularFile
            })
        };
        rustix::fs::access(&candidate[..], Access::EXEC_OK).is_ok() && is_file()
    })
}

/// An absolute path without `.` and `..`. Symbolic links are not followed.
fn normalized(path: &[u8]) -> Vec<u8> {
    let mut parts: Vec<&[u8]> = Vec::new();
    for part in path.split(|&byte| byte == b'/') {
        match part {
            b"" | b"." => {}
            b".." => {
                parts.pop();
            }
            part => parts.push(part),
        }
    }
    parts
        .iter()
        .flat_map(|part| [b"/", *part].concat())
        .collect()
}
