//! The C library's heap below the program break, block by block (glibc, malloc/malloc.c, `struct malloc_chunk`).
//!
//! Each block is preceded by two words: the second has its size, of which the lowest bits are flags. The next block
//! follows at once, and the last one, `top`, ends with the heap.
//!
//! A block that is freed becomes one with free neighbours, and any part of that is given out again. So a page that many blocks
//! share may belong to a single one later.

use alloc::vec::Vec;
use core::ops::Range;

use crate::PAGE;

/// Bytes of a block from which on it is one that is freed, whoever has it.
pub const LARGE: u64 = 8 * PAGE;

const WORD: usize = size_of::<u64>();
/// Bytes that precede a block's contents.
const HEADER: u64 = 2 * WORD as u64;
const ALIGNMENT: u64 = 16;
/// Flags in the size (`PREV_INUSE`, `IS_MMAPPED`, `NON_MAIN_ARENA`).
const FLAGS: u64 = 7;

/// Ranges of pages that no block can ever have for itself, as each has a part of a block that is never freed. `lasting` says, in
/// order, where the contents of such blocks begin; what else it has counts for nothing. Large ones are not taken for such: whose
/// contents are so many pages may do something with these.
///
/// If another allocator has this heap, or something else lies in it, they end where the blocks cannot be followed.
pub fn shared_for_good(start: u64, heap: &[u8], lasting: &[u64]) -> Vec<Range<u64>> {
    let end = start + heap.len() as u64;
    let mut ranges: Vec<Range<u64>> = Vec::new();
    let mut block = start;
    while let Some(bytes) = size_of_block(heap, block - start).filter(|bytes| *bytes <= end - block)
    {
        if bytes < LARGE && lasting.binary_search(&(block + HEADER)).is_ok() {
            // The first word belongs to the contents of the block before, and those of the next begin after its header.
            let first = block + WORD as u64;
            let last = (block + bytes + HEADER).min(end);
            let pages = first - first % PAGE..last.next_multiple_of(PAGE);
            match ranges.last_mut() {
                Some(range) if pages.start <= range.end => range.end = pages.end,
                _ => ranges.push(pages),
            }
        }
        block += bytes;
    }
    ranges
}

fn size_of_block(heap: &[u8], offset: u64) -> Option<u64> {
    let place = usize::try_from(offset).ok()? + WORD;
    let word = heap.get(place..place + WORD)?;
    let bytes = u64::from_ne_bytes(word.try_into().ok()?) & !FLAGS;
    (bytes >= 2 * HEADER && bytes.is_multiple_of(ALIGNMENT)).then_some(bytes)
}
