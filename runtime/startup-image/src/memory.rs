//! The memory of the frozen process.
//!
//! Most of it lies where the new process has nothing yet. It is put there while the new process can still do without
//! it: if the kernel refuses a part, all is given back, and the program starts in the ordinary way. Only what lies where
//! the new process has its own stack and variables has to wait until there is no way back; what is done then has
//! been done before, with other addresses.

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
use crate::format::{Fill, Image, Region, Source};
use crate::steps::Steps;
use crate::system_call::{call, error_of};
use crate::{address, places};

/// So many pieces of memory one call fills at most (readv(2), IOV_MAX).
const MOST_PIECES: usize = 1024;

/// Makes pages that can be written to (madvise(2), Linux 5.14). Where it is refused, they are made when they are touched.
const MADV_POPULATE_WRITE: u64 = 23;

const WRITE: u32 = libc::PROT_WRITE as u32;
const READ_WRITE: u32 = (libc::PROT_READ | libc::PROT_WRITE) as u32;

/// A `struct iovec`.
type Piece = [u64; 2];

/// The memory of an image, most of it in its place.
pub struct Memory<'a> {
    image: &'a Image<'a>,
    file: &'a OwnedFd,
    files: &'a [OwnedFd],
    placed: Vec<&'a Region>,
    /// What lies where this process has something that it still needs.
    late: Vec<&'a Region>,
    late_fills: Vec<Fill>,
    late_pieces: Vec<Piece>,
}

impl<'a> Memory<'a> {
    /// Puts all memory into its place that can be put there now.
    ///
    /// `constants` are the program's code and constants, which the frozen process has at the same place.
    ///
    /// # Errors
    /// A text that says what was refused. Nothing is left of the image then.
    ///
    /// # Safety
    /// The file is one that [`crate::image_file::ImageFile`] has checked, and `files` are the image's, in its order.
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
        // SAFETY: the caller passes a file that was checked, with the files of its image.
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
            // SAFETY: takes no address that is in use.
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

    /// Whether the kernel grants what will be mapped without a way back: where it counts the memory that it has
    /// granted, a step could fail otherwise (Linux, Documentation/mm/overcommit-accounting.rst).
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
        let refused = |_| "the kernel does not grant so much memory".to_owned();
        // SAFETY: takes no address that is in use, and nobody uses what is mapped.
        unsafe {
            let private = MapFlags::PRIVATE;
            let mapped =
                rustix::mm::mmap_anonymous(ptr::null_mut(), bytes as usize, protection, private)
                    .map_err(refused)?;
            rustix::mm::munmap(mapped, bytes as usize).map_err(refused)
        }
    }

    /// # Safety
    /// With `MAP_FIXED`, nobody needs what is there.
    unsafe fn map(&self, region: &Region, protection: u32, fixed: i32) -> Result<(), Errno> {
        let arguments = self.mapping(region, protection, fixed);
        // SAFETY: with `MAP_FIXED`, the caller knows that nobody needs what is there.
        let mapped = unsafe { call(libc::SYS_mmap as u64, &arguments) };
        match error_of(mapped) {
            Some(error) => Err(error),
            None if mapped == region.address => Ok(()),
            None => {
                // A kernel before 4.17 takes the address for a wish.
                // SAFETY: it was mapped just now.
                let _ = unsafe { rustix::mm::munmap(address(mapped), region.bytes as usize) };
                Err(Errno::OPNOTSUPP)
            }
        }
    }

    /// The arguments of mmap(2).
    fn mapping(&self, region: &Region, protection: u32, fixed: i32) -> [u64; 6] {
        const SHARED: u32 = libc::MAP_SHARED as u32;
        let kind = match region.flags & SHARED {
            SHARED => 0,
            _ => libc::MAP_PRIVATE,
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

    /// Repeats what the frozen process has advised about a region. Advice that is refused changes nothing that a program
    /// can rely on, but for those kinds that no image is taken with.
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
            // SAFETY: this memory was mapped just now, and nobody uses it yet.
            unsafe { call(libc::SYS_madvise as u64, &arguments) };
        }
    }

    fn fill(&self, fills: &[Fill]) -> Result<(), String> {
        for fill in fills {
            // The kernel needs half the time for pages that it makes before they are written to one by one.
            let arguments = [fill.address, fill.bytes, MADV_POPULATE_WRITE, 0, 0, 0];
            // SAFETY: makes pages of memory that was mapped just now, as the first write to them does.
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

    /// Removes what was put into its place.
    pub fn give_back(&self) {
        for region in &self.placed {
            // SAFETY: this process has mapped it, and has no reference to it.
            let _ = unsafe { rustix::mm::munmap(address(region.address), region.bytes as usize) };
        }
    }

    /// What is left to do without a way back: all that is not the frozen process's goes, and what had to wait is mapped.
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

    /// How many steps these are at most.
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

/// Fills that one call can do: they follow one another in the file.
fn batches(fills: &[Fill]) -> impl Iterator<Item = &[Fill]> {
    fills
        .chunk_by(|a, b| a.offset + a.bytes == b.offset)
        .flat_map(|run| run.chunks(MOST_PIECES))
}
