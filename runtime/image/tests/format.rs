//! Image files: what was written is read, and whatever is wrong is noticed.

use std::fs::{self, File, FileTimes};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, UNIX_EPOCH};

use cds_image::PAGE;
use cds_image::format::{
    BackingFile, Encoded, Fetch, FileIdentity, Image, ImageFile, Process, Region, Source, Vdso,
    encode, hash,
};
use cds_image::key::{Key, Machine, Stamp};
use cds_image::streams::Terminal;
use proptest::prelude::*;

const PAGES: [u8; 2 * PAGE as usize] = [0x5a; 2 * PAGE as usize];
const END_OF_PAGES: u64 = PAGE + PAGES.len() as u64;
/// Where the header has the hash of the description.
const HASH: std::ops::Range<usize> = 32..40;

fn image() -> Image<'static> {
    let region = |address, bytes, source| Region {
        address,
        bytes,
        source,
        protection: 3,
    };
    let identity = FileIdentity {
        device: 1,
        inode: 2,
        size: 3,
        mtime_ns: -4,
    };
    Image {
        key: Key {
            build_id: "0123",
            executable: b"/usr/bin/python",
            options: vec![b"-O"],
            machine: Machine::current(|kind| kind),
            environment: vec![(b"HOME", Some(b"/root")), (b"A", None)],
            whole_environment: Some(vec![(b"HOME", b"/root"), (b"B", b"")]),
            paths: vec![
                (b"/a", Stamp::Missing),
                (
                    b"/b",
                    Stamp::Contents {
                        mtime_ns: 5,
                        size: 6,
                    },
                ),
                (b"/c", Stamp::Directory),
                (b"/d", Stamp::Link { mtime_ns: 7 }),
            ],
            directory: Some(b"/"),
            host: Some(b"localhost"),
            terminals: vec![Terminal::of(0, false), Terminal::of(2, true)],
            has_safe_path: false,
            names: vec!["a", "b"],
            suffixes: vec![".py"],
        },
        process: Process {
            fs_base: 8,
            tid_address: 9,
            robust_list: (10, 24),
            rseq: Some(11),
            code: (12, 13),
            data: (14, 15),
            heap: (16, 17),
            start_stack: 18,
            vdso: Vdso {
                address: 19,
                bytes: b"code",
                parts: vec![(-4096, 4096)],
            },
            alternate_stack: Some(Box::new([1, 0, 2])),
            signals: vec![(2, [1, 2, 3, 4])],
            context: 20,
            restored: 21,
        },
        regions: vec![
            region(PAGE, PAGE, Source::Zero),
            region(4 * PAGE, 2 * PAGE, Source::Image(PAGE)),
            region(8 * PAGE, PAGE, Source::File(0, PAGE)),
        ],
        files: vec![BackingFile {
            path: b"/lib/a.so",
            identity,
        }],
        fetches: vec![Fetch {
            start: 4 * PAGE,
            end: 5 * PAGE,
        }],
        pages_hash: hash(&PAGES),
    }
}

fn encoded() -> Encoded {
    encode(&image(), END_OF_PAGES).unwrap()
}

/// A file in a directory that goes with it.
struct Written {
    _directory: tempfile::TempDir,
    path: PathBuf,
}

fn written(contents: &[u8], nanoseconds: u32) -> Written {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("image");
    fs::write(&path, contents).unwrap();
    let time = UNIX_EPOCH + Duration::new(1_700_000_000, nanoseconds);
    let file = File::options().append(true).open(&path).unwrap();
    file.set_times(FileTimes::new().set_modified(time)).unwrap();
    Written {
        _directory: directory,
        path,
    }
}

fn contents(encoded: &Encoded) -> Vec<u8> {
    let mut header = encoded.header.clone();
    header.resize(PAGE as usize, 0);
    [&header[..], &PAGES, &encoded.description].concat()
}

/// The description of a file as it would be written again.
fn read(path: &Path) -> Result<Vec<u8>, String> {
    let file = ImageFile::open(path.as_os_str().as_bytes())?.ok_or("there is none")?;
    let image = file.image()?;
    Ok(encode(&image, END_OF_PAGES)?.description)
}

#[test]
fn what_was_written_is_read() {
    let encoded = encoded();
    for nanoseconds in [encoded.seal_ns, 0, 1] {
        let written = written(&contents(&encoded), nanoseconds);
        assert_eq!(read(&written.path).as_ref(), Ok(&encoded.description));
    }
}

#[test]
fn a_file_that_is_missing_is_no_error() {
    assert!(matches!(ImageFile::open(b"/nonexistent/image"), Ok(None)));
    assert!(matches!(ImageFile::open(b"/dev/null/image"), Ok(None)));
}

/// But in pages whose file says that nobody has written to it.
#[test]
fn each_changed_byte_is_noticed() {
    let encoded = encoded();
    let good = contents(&encoded);
    let unsealed = encoded.seal_ns ^ 1;
    for position in 0..good.len() {
        let is_padding = (encoded.header.len()..PAGE as usize).contains(&position);
        // Of the pages some are enough.
        let is_page = (PAGE as usize..END_OF_PAGES as usize).contains(&position);
        if is_padding || is_page && position % 509 != 0 {
            continue;
        }
        let mut bad = good.clone();
        bad[position] ^= 1 << (position % 8);
        assert!(read(&written(&bad, unsealed).path).is_err(), "{position}");
        let trusted = read(&written(&bad, encoded.seal_ns).path);
        assert_eq!(trusted.is_ok(), is_page, "{position}");
    }
}

#[test]
fn each_shorter_file_is_noticed() {
    let encoded = encoded();
    let good = contents(&encoded);
    for length in (0..good.len()).filter(|length| length % 61 == 0 || length + 4 > good.len()) {
        let reason = read(&written(&good[..length], encoded.seal_ns).path);
        assert!(reason.is_err(), "{length}");
    }
}

/// Regions that overlap, wrap around, are not whole pages, or are of files or pages that the image does not have.
#[test]
fn impossible_regions_are_noticed() {
    let lies: [fn(&mut Image); 6] = [
        |image| image.regions[1].address = PAGE,
        |image| image.regions[2].bytes = u64::MAX - PAGE + 1,
        |image| image.regions[0].address += 1,
        |image| image.regions[1].source = Source::Image(2 * PAGE),
        |image| image.regions[1].source = Source::Image(u64::MAX - PAGE + 1),
        |image| image.regions[2].source = Source::File(1, 0),
    ];
    for (index, lie) in lies.into_iter().enumerate() {
        let mut image = image();
        lie(&mut image);
        let encoded = encode(&image, END_OF_PAGES).unwrap();
        let reason = read(&written(&contents(&encoded), encoded.seal_ns).path);
        assert_eq!(reason, Err("it is damaged".to_owned()), "{index}");
    }
}

proptest! {
    /// Descriptions that are not what they were, under right checksums, are refused or are other descriptions.
    #[test]
    fn lies_do_no_harm(changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8)) {
        let mut encoded = encoded();
        for (index, byte) in changes {
            let position = index.index(encoded.description.len());
            encoded.description[position] = byte;
        }
        encoded.header[HASH].copy_from_slice(&hash(&encoded.description).to_le_bytes());
        let _ = read(&written(&contents(&encoded), 0).path);
    }

    #[test]
    fn other_files_are_no_images(bytes in prop::collection::vec(any::<u8>(), 0..9000)) {
        prop_assert!(read(&written(&bytes, 0).path).is_err());
    }
}
