//! Writes the memory of the frozen process to the image file.
//!
//! # What may stay a mapping of the file
//!
//! A private mapping of a file behaves differently from anonymous memory: mremap(2) lets it grow into the next pages of
//! the file, `MADV_DONTNEED` brings the file's bytes back where allocators expect zeros, and the kernel refuses
//! `MADV_FREE` and `MADV_WIPEONFORK`. So anonymous memory is anonymous again in a restored process, and its contents
//! are copied. These parts are not copied, because only their owner changes the mapping of their pages ([`Owner`]):
//!
//! - *The interpreter's own variables* (`.data`, `.bss`): a part of the interpreter's file, which is never unmapped,
//!   moved or given back.
//! - *Arenas of the interpreter's allocator*: they come from mmap(2). The only call for an arena is munmap(2) of the
//!   whole arena, which is correct for a mapping of a file, too (Objects/obmalloc.c, `_PyObject_ArenaFree()`).
//! - *The graph of references* ([`Graph`]): tables of this library, which nothing writes to and no other code knows.
//! - *Pages of the C library's heap below the program break that hold a part of an immortal object* ([`malloc_heap`]):
//!   with pandas, five of six pages. A program can call madvise(2) and the like only for whole pages inside of its own
//!   blocks. The blocks change: freed memory of any size is merged with its free neighbours, and can become a large
//!   block. But the memory of an immortal object is never freed, so no other block ever contains the whole of such a
//!   page. All other pages of the heap are anonymous again. To copy all 14 MB of pandas would add 69 % to a start. To
//!   copy only the other pages adds 12 %.
//!   The heap as a whole grows and shrinks by brk(2). The kernel maps new anonymous memory after it and unmaps its end,
//!   whatever kind of mapping that is (Linux, mm/mmap.c). The C library expects zeros only where it has just moved the
//!   break (glibc, malloc/malloc.c, `sysmalloc()` and `__libc_calloc()`).
//!
//! Mappings of files (the interpreter, libraries, data) stay mappings of these files. Pages that the process has
//! changed come from the image file: a private mapping replaces a private mapping.

use std::ffi::{c_int, c_void};
use std::fs::File;
use std::io::{self, Error};
use std::ops::Range;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileExt;
use std::path::Path;

use rustix::process::{Resource, getrlimit};
use startup_image::format::{
    Advice, FileIdentity, Fill, MAP_DROPPABLE, PrefaultRange, Region, Source,
};
use startup_image::{PAGE, malloc_heap, places};

use super::memory_flags;
use super::memory_map::{self, Mapping};
use super::writer::Writer;
use crate::cpython::graph::Graph;
use crate::cpython::image;
use crate::kernel::page_map::PageMap;
use crate::kernel::process_memory::ProcessMemory;

/// The smallest number of heap pages that stay a mapping. To copy fewer pages costs less than their own mapping.
const SHORTEST_SHARED: u64 = 8;
/// Shorter gaps, in pages, are stored in the image, because another region would cost another system call.
const SHORTEST_GAP: u64 = 64;
/// The size of the parts in which memory is read. The C library gets larger blocks from the kernel and gives them back,
/// each time.
const AT_ONCE: u64 = 16 * PAGE;
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

    /// Reads a range in parts. `each` gets the start of a part, relative to the range, and its contents.
    fn read_in_parts(
        &self,
        range: Range<u64>,
        mut each: impl FnMut(u64, &[u8]) -> io::Result<()>,
    ) -> io::Result<()> {
        let bytes = range.end - range.start;
        let mut buffer = vec![0; bytes.min(AT_ONCE) as usize];
        for at in (0..bytes).step_by(AT_ONCE as usize) {
            let part = &mut buffer[..(bytes - at).min(AT_ONCE) as usize];
            self.bytes.read(part, range.start + at)?;
            each(at, part)?;
        }
        Ok(())
    }
}

/// The owner of anonymous memory.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Owner {
    /// An owner that never changes its mapping in the ways that the module documentation names. The memory stays a
    /// mapping of the image file.
    Known,
    Anybody,
}

