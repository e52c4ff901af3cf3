//! The memory of the frozen process on its way into the image's file.
//!
//! # What may stay a mapping of the file
//!
//! A private mapping of a file is not what anonymous memory is: mremap(2) lets it grow into the pages of the file that
//! follow, `MADV_DONTNEED` brings the file's bytes back where allocators expect zeros, `MADV_FREE` and `MADV_WIPEONFORK`
//! are refused. So memory that was anonymous is anonymous in a restored process, and its contents are copied. These
//! parts are not copied, since nobody but their owner does anything with their pages ([`Owner`]):
//!
//! - *The interpreter's own variables* (`.data`, `.bss`): a part of the program's file, which is never unmapped, moved
//!   or given back.
//! - *Arenas of the interpreter's allocator*: they come from mmap(2), and the only thing that is done with one is
//!   munmap(2) of the whole, which is right for a mapping of a file, too (Objects/obmalloc.c, `_PyObject_ArenaFree()`).
//! - *The graph of references* ([`Graph`]): tables of this library, to which nothing is written, and which nobody else knows.
//! - *Pages of the C library's heap below the program break that hold a part of an immortal object* ([`malloc_heap`]), five
//!   of six of pandas. A program can do something with pages only if they are its own, whole pages inside of one block.
//!   Which those are does not stay as it was: what is freed, whatever its size, becomes one with its free neighbours, and a
//!   large block is made of that. But the memory of an immortal object is never freed, so no block ever has such a page
//!   for itself. All other pages of the heap are anonymous again. To copy all 14 MB of pandas would add 69 % to a start;
//!   to copy these adds 12 %.
//!   The heap as a whole grows and shrinks by brk(2), by which the kernel maps new anonymous memory behind it and unmaps
//!   what is at its end, whatever that is (Linux, mm/mmap.c). The C library takes memory for zeros only where the break
//!   has just been moved (glibc, malloc/malloc.c, `sysmalloc()` and `__libc_calloc()`).
//!
//! Mappings of files (the program, libraries, data) stay what they were: pages that the process has changed come from
//! the image's file, which is a private mapping in the place of a private mapping.

use std::ffi::{c_int, c_void};
use std::fs::File;
use std::io::{self, Error};
use std::ops::Range;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileExt;
use std::path::Path;

use rustix::process::{Resource, getrlimit};
use startup_image::format::{Advice, FileIdentity, Fill, PrefaultRange, Region, Source};
use startup_image::{PAGE, malloc_heap, places};

use super::memory_map::{self, Mapping};
use super::writer::Writer;
use crate::cpython::graph::Graph;
use crate::cpython::image;
use crate::kernel::page_map::PageMap;
use crate::kernel::process_memory::ProcessMemory;

/// Fewer pages of the heap are copied: that costs less than a mapping of their own.
const SHORTEST_SHARED: u64 = 8;
/// Gaps that are shorter are stored where each region costs a system call.
const SHORTEST_GAP: u64 = 64;
/// So many pages are read at once.
const PAGES_AT_ONCE: usize = 64;
const DEFAULT_STACK: u64 = 8 << 20;
const LARGEST: u64 = 1 << 36;

/// The memory of a stopped process.
pub struct Memory {
    bytes: ProcessMemory,
    pages: PageMap,
}

impl Memory {
    pub fn of(pid: i32) -> io::Result<Self> {
        Ok(Self {
            bytes: ProcessMemory(pid),
            pages: PageMap::of_process(&pid.to_string())?,
        })
    }

    pub fn read(&self, address: u64, bytes: u64) -> io::Result<Vec<u8>> {
        let mut contents = vec![0; bytes as usize];
        self.bytes.read(&mut contents, address)?;
        Ok(contents)
    }
}

/// Whose anonymous memory is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Owner {
    /// One who never does with its pages what the module's documentation names: it stays a mapping of the file.
    Known,
    Anybody,
}

/// Where the memory of known owners lies, apart from the heap, which `/proc/PID/maps` names.
struct Owned {
    ranges: Vec<Range<u64>>,
    /// Where blocks of the heap begin that are never freed, in order.
    lasting_blocks: Vec<u64>,
}

