//! Image files: a written image can be read, and each damage is noticed.

use std::fs::{self, File, FileTimes, Permissions};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{PermissionsExt, chown, symlink};
use std::path::{Path, PathBuf};
use std::time::{Duration, UNIX_EPOCH};

use proptest::prelude::*;
use rustix::fs::{CWD, FileType, Mode};
use startup_image::bounds::{HIGHEST, LOWEST};
use startup_image::facts::Fact;
use startup_image::format::{
    Advice, BackingFile, FileIdentity, Fill, Image, PrefaultRange, Process, Region, Source, Vdso,
};
use startup_image::image_file::{Encoded, ImageFile, encode, hash};
use startup_image::key::{Key, Machine, Program, Stamp, UserSite};
use startup_image::searched::{Searched, State};
use startup_image::streams::Terminal;
use startup_image::{PAGE, places};

const PAGES: [u8; 2 * PAGE as usize] = [0x5a; 2 * PAGE as usize];
const END_OF_PAGES: u64 = PAGE + PAGES.len() as u64;
/// Where the hash of the description is in the header.
const HASH: std::ops::Range<usize> = 32..40;
/// Addresses of the first region, and of the region with the variables that restoring writes to.
const FIRST: u64 = LOWEST;
const STATE: u64 = FIRST + 4 * PAGE;
/// Higher than any address and any offset; a multiple of the page size.
const TOO_MUCH: u64 = u64::MAX - PAGE + 1;

fn image() -> Image<'static> {
    let region = |address, bytes, source| Region {
        address,
        bytes,
        source,
        protection: 3,
        flags: 0x4000,
    };
    let identity = FileIdentity {
        device: 1,
        inode: 2,
        size: PAGE + 3,
        mtime_ns: -4,
    };
    Image {
        key: Key {
            is_base: false,
            build_id: "0123".into(),
            executable: b"/usr/bin/python".into(),
            options: vec![b"-O".into()],
            program: Some(Program {
                identity: b"\0app.py\0/srv".into(),
                argument_count: Some(2),
                arguments: Some(vec![b"-v".into(), b"a b".into()]),
                is_for_any_arguments: false,
            }),
            machine: Machine::current(|kind| kind),
            environment: vec![(b"HOME".into(), Some(b"/root".into())), (b"A".into(), None)],
            whole_environment: Some(vec![
                (b"HOME".into(), b"/root".into()),
                (b"B".into(), b"".into()),
            ]),
            user_site: Some(UserSite {
                missing: Some(b"/.local/lib".into()),
            }),
            paths: vec![
                (b"/a".into(), Stamp::Missing),
                (
                    b"/b".into(),
                    Stamp::Contents {
                        ctime_ns: 4,
                        inode: 5,
                        mtime_ns: 5,
                        size: 6,
                    },
                ),
                (b"/c".into(), Stamp::Directory),
                (b"/d".into(), Stamp::Link { ctime_ns: 7 }),
            ],
            searched: vec![Searched {
                path: b"/".into(),
                names: b"etc\0".into(),
                state: State::now(b"/", b"etc\0", [&b".py"[..]].into_iter())
                    .expect("it can be listed"),
            }],
            directory: Some(b"/".into()),
            facts: vec![
                (Fact::System, b"localhost\0Linux\0".into()),
                (Fact::Umask, b"".into()),
            ],
            counts_signals: true,
            terminals: vec![Terminal::of(0, false, false), Terminal::of(2, true, true)],
            has_safe_path: false,
            top_level_modules: vec!["a".into(), "b".into()],
            modules: b"a\nb.c\n".into(),
            suffixes: vec![".py".into()],
        },
        process: Process {
            fs_base: STATE,
            tid_address: STATE + 8,
            robust_list: (STATE + 16, 24),
            rseq: Some(STATE + 64),
            code: (FIRST + 8 * PAGE, FIRST + 9 * PAGE - 1),
            data: (STATE, STATE + 2 * PAGE),
            heap: (FIRST + 10 * PAGE, FIRST + 11 * PAGE),
            start_stack: STATE + 2 * PAGE - 1,
            auxiliary: vec![(31, STATE + 512)],
            vdso: Vdso {
                address: FIRST + 21 * PAGE,
                bytes: b"code",
                parts: vec![(-(PAGE as i64), PAGE), (0, PAGE)],
            },
            alternate_stack: Some(Box::new([STATE, 0, 2 * PAGE])),
            signals: vec![(2, [1, 2, 3, 4])],
            context: STATE + 128,
            restored: STATE + 256,
        },
        regions: vec![
            region(FIRST, PAGE, Source::Zero),
            region(STATE, 2 * PAGE, Source::Image(PAGE)),
            region(FIRST + 8 * PAGE, PAGE, Source::File(0, PAGE)),
        ],
        files: vec![BackingFile {
            path: b"/lib/a.so",
            identity,
        }],
        fills: vec![Fill {
            address: FIRST,
            bytes: PAGE,
            offset: 2 * PAGE,
        }],
        advice: vec![Advice {
            address: FIRST,
            bytes: PAGE,
            advice: 14,
        }],
        reported: vec!["module: the clock"],
        short_lived: 2,
        prefault: vec![PrefaultRange {
            start: STATE,
            end: STATE + PAGE,
        }],
        pages_hash: hash(&PAGES),
    }
}

