//! The C library's heap, block by block.

use std::ops::Range;

use startup_image::PAGE;
use startup_image::malloc_heap::{LARGE, shared_for_good};

const START: u64 = 0x10_0000;
/// Bytes that precede a block's contents.
const HEADER: u64 = 16;

fn heap(blocks: &[u64]) -> Vec<u8> {
    let mut heap = vec![0; blocks.iter().sum::<u64>() as usize];
    let mut offset = 0;
    for bytes in blocks {
        heap[offset + 8..offset + 16].copy_from_slice(&(bytes | 1).to_ne_bytes());
        offset += *bytes as usize;
    }
    heap
}

/// The numbers of the pages that always stay shared, in a heap of blocks of these sizes. `lasting` are the indices of
/// the blocks that are never freed.
fn shared(blocks: &[u64], lasting: &[usize]) -> Vec<u64> {
    let contents = |&index: &usize| START + blocks[..index].iter().sum::<u64>() + HEADER;
    let lasting: Vec<u64> = lasting.iter().map(contents).collect();
    pages(&shared_for_good(START, &heap(blocks), &lasting))
}

fn pages(ranges: &[Range<u64>]) -> Vec<u64> {
    let number = |address: u64| (address - START) / PAGE;
    let ranges = ranges.iter();
    ranges
        .flat_map(|range| number(range.start)..number(range.end))
        .collect()
}

#[test]
fn pages_with_a_part_of_a_lasting_block_are_found() {
    let blocks = [3 * PAGE + 64, 64, 3 * PAGE - 128, 2 * PAGE, 4 * PAGE];
    assert_eq!(shared(&blocks, &[]), []);
    assert_eq!(shared(&blocks, &[1]), [3]);
    assert_eq!(shared(&blocks, &[1, 2]), [3, 4, 5, 6]);
    assert_eq!(shared(&blocks, &[1, 3]), [3, 6, 7, 8]);
    assert_eq!(shared(&blocks, &[0, 4]), [0, 1, 2, 3, 8, 9, 10, 11]);
}

/// The contents of a block begin after its own header, and end with the first word of the next header.
#[test]
fn headers_count() {
    assert_eq!(shared(&[PAGE, 64, 3 * PAGE], &[1]), [1]);
    assert_eq!(shared(&[PAGE - 16, 64, 3 * PAGE], &[1]), [0, 1]);
    assert_eq!(shared(&[PAGE - 64, 32, 3 * PAGE], &[1]), [0]);
    assert_eq!(shared(&[PAGE - 64, 48, 3 * PAGE], &[1]), [0]);
    assert_eq!(shared(&[PAGE - 64, 64, 3 * PAGE], &[1]), [0, 1]);
}

#[test]
fn large_blocks_do_not_count() {
    let blocks = [64, LARGE, PAGE, LARGE - 64, LARGE];
    assert_eq!(shared(&blocks, &[1, 4]), []);
    let found = [0, 9, 10, 11, 12, 13, 14, 15, 16, 17];
    assert_eq!(shared(&blocks, &[0, 1, 3]), found);
}

#[test]
fn what_is_no_block_ends_the_search() {
    let good = heap(&[PAGE, PAGE]);
    let lasting = [START + HEADER, START + PAGE + HEADER];
    assert_eq!(pages(&shared_for_good(START, &good, &lasting)), [0, 1]);
    for (offset, size) in [(8, 0), (8, 24), (8, u64::MAX), (8, 5 * LARGE)] {
        let mut heap = good.clone();
        heap[offset..offset + 8].copy_from_slice(&size.to_ne_bytes());
        assert_eq!(shared_for_good(START, &heap, &lasting), []);
    }
    assert_eq!(shared_for_good(START, &[], &lasting), []);
}
