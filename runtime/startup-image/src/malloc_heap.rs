//! The C library's heap below the program break, block by block (glibc, malloc/malloc.c, `struct malloc_chunk`).
//!
//! Two words precede the contents of each block. The second word is the size; its lowest bits are flags. The next block
//! follows directly. The last block, `top`, ends at the end of the heap.
//!
//! A freed block merges with free neighbours, and malloc returns any part of the result again. So a page that many
//! blocks share may belong to a single block later.

use alloc::vec::Vec;
use core::ops::Range;

use crate::PAGE;

/// A block of this size, in bytes, or a larger one is never taken for a lasting block.
pub const LARGE: u64 = 8 * PAGE;

const WORD: usize = size_of::<u64>();
/// Bytes that precede a block's contents.
const HEADER: u64 = 2 * WORD as u64;
const ALIGNMENT: u64 = 16;
/// Flags in the size (`PREV_INUSE`, `IS_MMAPPED`, `NON_MAIN_ARENA`).
const FLAGS: u64 = 7;

/// Ranges of pages that no single block can ever have for itself, because each page has a part of a block that is never
/// freed (a lasting block). `lasting` has the addresses of the contents of such blocks, sorted; an address that begins
/// no block has no effect. Blocks of [`LARGE`] bytes or more do not count, because their owner may apply calls such as
/// madvise(2) to whole pages.
///
/// If another allocator uses this heap, or something else lies in it, the ranges end where a size is not possible.
pub fn shared_for_good(start: u64, heap: &[u8], lasting: &[u64]) -> Vec<Range<u64>> {
    let end = start + heap.len() as u64;
    let mut ranges: Vec<Range<u64>> = Vec::new();
    let mut block = start;
    while let Some(bytes) = size_of_block(heap, block - start).filter(|bytes| *bytes <= end - block)
    {
        if bytes < LARGE && lasting.binary_search(&(block + HEADER)).is_ok() {
            // The contents of the previous block end with the first word of this one, and the contents of the next
            // block begin after its header. So neither can have these pages for itself.
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
