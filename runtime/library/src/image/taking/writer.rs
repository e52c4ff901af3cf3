//! Writes an image file.

use std::fs::File;
use std::io::{self, Error, Seek, SeekFrom, Write};
use std::os::unix::fs::FileExt;

use startup_image::format::Image;
use startup_image::image_file::encode;
use startup_image::{PAGE, bounds};
use xxhash_rust::xxh3::Xxh3;

/// Writes the pages first, and the description at the end.
pub struct Writer<'a> {
    file: &'a mut File,
    offset: u64,
    hash: Xxh3,
}

impl<'a> Writer<'a> {
    pub fn new(file: &'a mut File) -> io::Result<Self> {
        file.seek(SeekFrom::Start(PAGE))?;
        Ok(Self {
            file,
            offset: PAGE,
            hash: Xxh3::new(),
        })
    }

    /// The offset of what is added next.
    pub fn offset(&self) -> u64 {
        self.offset
    }

    /// Adds whole pages.
    pub fn add(&mut self, pages: &[u8]) -> io::Result<()> {
        self.file.write_all(pages)?;
        self.hash.update(pages);
        self.offset += pages.len() as u64;
        Ok(())
    }

    /// Writes the description. Returns the nanoseconds of the modification time that seals the file.
    pub fn finish(self, mut image: Image) -> io::Result<u32> {
        image.pages_hash = self.hash.digest();
        if !bounds::are_kept(&image, self.offset) {
            return Err(Error::other(
                "the memory of the process has a layout that cannot be restored",
            ));
        }
        let encoded = encode(&image, self.offset).map_err(Error::other)?;
        self.file.write_all(&encoded.description)?;
        self.file.write_all_at(&encoded.header, 0)?;
        Ok(encoded.seal_ns)
    }
}