impl Owned {
    /// The frozen process is a fork of this one.
    fn here(lasting_blocks: &[u64]) -> Self {
        let mut ranges = program();
        ranges.extend(image::arenas());
        ranges.extend(Graph::get().map(Graph::memory));
        ranges.sort_by_key(|range| range.start);
        let mut lasting_blocks = lasting_blocks.to_vec();
        lasting_blocks.sort_unstable();
        Self {
            ranges,
            lasting_blocks,
        }
    }

    /// Divides a mapping into pieces by owner.
    fn pieces(&self, mapping: &Mapping) -> Vec<(Range<u64>, Owner)> {
        divide(
            mapping.start..mapping.end,
            &self.ranges,
            Owner::Known,
            Owner::Anybody,
        )
    }

    /// The same for the C library's heap, of which these are the contents.
    fn pieces_of_heap(&self, mapping: &Mapping, heap: &[u8]) -> Vec<(Range<u64>, Owner)> {
        let mut shared = malloc_heap::shared_for_good(mapping.start, heap, &self.lasting_blocks);
        shared.retain(|range| range.end - range.start >= SHORTEST_SHARED * PAGE);
        divide(
            mapping.start..mapping.end,
            &shared,
            Owner::Known,
            Owner::Anybody,
        )
    }
}

/// Divides a range by whether it is inside of others, which are in order.
fn divide<T: Copy>(
    whole: Range<u64>,
    others: &[Range<u64>],
    inside: T,
    outside: T,
) -> Vec<(Range<u64>, T)> {
    let mut at = whole.start;
    let mut pieces = Vec::new();
    for other in others {
        let (start, stop) = (other.start.max(at), other.end.min(whole.end));
        if start >= stop {
            continue;
        }
        if at < start {
            pieces.push((at..start, outside));
        }
        pieces.push((start..stop, inside));
        at = stop;
    }
    if at < whole.end {
        pieces.push((at..whole.end, outside));
    }
    pieces
}

/// The segments of the program itself, the first object of all (dl_iterate_phdr(3)).
fn program() -> Vec<Range<u64>> {
    unsafe extern "C" fn note(info: *mut libc::dl_phdr_info, _: usize, list: *mut c_void) -> c_int {
        // SAFETY: a valid description, with as many headers as it says, and `list` as it was given.
        let (info, headers, list) = unsafe {
            let info = &*info;
            let headers = std::slice::from_raw_parts(info.dlpi_phdr, info.dlpi_phnum.into());
            (info, headers, &mut *list.cast::<Vec<Range<u64>>>())
        };
        let loaded = headers
            .iter()
            .filter(|header| header.p_type == libc::PT_LOAD);
        list.extend(loaded.map(|header| {
            let start = info.dlpi_addr + header.p_vaddr;
            start - start % PAGE..(start + header.p_memsz).next_multiple_of(PAGE)
        }));
        1
    }
    let mut list: Vec<Range<u64>> = Vec::new();
    // SAFETY: the callback gets `list` and does not outlive this call.
    unsafe { libc::dl_iterate_phdr(Some(note), (&raw mut list).cast()) };
    list
}

/// Whether an address is one of the program, of which all processes have the same.
pub fn is_in_program(address: u64) -> bool {
    program().iter().any(|segment| segment.contains(&address))
}

/// What has become of the memory.
pub struct Dumped<'a> {
    pub writer: Writer<'a>,
    pub regions: Vec<Region>,
    pub fills: Vec<Fill>,
    pub advice: Vec<Advice>,
    pub files: Vec<(Vec<u8>, FileIdentity)>,
}

/// Writes the memory of a process, mapping by mapping, in the order of their addresses.
pub struct MemoryDump<'a> {
    memory: &'a Memory,
    owned: Owned,
    dumped: Dumped<'a>,
}

impl<'a> MemoryDump<'a> {
    /// `lasting_blocks` says where blocks of malloc() begin that are never freed.
    pub fn new(memory: &'a Memory, writer: Writer<'a>, lasting_blocks: &[u64]) -> Self {
        Self {
            memory,
            owned: Owned::here(lasting_blocks),
            dumped: Dumped {
                writer,
                regions: Vec::new(),
                fills: Vec::new(),
                advice: Vec::new(),
                files: Vec::new(),
            },
        }
    }

