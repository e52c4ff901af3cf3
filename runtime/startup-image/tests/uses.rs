//! The uses of a program's images are counted.

use std::fs;
use std::os::unix::ffi::OsStrExt;

use startup_image::uses;

#[test]
fn each_variant_has_its_own_number() {
    let entry = tempfile::tempdir().unwrap();
    let count = |variant| uses::count(entry.path().as_os_str().as_bytes(), variant);
    for variant in [2, 0, 2, 2] {
        count(variant).unwrap();
    }
    let numbers = fs::read(entry.path().join("uses")).unwrap();
    let (numbers, rest) = numbers.as_chunks();
    let numbers: Vec<u64> = numbers.iter().map(|it| u64::from_le_bytes(*it)).collect();
    assert_eq!((&numbers[..], rest), (&[1, 0, 3][..], &[][..]));
    // A file that is too short, or a link in its place.
    fs::write(entry.path().join("uses"), [9, 0, 0]).unwrap();
    count(0).unwrap();
    assert_eq!(fs::read(entry.path().join("uses")).unwrap()[..2], [10, 0]);
    fs::remove_file(entry.path().join("uses")).unwrap();
    std::os::unix::fs::symlink("elsewhere", entry.path().join("uses")).unwrap();
    assert!(count(0).is_err());
    assert!(!entry.path().join("elsewhere").exists());
}
