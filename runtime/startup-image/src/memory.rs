//! The memory of the frozen process.
//!
//! Most regions lie at addresses where the new process has nothing. They are mapped while the new process can still
//! start in the ordinary way: if the kernel refuses one, all are unmapped again. Only the regions that overlap with the
//! stack and the variables of the new process (late regions) are mapped when there is no way back. Their system calls
//! have succeeded before with other addresses.

use alloc::borrow::ToOwned;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::ops::Range;
use core::ptr;

use rustix::fd::{AsRawFd, OwnedFd};
use rustix::io::Errno;
use rustix::mm::{MapFlags, MprotectFlags, ProtFlags};

use crate::bounds::{HIGHEST, LOWEST};
use crate::format::{Fill, Image, MAP_DROPPABLE, Region, Source};
use crate::steps::Steps;
use crate::system_call::{call, error_of};
use crate::{address, places};

/// The most pieces of memory that one call can fill (readv(2), IOV_MAX).
const MOST_PIECES: usize = 1024;

/// Populates pages for writing (madvise(2), Linux 5.14). If the kernel refuses it, the first access does so.
const MADV_POPULATE_WRITE: u64 = 23;

const WRITE: u32 = libc::PROT_WRITE as u32;
const READ_WRITE: u32 = (libc::PROT_READ | libc::PROT_WRITE) as u32;

/// A `struct iovec`.
type Piece = [u64; 2];

/// The memory of an image, mapped except for the late regions.
pub struct Memory<'a> {
    image: &'a Image<'a>,
    file: &'a OwnedFd,
    files: &'a [OwnedFd],
    placed: Vec<&'a Region>,
    /// Regions at addresses where this process has memory that it still needs.
    late: Vec<&'a Region>,
    late_fills: Vec<Fill>,
    late_pieces: Vec<Piece>,
}

impl<'a> Memory<'a> {
    /// Maps and fills all regions except the late ones.
    ///
    /// `constants` are the program's code and constants, which the frozen process has at the same addresses.
    ///
    /// # Errors
    /// A text that says what the kernel refused. No memory of the image is mapped then.
    ///
    /// # Safety
    /// [`crate::image_file::ImageFile`] has checked the file, and `files` are the files of the image in its order.
    pub unsafe fn place(
        image: &'a Image<'a>,
        file: &'a OwnedFd,
        files: &'a [OwnedFd],
        constants: &[Range<u64>],
    ) -> Result<Self, String> {
        let mut memory = Self {
            image,
            file,
            files,
            placed: Vec::with_capacity(image.regions.len()),
            late: Vec::new(),
            late_fills: Vec::new(),
            late_pieces: Vec::new(),
        };
        // SAFETY: the caller of this function guarantees the same.
        match unsafe { memory.place_all(constants) } {
            Ok(()) => Ok(memory),
            Err(reason) => {
                memory.give_back();
                Err(reason)
            }
        }
    }

    /// # Safety
    /// That of [`Self::place`].
    unsafe fn place_all(&mut self, constants: &[Range<u64>]) -> Result<(), String> {
        let mut fills = &self.image.fills[..];
        let mut early = Vec::with_capacity(fills.len());
        let mut without_rights = Vec::new();
        for region in &self.image.regions {
            let count = fills.partition_point(|fill| fill.address < region.end());
            let (own, others) = fills.split_at(count);
            fills = others;
            let is_constant = |segment: &Range<u64>| {
                segment.start <= region.address && region.end() <= segment.end
            };
            if matches!(region.source, Source::File(..)) && constants.iter().any(is_constant) {
                continue;
            }
            let has_own_rights = own.is_empty() || region.protection & WRITE != 0;
            let protection = if has_own_rights {
                region.protection
            } else {
                without_rights.push(region);
                READ_WRITE
            };
            // SAFETY: `MAP_FIXED_NOREPLACE` replaces no memory that is in use.
            match unsafe { self.map(region, protection, libc::MAP_FIXED_NOREPLACE) } {
                Ok(()) => {
                    self.placed.push(region);
                    self.advise(region);
                    early.extend(own);
                }
                Err(Errno::EXIST) if has_own_rights => {
                    self.late.push(region);
                    self.late_fills.extend(own);
                    self.late_pieces.extend(own.iter().map(piece));
                }
                Err(error) => return Err(format!("the kernel refuses memory: {error}")),
            }
        }
        self.fill(&early)?;
        for region in without_rights {
            let protection = MprotectFlags::from_bits_retain(region.protection);
            let bytes = region.bytes as usize;
            // SAFETY: this memory was mapped just now.
            unsafe { rustix::mm::mprotect(address(region.address), bytes, protection) }
                .map_err(|error| format!("the kernel refuses rights to memory: {error}"))?;
        }
        self.check_late()
    }