fn encoded() -> Encoded {
    encode(&image(), END_OF_PAGES).unwrap()
}

/// A file in a temporary directory.
struct Written {
    _directory: tempfile::TempDir,
    path: PathBuf,
}

fn written(contents: &[u8], nanoseconds: u32) -> Written {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("image");
    fs::write(&path, contents).unwrap();
    fs::set_permissions(&path, Permissions::from_mode(0o600)).unwrap();
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

/// Reads a file and encodes its description again.
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

/// A changed byte in the pages is only noticed if the modification time tells that the file was changed.
#[test]
fn each_changed_byte_is_noticed() {
    let encoded = encoded();
    let good = contents(&encoded);
    let unsealed = encoded.seal_ns ^ 1;
    for position in 0..good.len() {
        let is_padding = (encoded.header.len()..PAGE as usize).contains(&position);
        // Some bytes of the pages are enough.
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

/// Regions that overlap, wrap around, are not whole pages, lie at impossible addresses or at addresses that restoring
/// needs, or refer to files or pages that the image does not have.
#[test]
fn impossible_regions_are_noticed() {
    all_are_noticed(&[
        |image| image.regions[0].address -= PAGE,
        |image| image.regions[0].address += 1,
        |image| image.regions[0].bytes = 0,
        |image| image.regions[0].protection = 8,
        |image| image.regions[1].address = FIRST,
        |image| image.regions[1].source = Source::Image(2 * PAGE),
        |image| image.regions[1].source = Source::Image(TOO_MUCH),
        |image| image.regions[1].source = Source::Image(0),
        |image| image.regions[1].source = Source::Image(PAGE + 1),
        |image| image.regions[2].bytes = TOO_MUCH,
        |image| image.regions[2].address = HIGHEST,
        |image| image.regions[2].bytes = HIGHEST,
        |image| image.regions[2].address = places::ALL.start,
        |image| image.regions[2].address = places::ALL.end - PAGE,
        |image| image.regions[2].address = places::ALL.start - FIRST - 9 * PAGE,
        |image| image.regions[2].bytes = places::ALL.start,
        |image| image.regions[2].source = Source::File(1, 0),
        |image| image.regions[2].source = Source::File(0, 1),
        |image| image.regions[2].source = Source::File(0, 3 * PAGE),
        |image| image.regions[2].source = Source::File(0, TOO_MUCH),
    ]);
}

/// Fills of memory that is not anonymous, not mapped, or filled twice; and advice that empties memory.
#[test]
fn impossible_contents_are_noticed() {
    all_are_noticed(&[
        |image| image.fills[0].address = FIRST - PAGE,
        |image| image.fills[0].address = FIRST + PAGE,
        |image| image.fills[0].address = STATE,
        |image| image.fills[0].bytes = 0,
        |image| image.fills[0].bytes = 2 * PAGE,
        |image| image.fills[0].bytes = TOO_MUCH,
        |image| image.fills[0].offset = 0,
        |image| image.fills[0].offset = END_OF_PAGES - 1,
        |image| image.fills[0].offset = TOO_MUCH,
        |image| image.fills.push(image.fills[0]),
        |image| image.advice[0].advice = libc::MADV_DONTNEED as u32,
        |image| image.advice[0].address = FIRST + PAGE,
        |image| image.advice[0].bytes = TOO_MUCH,
        |image| image.advice[0].address = FIRST + 1,
        |image| image.regions[0].flags = libc::MAP_SHARED as u32,
        |image| image.regions[2].flags = libc::MAP_SHARED as u32,
    ]);
}

/// Addresses that are written to, or passed to the kernel, after the memory of the new process is gone.
#[test]
fn impossible_addresses_are_noticed() {
    all_are_noticed(&[
        |image| image.process.fs_base = STATE - 8,
        |image| image.process.tid_address = STATE + 2 * PAGE - 2,
        |image| image.process.robust_list.0 = 16,
        |image| image.process.rseq = Some(u64::MAX),
        |image| image.process.rseq = Some(STATE + 2 * PAGE - 16),
        |image| image.process.code = (FIRST + 9 * PAGE, FIRST + 8 * PAGE),
        |image| image.process.code.1 = FIRST + 9 * PAGE + 1,
        |image| image.process.data.0 = STATE - 1,
        |image| image.process.heap = (HIGHEST, FIRST),
        |image| image.process.heap.1 = HIGHEST + 1,
        |image| image.process.start_stack = STATE + 2 * PAGE,
        |image| image.process.auxiliary[0].1 = STATE + 2 * PAGE - 4,
        |image| image.process.alternate_stack = Some(Box::new([STATE, 0, 2 * PAGE + 1])),
        |image| image.process.alternate_stack = Some(Box::new([STATE, 0, u64::MAX])),
        |image| image.process.signals[0].0 = 0,
        |image| image.process.signals[0].0 = 65,
        |image| image.process.signals[0].0 = 9,
        |image| image.process.context = 0,
        |image| image.process.context = STATE + 2 * PAGE - 64,
        |image| image.process.restored = STATE - 16,
        |image| image.regions[1].protection = 1,
        |image| image.process.vdso.address += 1,
        |image| image.process.vdso.address = u64::MAX - PAGE + 1,
        |image| image.process.vdso.address = FIRST,
        |image| image.process.vdso.address = places::VDSO,
        |image| image.process.vdso.parts[1] = (i64::MIN, PAGE),
        |image| image.process.vdso.parts[1] = (1 << 30, PAGE),
        |image| image.process.vdso.parts[1].1 = 0,
        |image| image.process.vdso.parts[1].1 = TOO_MUCH,
    ]);
}

#[track_caller]
fn all_are_noticed(lies: &[fn(&mut Image)]) {
    for (index, lie) in lies.iter().enumerate() {
        let mut image = image();
        lie(&mut image);
        let encoded = encode(&image, END_OF_PAGES).unwrap();
        let reason = read(&written(&contents(&encoded), encoded.seal_ns).path);
        assert_eq!(reason, Err("it is damaged".to_owned()), "{index}");
    }
}

/// A thread without a list of robust locks, a process without a heap, and a mapping that is longer than its file are
/// accepted.
#[test]
fn what_a_process_need_not_have_is_not_asked_for() {
    let truths: [fn(&mut Image); 7] = [
        |image| {
            image.regions[2].flags = libc::MAP_SHARED as u32;
            image.regions[2].protection = 1;
        },
        |image| image.process.robust_list = (0, 0),
        |image| image.process.rseq = None,
        |image| image.process.alternate_stack = None,
        |image| image.process.heap = (FIRST, FIRST),
        |image| image.regions[2].bytes = 4 * PAGE,
        |image| image.process.vdso.parts.clear(),
    ];
    for (index, truth) in truths.into_iter().enumerate() {
        let mut image = image();
        truth(&mut image);
        let encoded = encode(&image, END_OF_PAGES).unwrap();
        let written = written(&contents(&encoded), encoded.seal_ns);
        assert_eq!(read(&written.path), Ok(encoded.description), "{index}");
    }
}

/// A file that another user may write or read is not read at all: a file without an image is refused for the same
/// reason.
#[test]
fn only_a_file_of_ones_own_is_read() {
    const NOT_OWN: &str = "it must be a file that you own and nobody else may read (mode 600)";
    let reason = |path: &Path| ImageFile::open(path.as_os_str().as_bytes()).err();
    let written = written(b"text", 0);
    let set_mode = |mode| fs::set_permissions(&written.path, Permissions::from_mode(mode)).unwrap();
    for mode in [0o640, 0o620, 0o604, 0o602, 0o777] {
        set_mode(mode);
        assert_eq!(reason(&written.path).as_deref(), Some(NOT_OWN), "{mode:o}");
    }
    set_mode(0o600);
    assert_eq!(reason(&written.path).as_deref(), Some("it is too short"));
    let directory = written.path.parent().unwrap();
    assert_eq!(reason(directory).as_deref(), Some(NOT_OWN));
    let link = directory.join("link");
    symlink(&written.path, &link).unwrap();
    assert_eq!(reason(&link).as_deref(), Some(NOT_OWN));
    // Opening the pipe does not wait for a writer.
    let pipe = directory.join("pipe");
    rustix::fs::mknodat(CWD, &pipe, FileType::Fifo, Mode::from(0o600), 0).unwrap();
    assert_eq!(reason(&pipe).as_deref(), Some(NOT_OWN));
    // Only root can give the file to another user.
    if chown(&written.path, Some(65534), None).is_ok() {
        assert_eq!(reason(&written.path).as_deref(), Some(NOT_OWN));
    }
}

/// A file that becomes shorter while it is in use is an error, not a signal.
#[test]
fn a_file_that_is_cut_off_meanwhile_is_noticed() {
    let encoded = encoded();
    let written = written(&contents(&encoded), encoded.seal_ns ^ 1);
    let path = written.path.as_os_str().as_bytes();
    let file = ImageFile::open(path).unwrap().unwrap();
    let writer = File::options().write(true).open(&written.path).unwrap();
    writer.set_len(PAGE + 1).unwrap();
    assert_eq!(file.image().err().as_deref(), Some("it is truncated"));
}

proptest! {
    /// A changed description with a correct hash is refused, or is another valid description.
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
