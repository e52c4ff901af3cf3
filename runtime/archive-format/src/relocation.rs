//! A bitmap of the 8-byte words of the mapping that are pointers: one bit for each word, from memory offset 0.
//!
//! The bitmap takes 1/64 of the archive's size. A list of offsets would take more than half of it, because
//! code objects are mostly pointers.

/// Collects the positions of pointers while objects are laid out.
pub struct BitmapBuilder {
    bytes: Vec<u8>,
}

impl BitmapBuilder {
    /// A bitmap for a mapping of `mapped_bytes` bytes.
    pub fn new(mapped_bytes: u64) -> Self {
        Self {
            bytes: vec![0; mapped_bytes.div_ceil(64) as usize],
        }
    }

    /// Marks the pointer at a memory offset, which must be a multiple of 8.
    pub fn mark(&mut self, memory_offset: u64) {
        assert!(memory_offset.is_multiple_of(8), "pointers are aligned");
        let word = memory_offset / 8;
        self.bytes[(word / 8) as usize] |= 1 << (word % 8);
    }

    pub fn finish(self) -> Vec<u8> {
        self.bytes
    }
}

/// A bitmap as read from a file.
pub struct Bitmap<'a>(pub &'a [u8]);

impl Bitmap<'_> {
    /// Memory offsets of all pointers in `[start, start + bytes)`, ascending. `start` must be a multiple
    /// of 64. Behind the end of the bitmap there are no pointers.
    pub fn pointers(&self, start: u64, bytes: u64) -> impl Iterator<Item = u64> + '_ {
        let first = (start / 64) as usize;
        let last = (start + bytes).div_ceil(64) as usize;
        let map = self
            .0
            .get(first.min(self.0.len())..last.min(self.0.len()))
            .unwrap_or(&[]);
        map.iter()
            .enumerate()
            .filter(|(_, byte)| **byte != 0)
            .flat_map(move |(index, &byte)| {
                (0..8)
                    .filter(move |bit| byte & (1 << bit) != 0)
                    .map(move |bit| start + (index as u64 * 8 + bit) * 8)
            })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn marked_pointers_come_back_in_order(words in proptest::collection::btree_set(0u64..1024, 0..100)) {
            let mut builder = BitmapBuilder::new(8192);
            for word in &words {
                builder.mark(word * 8);
            }
            let bytes = builder.finish();
            let found: Vec<u64> = Bitmap(&bytes).pointers(0, 8192).collect();
            prop_assert_eq!(found, words.iter().map(|w| w * 8).collect::<Vec<_>>());
        }
    }
}
