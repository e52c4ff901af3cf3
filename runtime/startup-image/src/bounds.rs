//! Checks of the addresses and offsets in an image. Without these checks, a wrong address would have an effect only
//! after the memory of the new process is gone, when there is no way back.

use alloc::vec::Vec;
use core::ops::Range;

use crate::format::{Advice, Fill, Image, MAP_DROPPABLE, Process, Region, Restored, Source};
use crate::{PAGE, places};

/// Limits of the addresses that a process may have.
pub const LOWEST: u64 = 0x1_0000;
pub const HIGHEST: u64 = 0x7fff_ffff_f000;

/// Bytes of a `trampoline::Context`.
pub const CONTEXT_BYTES: u64 = 72;
/// The length with which the C library registers restartable sequences (rseq(2), glibc's
/// sysdeps/unix/sysv/linux/rseq-internal.h).
pub const RSEQ_BYTES: u64 = 32;
/// Bytes of a `struct robust_list_head` (linux/futex.h).
const ROBUST_LIST_BYTES: u64 = 24;
const WORD: u64 = size_of::<u64>() as u64;

const READ: u32 = libc::PROT_READ as u32;
const WRITE: u32 = libc::PROT_WRITE as u32;
/// Flags that a region may have.
const FLAGS: u32 = (libc::MAP_NORESERVE | libc::MAP_GROWSDOWN) as u32;

/// Advice that can be repeated (madvise(2)).
const REPEATED_ADVICE: [u32; 4] = [
    libc::MADV_HUGEPAGE as u32,
    libc::MADV_NOHUGEPAGE as u32,
    libc::MADV_DONTDUMP as u32,
    libc::MADV_MERGEABLE as u32,
];
const ALL: u32 = READ | WRITE | libc::PROT_EXEC as u32;

/// Whether the regions of an image, and all addresses that refer to them, are possible. The pages of the image file end
/// at `end_of_pages`.
pub fn are_kept(image: &Image, end_of_pages: u64) -> bool {
    let sizes = image.files.iter().map(|file| file.identity.size);
    let sizes: Vec<u64> = sizes.collect();
    are_regions(&image.regions, &sizes, end_of_pages)
        && are_fills(&image.fills, &image.regions, end_of_pages)
        && are_advised(&image.advice, &image.regions)
        && is_process(&image.process, &image.regions)
}

/// Whether the fills are in the order of their addresses, and each lies in one anonymous region.
fn are_fills(fills: &[Fill], regions: &[Region], end_of_pages: u64) -> bool {
    let mut end = 0;
    fills.iter().all(|fill| {
        let last = fill.offset.checked_add(fill.bytes);
        let region = behind(regions, fill.address).first();
        let is_possible = fill.address >= end
            && fill.bytes > 0
            && fill.offset >= PAGE
            && last.is_some_and(|last| last <= end_of_pages)
            && region.is_some_and(|region| {
                region.source == Source::Zero
                    && region.address <= fill.address
                    && fill.bytes <= region.end() - fill.address
            });
        end = fill.address.saturating_add(fill.bytes);
        is_possible
    })
}

/// Whether the advice is sorted, changes no contents, and only concerns mapped memory.
fn are_advised(advice: &[Advice], regions: &[Region]) -> bool {
    advice.is_sorted_by_key(|advice| advice.address)
        && advice.iter().all(|advice| {
            REPEATED_ADVICE.contains(&advice.advice)
                && [advice.address, advice.bytes]
                    .iter()
                    .all(|n| n.is_multiple_of(PAGE))
                && is_inside(regions, advice.address, advice.bytes, 0)
        })
}

/// Whether the regions are in the order of their addresses, do not overlap, and have sources that exist.
fn are_regions(regions: &[Region], files: &[u64], end_of_pages: u64) -> bool {
    let mut end = LOWEST;
    regions.iter().all(|region| {
        let is_possible = region.address >= end
            && region.protection & !ALL == 0
            && (region.flags & !FLAGS == 0 || is_shared_to_read(region) || is_droppable(region))
            && is_free(region.address, region.bytes)
            && match region.source {
                Source::Zero => true,
                Source::Image(offset) => {
                    let last = offset.checked_add(region.bytes);
                    offset.is_multiple_of(PAGE)
                        && offset >= PAGE
                        && last.is_some_and(|last| last <= end_of_pages)
                }
                // A mapping may be longer than its file. The frozen process could not access the part behind the end
                // either.
                Source::File(index, offset) => {
                    let size = files.get(index as usize);
                    offset.is_multiple_of(PAGE)
                        && offset.checked_add(region.bytes).is_some()
                        && size.is_some_and(|size| offset <= size.saturating_add(PAGE - 1))
                }
            };
        end = region.address.saturating_add(region.bytes);
        is_possible
    })
}