    /// Checks whether the kernel grants the memory of the late regions. Otherwise a step could fail where the kernel
    /// limits the memory that it grants (Linux, Documentation/mm/overcommit-accounting.rst).
    fn check_late(&self) -> Result<(), String> {
        let writable = self
            .late
            .iter()
            .filter(|region| region.protection & WRITE != 0);
        let bytes = writable.fold(0, |bytes: u64, region| bytes.saturating_add(region.bytes));
        if bytes == 0 {
            return Ok(());
        }
        let protection = ProtFlags::READ | ProtFlags::WRITE;
        let refused = |_| "the kernel does not grant enough memory".to_owned();
        // SAFETY: the kernel chooses an unused address, and nothing refers to the mapping before it is removed.
        unsafe {
            let private = MapFlags::PRIVATE;
            let mapped =
                rustix::mm::mmap_anonymous(ptr::null_mut(), bytes as usize, protection, private)
                    .map_err(refused)?;
            rustix::mm::munmap(mapped, bytes as usize).map_err(refused)
        }
    }

    /// # Safety
    /// With `MAP_FIXED`, nothing needs the memory at the addresses of the region.
    unsafe fn map(&self, region: &Region, protection: u32, fixed: i32) -> Result<(), Errno> {
        let arguments = self.mapping(region, protection, fixed);
        // SAFETY: with `MAP_FIXED`, the caller guarantees that nothing needs the memory there.
        let mapped = unsafe { call(libc::SYS_mmap as u64, &arguments) };
        match error_of(mapped) {
            Some(error) => Err(error),
            None if mapped == region.address => Ok(()),
            None => {
                // A kernel before 4.17 treats the address as a hint.
                // SAFETY: it was mapped just now.
                let _ = unsafe { rustix::mm::munmap(address(mapped), region.bytes as usize) };
                Err(Errno::OPNOTSUPP)
            }
        }
    }

    /// The arguments of mmap(2).
    fn mapping(&self, region: &Region, protection: u32, fixed: i32) -> [u64; 6] {
        const KINDS: u32 = libc::MAP_SHARED as u32 | MAP_DROPPABLE;
        let kind = match region.flags & KINDS {
            0 => libc::MAP_PRIVATE,
            _ => 0,
        };
        let flags = (kind | fixed) as u64 | u64::from(region.flags);
        let anonymous = flags | libc::MAP_ANONYMOUS as u64;
        let (flags, file, offset) = match region.source {
            Source::Zero => (anonymous, u64::MAX, 0),
            Source::Image(offset) => (flags, self.file.as_raw_fd() as u64, offset),
            Source::File(index, offset) => {
                (flags, self.files[index as usize].as_raw_fd() as u64, offset)
            }
        };
        [
            region.address,
            region.bytes,
            u64::from(protection),
            flags,
            file,
            offset,
        ]
    }

    /// Repeats the advice that the frozen process gave about a region. No program can rely on advice of these kinds, so
    /// a refusal does no harm. No image is taken of a process with advice of other kinds.
    fn advise(&self, region: &Region) {
        let first = self
            .image
            .advice
            .partition_point(|advice| advice.address < region.address);
        let own = self.image.advice[first..].iter();
        for advice in own.take_while(|advice| advice.address < region.end()) {
            let arguments = [
                advice.address,
                advice.bytes,
                u64::from(advice.advice),
                0,
                0,
                0,
            ];
            // SAFETY: this memory was mapped just now, and nothing uses it yet.
            unsafe { call(libc::SYS_madvise as u64, &arguments) };
        }
    }