/// The memory of known owners. The heap is not in `ranges`, because `/proc/PID/maps` names it.
struct Owned {
    ranges: Vec<Range<u64>>,
    /// The addresses of heap blocks that are never freed, sorted.
    lasting_blocks: Vec<u64>,
}

impl Owned {
    /// Reads the addresses from this process. The frozen process is its fork, so they are the same.
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

    /// The same for the C library's heap. `heap` has its contents.
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

/// Divides a range into pieces inside and outside of others, which are sorted.
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

/// The segments of the interpreter, which is the first object that dl_iterate_phdr(3) reports.
fn program() -> Vec<Range<u64>> {
    unsafe extern "C" fn note(info: *mut libc::dl_phdr_info, _: usize, list: *mut c_void) -> c_int {
        // SAFETY: the C library passes a valid description with `dlpi_phnum` headers, and `list` is the variable of the
        // caller.
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

/// Whether an address is in the interpreter, which has the same addresses in all processes.
pub fn is_in_program(address: u64) -> bool {
    program().iter().any(|segment| segment.contains(&address))
}

/// The result of the dump, for the description of the image.
pub struct Dumped<'a> {
    pub writer: Writer<'a>,
    pub regions: Vec<Region>,
    pub fills: Vec<Fill>,
    pub advice: Vec<Advice>,
    pub files: Vec<(Vec<u8>, FileIdentity)>,
}

/// Writes the memory of a process, mapping by mapping, in the order of addresses.
pub struct MemoryDump<'a> {
    memory: &'a Memory,
    owned: Owned,
    dumped: Dumped<'a>,
}

impl<'a> MemoryDump<'a> {
    /// `lasting_blocks` are the addresses of blocks of `malloc()` that are never freed.
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

    /// Writes the contents of all fills one after the other, so that a restore reads them with few system calls.
    pub fn finish(mut self) -> io::Result<Dumped<'a>> {
        for fill in &mut self.dumped.fills {
            fill.offset = store(
                self.memory,
                &mut self.dumped.writer,
                fill.address,
                fill.bytes,
            )?;
        }
        Ok(self.dumped)
    }

