//! A record that ends anywhere is read as far as it is complete.

use archive_format::frames;
use proptest::prelude::*;

fn contents(mut bytes: &[u8]) -> Vec<Vec<u8>> {
    let mut found = Vec::new();
    while let Some((content, rest)) = frames::split_first(bytes) {
        found.push(content.to_vec());
        bytes = rest;
    }
    found
}

fn encoded(contents: &[Vec<u8>]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for content in contents {
        frames::append(&mut bytes, content);
    }
    bytes
}

proptest! {
    #[test]
    fn complete_frames_count(
        whole in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..40), 0..6),
        torn in prop::collection::vec(any::<u8>(), 1..40),
        end in any::<prop::sample::Index>(),
        filling in prop_oneof![Just(0), Just(0xff)],
        room in 0..64_usize,
    ) {
        let mut bytes = encoded(&whole);
        let last = encoded(&[torn]);
        bytes.extend(&last[..end.index(last.len())]);
        bytes.resize(bytes.len() + room, filling);
        // The filling can be what the last frame lacks.
        let read = contents(&bytes);
        prop_assert!(read.len() <= whole.len() + 1);
        prop_assert_eq!(&read[..whole.len()], &whole[..]);
        prop_assert!(read.len() == whole.len() || bytes.starts_with(&encoded(&read)));
    }

    #[test]
    fn other_bytes_are_no_frames_and_do_no_harm(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let read = contents(&bytes);
        prop_assert!(bytes.starts_with(&encoded(&read)));
    }
}

#[test]
fn memory_that_was_not_written_to_has_no_frame() {
    assert_eq!(frames::split_first(&[0; 4096]), None);
    assert_eq!(frames::split_first(&[]), None);
}
