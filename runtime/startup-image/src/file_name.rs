//! The name of a startup image. It lies beside its archive.

use alloc::vec::Vec;

const ENDING: &[u8] = b".image";
/// For archives whose names already say "image" (`X.img`).
const ENDING_OF_IMG: &[u8] = b".startup";
const IMG: &[u8] = b".img";

/// The path of the image that belongs to an archive.
pub fn of_archive(archive: &[u8]) -> Vec<u8> {
    let ending = if archive.ends_with(IMG) {
        ENDING_OF_IMG
    } else {
        ENDING
    };
    [archive, ending].concat()
}

/// The path of the archive that an image belongs to; none if no archive has an image of this name.
pub fn archive_of(image: &[u8]) -> Option<&[u8]> {
    let endings = [ENDING, ENDING_OF_IMG].into_iter();
    let mut archives = endings.filter_map(|ending| image.strip_suffix(ending));
    archives.find(|archive| of_archive(archive) == image)
}