    /// Writes what is read into anonymous memory, in one piece, so that few system calls read it.
    pub fn finish(mut self) -> io::Result<Dumped<'a>> {
        for fill in &mut self.dumped.fills {
            let contents = self.memory.read(fill.address, fill.bytes)?;
            fill.offset = self.dumped.writer.add(&contents)?;
        }
        Ok(self.dumped)
    }

    /// What of some ranges of pages is writable and not filled anyway.
    pub fn in_writable_files(&self, ranges: &[PrefaultRange]) -> Vec<PrefaultRange> {
        let mut inside: Vec<PrefaultRange> = Vec::new();
        let mut push = |start: u64, end: u64| match inside.last_mut() {
            _ if start >= end => {}
            Some(last) if last.end == start => last.end = end,
            _ => inside.push(PrefaultRange { start, end }),
        };
        for range in ranges {
            for region in &self.dumped.regions {
                let start = range.start.max(region.address);
                let end = range.end.min(region.end());
                if start >= end || region.protection & memory_map::WRITE == 0 {
                    continue;
                }
                let mut at = start;
                let fills = &self.dumped.fills;
                let first = fills.partition_point(|fill| fill.end() <= start);
                for fill in fills[first..].iter().take_while(|fill| fill.address < end) {
                    push(at, fill.address);
                    at = at.max(fill.end());
                }
                push(at, end);
            }
        }
        inside
    }

    pub fn add(&mut self, mapping: &Mapping) -> io::Result<()> {
        let Mapping {
            start,
            end,
            protection,
            name,
            ..
        } = mapping;
        let (start, end, protection) = (*start, *end, *protection);
        if start < places::ALL.end && end > places::ALL.start {
            return Err(Error::other("the address that restoring needs is taken"));
        }
        if name.starts_with("[vvar") || name == "[vdso]" || name == "[vsyscall]" {
            return Ok(());
        }
        if mapping.is_shared && protection & memory_map::WRITE != 0 {
            return Err(Error::other(format!(
                "memory is shared with other processes: {name}"
            )));
        }
        if protection & memory_map::READ == 0 {
            self.push(start, end - start, Source::Zero, mapping);
            return Ok(());
        }
        if end - start > LARGEST {
            return Err(Error::other(
                "a part of memory is too large (AddressSanitizer?)",
            ));
        }
        self.add_advice(mapping);
        if name == "[stack]" {
            return self.add_stack(mapping);
        }
        if let Some((index, file)) = self.backing(mapping)? {
            return self.add_backed(mapping, index, &file);
        }
        let pieces = if name == "[heap]" {
            let heap = self.memory.read(start, end - start)?;
            self.owned.pieces_of_heap(mapping, &heap)
        } else {
            self.owned.pieces(mapping)
        };
        for (piece, owner) in pieces {
            if mapping.inode == 0 && owner == Owner::Anybody {
                self.add_anonymous(&piece, mapping)?;
            } else {
                self.add_mapped(&piece, mapping)?;
            }
        }
        Ok(())
    }

    /// The stack of a process can grow to its limit. All of that is mapped at once: in a restored process other memory
    /// could be mapped into the room that the kernel keeps for it otherwise.
    fn add_stack(&mut self, mapping: &Mapping) -> io::Result<()> {
        let limit = getrlimit(Resource::Stack).current.unwrap_or(DEFAULT_STACK);
        let bottom = (mapping.end - limit.next_multiple_of(PAGE)).min(mapping.start);
        let last = self.dumped.regions.last();
        if last.is_some_and(|last| last.end() > bottom) {
            return Err(Error::other("there is no room for the stack"));
        }
        self.push(bottom, mapping.start - bottom, Source::Zero, mapping);
        self.add_anonymous(&(mapping.start..mapping.end), mapping)
    }

    /// Advice that a process can give again.
    fn add_advice(&mut self, mapping: &Mapping) {
        for (flag, advice) in [
            ("hg", libc::MADV_HUGEPAGE),
            ("nh", libc::MADV_NOHUGEPAGE),
            ("dd", libc::MADV_DONTDUMP),
            ("mg", libc::MADV_MERGEABLE),
        ] {
            if mapping.has_flag(flag) {
                self.dumped.advice.push(Advice {
                    address: mapping.start,
                    bytes: mapping.end - mapping.start,
                    advice: advice as u32,
                });
            }
        }
    }

    /// The file behind a mapping, if it is still there.
    fn backing(&mut self, mapping: &Mapping) -> io::Result<Option<(u32, File)>> {
        if mapping.inode == 0 || !mapping.name.starts_with('/') {
            return Ok(None);
        }
        let path = Path::new(&mapping.name);
        let opened = File::open(path).and_then(|file| Ok((rustix::fs::fstat(&file)?, file)));
        let Ok((status, file)) = opened else {
            return Ok(None);
        };
        let identity = FileIdentity::of(&status);
        if identity.inode != mapping.inode {
            return Ok(None);
        }
        let files = &mut self.dumped.files;
        let known = files.iter().position(|(_, known)| *known == identity);
        let index = known.unwrap_or_else(|| {
            let path = path.as_os_str().as_bytes().to_vec();
            files.push((path, identity));
            files.len() - 1
        });
        Ok(Some((index as u32, file)))
    }

    /// Pages that are as in the file are not stored.
    fn add_backed(&mut self, mapping: &Mapping, index: u32, file: &File) -> io::Result<()> {
        let (start, end) = (mapping.start, mapping.end);
        let size = file.metadata()?.len();
        let contents = self.memory_or_nothing(mapping, size)?;
        let mut in_file = vec![0; contents.len()];
        let mut filled = 0;
        while filled < in_file.len() {
            match file.read_at(&mut in_file[filled..], mapping.offset + filled as u64)? {
                0 => break,
                bytes => filled += bytes,
            }
        }
        let pages = contents
            .chunks_exact(PAGE as usize)
            .zip(in_file.chunks_exact(PAGE as usize));
        if mapping.protection & memory_map::EXECUTE != 0 && pages.clone().any(has_breakpoint) {
            return Err(Error::other(format!(
                "{} has a breakpoint (a debugger's, or a uprobe)",
                mapping.name
            )));
        }
        let mut is_same: Vec<bool> = pages.map(|(here, there)| here == there).collect();
        fill_gaps(&mut is_same);
        for (from, to, same) in runs(&is_same) {
            let address = start + from * PAGE;
            let source = if same {
                Source::File(index, mapping.offset + from * PAGE)
            } else {
                let pages = &contents[(from * PAGE) as usize..(to * PAGE) as usize];
                Source::Image(self.dumped.writer.add(pages)?)
            };
            self.push(address, (to - from) * PAGE, source, mapping);
        }
        // Behind the end of the file nothing can be read, nor stored.
        let stored = start + contents.len() as u64;
        if stored < end {
            let source = Source::File(index, mapping.offset + contents.len() as u64);
            self.push(stored, end - stored, source, mapping);
        }
        Ok(())
    }

    fn memory_or_nothing(&self, mapping: &Mapping, file_bytes: u64) -> io::Result<Vec<u8>> {
        let in_file = file_bytes
            .next_multiple_of(PAGE)
            .saturating_sub(mapping.offset);
        self.memory
            .read(mapping.start, in_file.min(mapping.end - mapping.start))
    }

    /// Memory that stays a mapping of the file. Pages that were never touched, or are zero, are not stored.
    fn add_mapped(&mut self, piece: &Range<u64>, mapping: &Mapping) -> io::Result<()> {
        let mut is_zero = self.zero_pages(piece)?;
        fill_gaps(&mut is_zero);
        for (from, to, zero) in runs(&is_zero) {
            let (address, bytes) = (piece.start + from * PAGE, (to - from) * PAGE);
            let source = if zero {
                Source::Zero
            } else {
                Source::Image(self.dumped.writer.add(&self.memory.read(address, bytes)?)?)
            };
            self.push(address, bytes, source, mapping);
        }
        Ok(())
    }

    /// Memory that is anonymous again, with the pages that are not zero to be read into it. [`Self::finish`] writes them.
    fn add_anonymous(&mut self, piece: &Range<u64>, mapping: &Mapping) -> io::Result<()> {
        for (from, to, zero) in runs(&self.zero_pages(piece)?) {
            if zero {
                continue;
            }
            self.dumped.fills.push(Fill {
                address: piece.start + from * PAGE,
                bytes: (to - from) * PAGE,
                offset: 0,
            });
        }
        self.push(piece.start, piece.end - piece.start, Source::Zero, mapping);
        Ok(())
    }

    fn zero_pages(&self, piece: &Range<u64>) -> io::Result<Vec<bool>> {
        let flags = self.memory.pages.flags(piece.start, piece.end)?;
        let mut is_zero: Vec<bool> = flags.iter().map(|flags| !flags.is_touched()).collect();
        for (from, to, untouched) in runs(&is_zero) {
            if untouched {
                continue;
            }
            for at in (from..to).step_by(PAGES_AT_ONCE) {
                let count = (to - at).min(PAGES_AT_ONCE as u64);
                let address = piece.start + at * PAGE;
                let contents = self.memory.read(address, count * PAGE)?;
                let pages = contents.chunks_exact(PAGE as usize);
                for (is_zero, page) in is_zero[at as usize..].iter_mut().zip(pages) {
                    *is_zero = page.iter().all(|&byte| byte == 0);
                }
            }
        }
        Ok(is_zero)
    }

    /// Adds a region, to the last one if it continues that.
    fn push(&mut self, address: u64, bytes: u64, source: Source, mapping: &Mapping) {
        if bytes == 0 {
            return;
        }
        let is_anonymous = source == Source::Zero;
        let mut flags = 0;
        for (name, flag, wanted) in [
            ("nr", libc::MAP_NORESERVE, true),
            ("gd", libc::MAP_GROWSDOWN, is_anonymous),
        ] {
            if wanted && mapping.has_flag(name) {
                flags |= flag as u32;
            }
        }
        if mapping.is_shared && matches!(source, Source::File(..)) {
            flags |= libc::MAP_SHARED as u32;
        }
        let region = Region {
            address,
            bytes,
            source,
            protection: mapping.protection,
            flags,
        };
        let regions = &mut self.dumped.regions;
        if let Some(last) = regions.last_mut()
            && continues(last, &region)
        {
            last.bytes += bytes;
            return;
        }
        regions.push(region);
    }
}