    /// The parts of some ranges that are writable and not filled. Fills need no prefault.
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
            return Err(Error::other("an address that restoring needs is in use"));
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
                "a mapping is too large for an image (AddressSanitizer?)",
            ));
        }
        if mapping.has_flag(memory_flags::DROPPABLE) {
            // The fork has set the memory to zero, and whoever uses it expects that.
            self.push(start, end - start, Source::Zero, mapping);
            return Ok(());
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

    /// The stack of a process can grow to its limit. The image maps this whole range at once: the kernel does not
    /// reserve it in a restored process, so other memory could be mapped there.
    fn add_stack(&mut self, mapping: &Mapping) -> io::Result<()> {
        let limit = getrlimit(Resource::Stack).current.unwrap_or(DEFAULT_STACK);
        let bottom = (mapping.end - limit.next_multiple_of(PAGE)).min(mapping.start);
        let last = self.dumped.regions.last();
        if last.is_some_and(|last| last.end() > bottom) {
            return Err(Error::other("other memory is in the way of the stack"));
        }
        self.push(bottom, mapping.start - bottom, Source::Zero, mapping);
        self.add_anonymous(&(mapping.start..mapping.end), mapping)
    }

    /// Adds the advice that a restored process gives again.
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

    /// The file of a mapping, and its index; none if the file was removed or replaced.
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

    /// Adds a mapping of a file. Pages that equal the file are not stored.
    fn add_backed(&mut self, mapping: &Mapping, index: u32, file: &File) -> io::Result<()> {
        let (start, end) = (mapping.start, mapping.end);
        let in_file = file.metadata()?.len().next_multiple_of(PAGE);
        // Pages after the end of the file cannot be read.
        let stored = start + in_file.saturating_sub(mapping.offset).min(end - start);
        let flags = self.memory.pages.flags(start, stored)?;
        let mut is_same: Vec<bool> = flags.iter().map(|flags| !flags.is_anonymous()).collect();
        for (from, to, is_of_file) in runs(&is_same) {
            if !is_of_file {
                let (from, to) = (from as usize, to as usize);
                self.compare(mapping, file, from, &mut is_same[from..to])?;
            }
        }
        fill_gaps(&mut is_same);
        for (from, to, same) in runs(&is_same) {
            let (address, bytes) = (start + from * PAGE, (to - from) * PAGE);
            let source = if same {
                Source::File(index, mapping.offset + from * PAGE)
            } else {
                Source::Image(store(self.memory, &mut self.dumped.writer, address, bytes)?)
            };
            self.push(address, bytes, source, mapping);
        }
        if stored < end {
            let source = Source::File(index, mapping.offset + (stored - start));
            self.push(stored, end - stored, source, mapping);
        }
        Ok(())
    }

    /// Compares pages of a mapping with its file, beginning with page `first` of the mapping.
    fn compare(
        &self,
        mapping: &Mapping,
        file: &File,
        first: usize,
        is_same: &mut [bool],
    ) -> io::Result<()> {
        let (from, bytes) = (first as u64 * PAGE, is_same.len() as u64 * PAGE);
        let contents = self.memory.read(mapping.start + from, bytes)?;
        let mut in_file = vec![0; contents.len()];
        let mut filled = 0;
        while filled < in_file.len() {
            let offset = mapping.offset + from + filled as u64;
            match file.read_at(&mut in_file[filled..], offset)? {
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
        for (is_same, (here, there)) in is_same.iter_mut().zip(pages) {
            *is_same = here == there;
        }
        Ok(())
    }

    /// Adds memory that stays a mapping of the image file. Untouched pages and zero pages are not stored.
    fn add_mapped(&mut self, piece: &Range<u64>, mapping: &Mapping) -> io::Result<()> {
        let mut is_zero = self.zero_pages(piece)?;
        fill_gaps(&mut is_zero);
        for (from, to, zero) in runs(&is_zero) {
            let (address, bytes) = (piece.start + from * PAGE, (to - from) * PAGE);
            let source = if zero {
                Source::Zero
            } else {
                Source::Image(store(self.memory, &mut self.dumped.writer, address, bytes)?)
            };
            self.push(address, bytes, source, mapping);
        }
        Ok(())
    }

    /// Adds memory that is anonymous again. The pages that are not zero become fills, which [`Self::finish`] writes.
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
            let range = piece.start + from * PAGE..piece.start + to * PAGE;
            self.memory.read_in_parts(range, |at, part| {
                let pages = part.chunks_exact(PAGE as usize);
                let first = (from + at / PAGE) as usize;
                for (is_zero, page) in is_zero[first..].iter_mut().zip(pages) {
                    *is_zero = page.iter().all(|&byte| byte == 0);
                }
                Ok(())
            })?;
        }
        Ok(is_zero)
    }

    /// Adds a region, or extends the last one if the region continues it.
    fn push(&mut self, address: u64, bytes: u64, source: Source, mapping: &Mapping) {
        if bytes == 0 {
            return;
        }
        let is_anonymous = source == Source::Zero;
        let mut flags = 0;
        for (name, flag, wanted) in [
            ("nr", libc::MAP_NORESERVE as u32, true),
            ("gd", libc::MAP_GROWSDOWN as u32, is_anonymous),
            (memory_flags::DROPPABLE, MAP_DROPPABLE, is_anonymous),
        ] {
            if wanted && mapping.has_flag(name) {
                flags |= flag;
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

/// Writes memory to the image, and returns its offset there.
fn store(memory: &Memory, writer: &mut Writer, address: u64, bytes: u64) -> io::Result<u64> {
    let offset = writer.offset();
    memory.read_in_parts(address..address + bytes, |_, part| writer.add(part))?;
    Ok(offset)
}

/// Whether one mapping can replace both regions.
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

/// Whether code in memory (`here`) has a breakpoint that its file (`there`) does not have. In a restored process, no
/// tracer would handle the breakpoint.
fn has_breakpoint((here, there): (&[u8], &[u8])) -> bool {
    const INT3: u8 = 0xcc;
    here != there
        && here
            .iter()
            .zip(there)
            .any(|(here, there)| *here == INT3 && *there != INT3)
}

/// Marks short gaps of left-out pages between stored pages as stored, too.
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

/// Runs of equal values: the first index, the index after the last, and the value.
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