/// Whether a region is a shared mapping of a file without write access.
fn is_shared_to_read(region: &Region) -> bool {
    region.flags & !(FLAGS | libc::MAP_SHARED as u32) == 0
        && region.protection & WRITE == 0
        && matches!(region.source, Source::File(..))
}

/// Whether a region is anonymous memory that the kernel may set to zero.
fn is_droppable(region: &Region) -> bool {
    region.flags & !(FLAGS | MAP_DROPPABLE) == 0 && region.source == Source::Zero
}

/// Whether the range consists of whole pages at possible addresses, outside of [`places::ALL`].
fn is_free(address: u64, bytes: u64) -> bool {
    let reserved = places::ALL;
    let end = address.checked_add(bytes);
    [address, bytes].iter().all(|n| n.is_multiple_of(PAGE))
        && bytes > 0
        && address >= LOWEST
        && end
            .is_some_and(|end| end <= HIGHEST && (end <= reserved.start || address >= reserved.end))
}

/// Whether all addresses that restoring passes to the kernel, or writes to, are mapped.
fn is_process(process: &Process, regions: &[Region]) -> bool {
    let is_writable = |address, bytes| is_inside(regions, address, bytes, WRITE);
    let (list, _) = process.robust_list;
    let in_order = |(start, end): (u64, u64)| LOWEST <= start && start <= end && end <= HIGHEST;
    let is_mapped = |(start, end): (u64, u64)| {
        in_order((start, end)) && is_inside(regions, start, end - start, 0)
    };
    is_writable(process.fs_base, WORD)
        && is_writable(process.tid_address, size_of::<u32>() as u64)
        && (list == 0 || is_writable(list, ROBUST_LIST_BYTES))
        && process
            .rseq
            .is_none_or(|area| is_writable(area, RSEQ_BYTES))
        && is_mapped(process.code)
        && is_mapped(process.data)
        && in_order(process.heap)
        && is_writable(process.start_stack, 1)
        && process
            .auxiliary
            .iter()
            .all(|&(_, place)| is_writable(place, WORD))
        && process
            .alternate_stack
            .as_ref()
            .is_none_or(|stack| is_writable(stack[0], stack[2]))
        && process
            .signals
            .iter()
            .all(|(signal, _)| is_handled(*signal))
        && is_inside(regions, process.context, CONTEXT_BYTES, READ)
        && is_writable(process.restored, size_of::<Restored>() as u64)
        && is_vdso(process, regions)
}

/// Whether a process may set the action of a signal (sigaction(2)).
fn is_handled(signal: u64) -> bool {
    let never = [libc::SIGKILL as u64, libc::SIGSTOP as u64];
    (1..=64).contains(&signal) && !never.contains(&signal)
}

/// Whether the parts of the vdso collide with nothing, both in the frozen process and at [`places::VDSO`].
fn is_vdso(process: &Process, regions: &[Region]) -> bool {
    let vdso = &process.vdso;
    let aside: Range<u64> = places::HEAP.end..places::ALL.end;
    vdso.parts.iter().all(|&(distance, bytes)| {
        let start = vdso.address.checked_add_signed(distance);
        let waiting = places::VDSO.checked_add_signed(distance);
        start.is_some_and(|start| is_free(start, bytes) && !is_touched(regions, start, bytes))
            && waiting.is_some_and(|start| {
                let end = start.checked_add(bytes);
                aside.start <= start && end.is_some_and(|end| end <= aside.end)
            })
    })
}

/// Whether a range lies in regions without gaps that have at least this protection. The regions were checked before.
fn is_inside(regions: &[Region], address: u64, bytes: u64, protection: u32) -> bool {
    let Some(end) = address.checked_add(bytes) else {
        return false;
    };
    let mut covered = address;
    for region in behind(regions, address) {
        if region.address > covered || region.protection & protection != protection {
            return false;
        }
        covered = region.address + region.bytes;
        if covered >= end {
            return true;
        }
    }
    false
}

/// Whether a region overlaps with the range.
fn is_touched(regions: &[Region], address: u64, bytes: u64) -> bool {
    let next = behind(regions, address).first();
    next.is_some_and(|region| region.address < address.saturating_add(bytes))
}

/// The regions that end behind an address.
fn behind(regions: &[Region], address: u64) -> &[Region] {
    let end_before = regions.partition_point(|region| region.address + region.bytes <= address);
    &regions[end_before..]
}