/// Whether one mapping can be both regions.
fn continues(last: &Region, next: &Region) -> bool {
    let has_same_source = match (last.source, next.source) {
        (Source::Zero, Source::Zero) => true,
        (Source::Image(before), Source::Image(now)) => before + last.bytes == now,
        (Source::File(a, before), Source::File(b, now)) => a == b && before + last.bytes == now,
        _ => false,
    };
    has_same_source
        && last.end() == next.address
        && last.protection == next.protection
        && last.flags == next.flags
}

/// Whether code that is the first has a breakpoint where the second, its file, has none: nobody would be there to handle it
/// in a restored process.
fn has_breakpoint((here, there): (&[u8], &[u8])) -> bool {
    const INT3: u8 = 0xcc;
    here != there
        && here
            .iter()
            .zip(there)
            .any(|(here, there)| *here == INT3 && *there != INT3)
}

/// Stores pages that need not be stored where only few of them lie between others.
fn fill_gaps(is_left_out: &mut [bool]) {
    let gaps: Vec<_> = runs(is_left_out)
        .filter(|&(_, _, left_out)| left_out)
        .collect();
    let count = is_left_out.len() as u64;
    for (from, to, _) in gaps {
        if from > 0 && to < count && to - from < SHORTEST_GAP {
            is_left_out[from as usize..to as usize].fill(false);
        }
    }
}

/// Runs of equal values: first index, index behind the last, value.
fn runs(values: &[bool]) -> impl Iterator<Item = (u64, u64, bool)> + use<> {
    let mut start = 0;
    let runs: Vec<_> = values
        .chunk_by(|a, b| a == b)
        .map(|run| {
            let from = start;
            start += run.len() as u64;
            (from, start, run[0])
        })
        .collect();
    runs.into_iter()
}