    fn fill(&self, fills: &[Fill]) -> Result<(), String> {
        for fill in fills {
            // The kernel needs half the time if it makes all pages before it writes to them one by one.
            let arguments = [fill.address, fill.bytes, MADV_POPULATE_WRITE, 0, 0, 0];
            // SAFETY: populates memory that was mapped just now, with zeros, as the first write to it would.
            unsafe { call(libc::SYS_madvise as u64, &arguments) };
        }
        for batch in batches(fills) {
            let pieces: Vec<Piece> = batch.iter().map(piece).collect();
            let bytes: u64 = batch.iter().map(|fill| fill.bytes).sum();
            let arguments = self.reading(&pieces, batch[0].offset);
            // SAFETY: each piece lies in a region that was mapped just now (`ImageFile::image()` has checked that).
            let read = unsafe { call(libc::SYS_preadv as u64, &arguments) };
            if let Some(error) = error_of(read) {
                return Err(format!("cannot read it: {error}"));
            }
            if read != bytes {
                return Err("it is truncated".to_owned());
            }
        }
        Ok(())
    }

    /// The arguments of preadv(2).
    fn reading(&self, pieces: &[Piece], offset: u64) -> [u64; 6] {
        let file = self.file.as_raw_fd() as u64;
        [
            file,
            pieces.as_ptr() as u64,
            pieces.len() as u64,
            offset,
            0,
            0,
        ]
    }

    /// Unmaps all regions that were mapped.
    pub fn give_back(&self) {
        for region in &self.placed {
            // SAFETY: this process has mapped the region, and nothing refers to it.
            let _ = unsafe { rustix::mm::munmap(address(region.address), region.bytes as usize) };
        }
    }

    /// Adds the steps that unmap the memory of the new process and map and fill the late regions.
    pub fn add_steps(&self, steps: &mut Steps) {
        let regions = self.image.regions.iter();
        let mut kept: Vec<(u64, u64)> = regions.map(|r| (r.address, r.end())).collect();
        kept.push((places::ALL.start, places::ALL.end));
        kept.push((HIGHEST, HIGHEST));
        kept.sort_unstable();
        let mut end = LOWEST;
        for (from, to) in kept {
            if from > end {
                steps.must(libc::SYS_munmap, [end, from - end, 0, 0, 0, 0]);
            }
            end = end.max(to);
        }
        for region in &self.late {
            let arguments = self.mapping(region, region.protection, libc::MAP_FIXED);
            steps.must(libc::SYS_mmap, arguments);
        }
        let mut pieces = &self.late_pieces[..];
        for batch in batches(&self.late_fills) {
            let (own, others) = pieces.split_at(batch.len());
            pieces = others;
            let bytes = batch.iter().map(|fill| fill.bytes).sum();
            steps.must_return(libc::SYS_preadv, self.reading(own, batch[0].offset), bytes);
        }
        for range in &self.image.prefault {
            let bytes = range.end.saturating_sub(range.start);
            let arguments = [range.start, bytes, MADV_POPULATE_WRITE, 0, 0, 0];
            steps.may(libc::SYS_madvise, arguments);
        }
        for file in self.files.iter().chain([self.file]) {
            steps.may(libc::SYS_close, [file.as_raw_fd() as u64, 0, 0, 0, 0, 0]);
        }
    }

    /// The most steps that [`Self::add_steps`] adds.
    pub fn most_steps(&self) -> usize {
        self.image.regions.len()
            + self.late.len()
            + self.late_pieces.len()
            + self.image.prefault.len()
            + self.files.len()
            + 3
    }
}

fn piece(fill: &Fill) -> Piece {
    [fill.address, fill.bytes]
}

/// Groups of fills that one call can do: they follow one another in the file.
fn batches(fills: &[Fill]) -> impl Iterator<Item = &[Fill]> {
    fills
        .chunk_by(|a, b| a.offset + a.bytes == b.offset)
        .flat_map(|run| run.chunks(MOST_PIECES))
}
