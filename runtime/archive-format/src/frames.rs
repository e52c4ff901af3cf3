//! Frames: pieces of a record that count only if they are complete.
//!
//! A frame is a length (8 bytes), a hash of the content (8 bytes) and the content. Whoever writes frames can be stopped
//! at any byte: what follows the last complete frame is no frame. Zeros are no frame either.

use crate::content_hash;

/// Adds a frame with this content.
pub fn append(frames: &mut Vec<u8>, content: &[u8]) {
    frames.extend((content.len() as u64).to_le_bytes());
    frames.extend(content_hash(content).to_le_bytes());
    frames.extend(content);
}

/// The content of the first frame, and the bytes behind it. None if the bytes do not begin with a complete frame.
pub fn split_first(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, rest) = bytes.split_first_chunk()?;
    let (hash, rest) = rest.split_first_chunk()?;
    let length = usize::try_from(u64::from_le_bytes(*length)).ok()?;
    let (content, rest) = rest.split_at_checked(length)?;
    (content_hash(content) == u64::from_le_bytes(*hash)).then_some((content, rest))
}
