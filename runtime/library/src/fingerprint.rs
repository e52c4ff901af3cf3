//! What must be the same in the interpreter that wrote an archive and in the one that uses it.

use std::ffi::c_void;
use std::fmt::Write;
use std::{ptr, slice};

use archive_format::{Header, Rejection};
use startup_image::elf;

use crate::cpython::config::Config;
use crate::cpython::{anchor, object};

/// The facts that an archive depends on, as `key=value` lines. The order is that in which a mismatch is
/// reported: what tells a user most comes first.
///
/// The build id stands for everything that is fixed when the interpreter is linked: version, magic number,
/// ABI flags, architecture, the layout of every struct, the address of every static object.
pub fn facts(config: &Config, image: &Image, lower: Option<&Header>) -> Option<String> {
    let mut facts = String::new();
    let mut fact = |key: &str, value: &str| {
        // A value with a newline cannot be told from two facts.
        let value = value.replace('\n', "?");
        writeln!(facts, "{key}={value}").ok()
    };
    fact("python version", object::version())?;
    fact(OPTIONS[0], &config.optimization_level().to_string())?;
    fact(
        OPTIONS[1],
        if config.has_debug_ranges() {
            "yes"
        } else {
            "no"
        },
    )?;
    fact(OPTIONS[2], &config.pycache_prefix().unwrap_or_default())?;
    fact(BUILD, image.build_id()?)?;
    fact(
        LOWER_LAYER,
        &lower.map_or_else(|| "none".to_owned(), identity),
    )?;
    Some(facts)
}

/// The facts that options of one process decide.
const OPTIONS: [&str; 3] = [
    "optimization level",
    "column numbers in code",
    "pycache prefix",
];

/// Whether an archive is refused for an option of this process, and fits others of the same interpreter.
pub fn is_option_mismatch(rejection: &Rejection) -> bool {
    matches!(rejection, Rejection::Fact { key, .. } if OPTIONS.contains(&key.as_str()))
}

/// The fact that names the build of the interpreter.
pub const BUILD: &str = "interpreter build";

/// The fact that names the archive which another one refers into.
const LOWER_LAYER: &str = "standard library archive";

/// Whether an archive refers into another one.
pub fn has_lower_layer(header: &Header) -> bool {
    header
        .fact(LOWER_LAYER)
        .is_some_and(|lower| lower != "none")
}

/// The identity of an archive as text.
pub fn identity(header: &Header) -> String {
    header
        .identity
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

/// The executable or shared library that the interpreter's static objects lie in.
pub struct Image {
    /// Addresses of its loaded segments.
    segments: Vec<(u64, u64)>,
    /// The linker's hash of its contents, in hexadecimal.
    build_id: Option<String>,
}

impl Image {
    /// Looks the image up among all loaded ones (`dl_iterate_phdr(3)`).
    pub fn current() -> Option<Self> {
        let mut found = None;
        // SAFETY: the callback gets `found` and does not outlive this call.
        unsafe { libc::dl_iterate_phdr(Some(visit), (&raw mut found).cast()) };
        found
    }

    pub fn build_id(&self) -> Option<&str> {
        self.build_id.as_deref()
    }

    /// Up to `bytes` bytes of it from an address on; none if they are not part of it.
    pub fn copy(&self, address: u64, bytes: usize) -> Option<Vec<u8>> {
        let mut segments = self.segments.iter();
        let &(_, end) = segments.find(|&&(start, end)| (start..end).contains(&address))?;
        let addresses = address..end.min(address.saturating_add(bytes as u64));
        // Byte by byte, since memcpy() of more than one static object is an error to AddressSanitizer.
        // SAFETY: they lie in a loaded segment. The GIL, which the caller holds, guards what changes.
        let byte = |address| unsafe { ptr::read_volatile(address as *const u8) };
        Some(addresses.map(byte).collect())
    }

    /// Whether an object lies in it, which makes its address known at link time.
    pub fn contains(&self, address: u64) -> bool {
        self.segments
            .iter()
            .any(|&(start, end)| (start..end).contains(&address))
    }
}

unsafe extern "C" fn visit(
    info: *mut libc::dl_phdr_info,
    _size: usize,
    found: *mut c_void,
) -> libc::c_int {
    // SAFETY: `dl_iterate_phdr` passes a valid description of a loaded object, and `found` as it was given.
    let (info, found) = unsafe { (&*info, &mut *found.cast::<Option<Image>>()) };
    // SAFETY: an object has `dlpi_phnum` program headers.
    let headers = unsafe { slice::from_raw_parts(info.dlpi_phdr, usize::from(info.dlpi_phnum)) };
    let segments: Vec<(u64, u64)> = headers
        .iter()
        .filter(|header| header.p_type == libc::PT_LOAD)
        .map(|header| {
            (
                info.dlpi_addr + header.p_vaddr,
                info.dlpi_addr + header.p_vaddr + header.p_memsz,
            )
        })
        .collect();
    let image = Image {
        segments,
        build_id: None,
    };
    if !image.contains(anchor()) {
        return 0;
    }
    let notes = headers
        .iter()
        .filter(|header| header.p_type == libc::PT_NOTE)
        .map(|header| {
            // SAFETY: notes are part of a loaded, readable segment.
            unsafe {
                slice::from_raw_parts(
                    (info.dlpi_addr + header.p_vaddr) as *const u8,
                    header.p_memsz as usize,
                )
            }
        });
    *found = Some(Image {
        build_id: notes.filter_map(elf::build_id).next(),
        ..image
    });
    1
}
