//! The launcher's memory functions do the same as those of the C library.

#![cfg(target_arch = "x86_64")]

#[macro_use]
#[path = "../src/memory_functions.rs"]
mod memory_functions;

use std::cmp::Ordering;
use std::ffi::CString;

use proptest::prelude::*;

define_memory_functions!("tested_");

unsafe extern "C" {
    fn tested_memcpy(to: *mut u8, from: *const u8, bytes: usize) -> *mut u8;
    fn tested_memmove(to: *mut u8, from: *const u8, bytes: usize) -> *mut u8;
    fn tested_memset(to: *mut u8, byte: i32, bytes: usize) -> *mut u8;
    fn tested_memcmp(a: *const u8, b: *const u8, bytes: usize) -> i32;
    fn tested_bcmp(a: *const u8, b: *const u8, bytes: usize) -> i32;
    fn tested_strlen(text: *const i8) -> usize;
}

const SIZE: usize = 96;

proptest! {
    #[test]
    fn copies(bytes in any::<[u8; SIZE]>(), from in 0..SIZE, to in 0..SIZE, count in 0..SIZE) {
        let count = count.min(SIZE - from).min(SIZE - to);
        let mut expected = bytes;
        expected.copy_within(from..from + count, to);
        let mut moved = bytes;
        let start = moved.as_mut_ptr();
        // SAFETY: both ranges lie in the array.
        let result = unsafe { tested_memmove(start.add(to), start.add(from), count) };
        prop_assert_eq!(result as usize - start as usize, to);
        prop_assert_eq!(moved, expected);
        let mut copied = [0; SIZE];
        let start = copied.as_mut_ptr();
        // SAFETY: both ranges lie in arrays of their own.
        let result = unsafe { tested_memcpy(start.add(to), bytes.as_ptr().add(from), count) };
        prop_assert_eq!(result as usize - start as usize, to);
        let mut expected = [0; SIZE];
        expected[to..to + count].copy_from_slice(&bytes[from..from + count]);
        prop_assert_eq!(copied, expected);
    }

    #[test]
    fn fills(byte in any::<u8>(), start in 0..SIZE, count in 0..SIZE) {
        let count = count.min(SIZE - start);
        let mut filled = [1; SIZE];
        let first = filled.as_mut_ptr();
        // SAFETY: the range lies in the array. The function only uses the lowest byte of the value.
        let result = unsafe { tested_memset(first.add(start), i32::from(byte) | 0x100, count) };
        prop_assert_eq!(result as usize - first as usize, start);
        let mut expected = [1; SIZE];
        expected[start..start + count].fill(byte);
        prop_assert_eq!(filled, expected);
    }

    #[test]
    fn compares(a in prop::collection::vec(any::<u8>(), 0..40), same in 0..40usize, b in prop::collection::vec(any::<u8>(), 0..40)) {
        let same = same.min(a.len()).min(b.len());
        let b = [&a[..same], &b[same..]].concat();
        let count = a.len().min(b.len());
        // SAFETY: both vectors have at least `count` bytes.
        let (ordered, equal) = unsafe {
            (
                tested_memcmp(a.as_ptr(), b.as_ptr(), count),
                tested_bcmp(a.as_ptr(), b.as_ptr(), count),
            )
        };
        let expected = a[..count].cmp(&b[..count]);
        prop_assert_eq!(ordered.cmp(&0), expected);
        prop_assert_eq!(equal == 0, expected == Ordering::Equal);
    }

    #[test]
    fn measures(text in "[a-z]{0,40}") {
        let text = CString::new(text).unwrap();
        // SAFETY: the text ends with a NUL.
        prop_assert_eq!(unsafe { tested_strlen(text.as_ptr()) }, text.count_bytes());
    }
}
