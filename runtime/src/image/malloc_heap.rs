//! The C library's heap below the program break, block by block (glibc, malloc/malloc.c, `struct malloc_chunk`).
//!
//! Each block is preceded by two words: the second has its size, of which the lowest bits are flags. The next block
//! follows at once, and the last one, `top`, ends with the heap.

use std::ops::Range;

use cds_image::PAGE;

/// Bytes of a block from which on its pages are looked at one by one.
pub const LARGE: u64 = 8 * PAGE;

const WORD: usize = size_of::<u64>();
/// Bytes that precede a block's contents.
const HEADER: u64 = 2 * WORD as u64;
const ALIGNMENT: u64 = 16;
/// Flags in the size (`PREV_INUSE`, `IS_MMAPPED`, `NON_MAIN_ARENA`).
const FLAGS: u64 = 7;

/// Ranges of whole pages that belong to one large block each, in use or free.
///
/// If another allocator has this heap, or something else lies in it, they end where the blocks cannot be followed.
pub fn pages_of_large_blocks(start: u64, heap: &[u8]) -> Vec<Range<u64>> {
    let end = start + heap.len() as u64;
    let mut pages = Vec::new();
    let mut block = start;
    while let Some(bytes) = size_of_block(heap, block - start).filter(|bytes| *bytes <= end - block)
    {
        if bytes >= LARGE {
            let first = (block + HEADER).next_multiple_of(PAGE);
            // The first word of the next block is a part of this one's contents.
            let last = (block + bytes + WORD as u64).min(end);
            pages.push(first..last - last % PAGE);
        }
        block += bytes;
    }
    pages
}

fn size_of_block(heap: &[u8], offset: u64) -> Option<u64> {
    let place = usize::try_from(offset).ok()? + WORD;
    let word = heap.get(place..place + WORD)?;
    let bytes = u64::from_ne_bytes(word.try_into().ok()?) & !FLAGS;
    (bytes >= 2 * HEADER && bytes.is_multiple_of(ALIGNMENT)).then_some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: u64 = 0x10_0000;

    fn heap(blocks: &[u64]) -> Vec<u8> {
        let mut heap = vec![0; blocks.iter().sum::<u64>() as usize];
        let mut offset = 0;
        for bytes in blocks {
            heap[offset + 8..offset + 16].copy_from_slice(&(bytes | 1).to_ne_bytes());
            offset += *bytes as usize;
        }
        heap
    }

    #[test]
    fn whole_pages_of_large_blocks_are_found() {
        let heap = heap(&[0x290, 4 * LARGE, 0x40, LARGE - 16, LARGE + 0x10]);
        let first = START + PAGE..START + 4 * LARGE;
        let last = START + 5 * LARGE + PAGE..START + 6 * LARGE;
        assert_eq!(pages_of_large_blocks(START, &heap), [first, last]);
    }

    #[test]
    fn what_is_no_block_ends_the_search() {
        let good = heap(&[2 * LARGE, 2 * LARGE]);
        for (offset, size) in [(8, 0), (8, 24), (8, u64::MAX), (8, 5 * LARGE)] {
            let mut heap = good.clone();
            heap[offset..offset + 8].copy_from_slice(&size.to_ne_bytes());
            assert_eq!(pages_of_large_blocks(START, &heap), []);
        }
        assert_eq!(pages_of_large_blocks(START, &[]), []);
        assert_eq!(
            pages_of_large_blocks(START, &good[..good.len() - 16]).len(),
            1
        );
    }
}
