//! A written archive can be read, and each damage is refused with its name.

mod common;

use archive_format::{
    Entry, FrozenSet, Header, OBJECT_ALIGNMENT, Tables, TablesBuilder, content_hash,
};
use common::{check, look_up, module, sample, tables};
use proptest::prelude::*;
use std::collections::BTreeMap;

#[test]
fn a_written_archive_can_be_read() {
    let file = sample();
    let header = check(&file).unwrap();
    insta::assert_debug_snapshot!(header);
}

#[test]
fn the_same_contents_give_the_same_bytes() {
    assert_eq!(sample(), sample());
}

#[test]
fn each_damage_has_a_name() {
    let file = sample();
    let mut report = String::new();
    let mut damage = |what: &str, change: &dyn Fn(&mut Vec<u8>)| {
        let mut damaged = file.clone();
        change(&mut damaged);
        let reason = check(&damaged).expect_err(what);
        report.push_str(&format!("{what}: {reason}\n"));
    };
    damage("empty", &|f| f.clear());
    damage("ten bytes", &|f| f.truncate(10));
    damage("text", &|f| f.fill(b'x'));
    damage("other magic", &|f| f[1] = b'X');
    damage("other version", &|f| f[8] = 99);
    damage("truncated in the header", &|f| f.truncate(100));
    damage("truncated to half", &|f| f.truncate(f.len() / 2));
    damage("extended", &|f| f.push(0));
    damage("flipped in the header", &|f| f[40] ^= 1);
    damage("flipped in the facts", &|f| {
        let place = f.windows(6).position(|w| w == b"python").unwrap();
        f[place] ^= 1;
    });
    let header = check(&file).unwrap();
    for section in header.sections() {
        for extent in section.extents() {
            let place = extent.file_offset as usize;
            damage(&format!("flipped in {}", section.kind), &|f| f[place] ^= 1);
        }
    }
    insta::assert_snapshot!(report);
}

#[test]
fn a_fact_that_differs_is_named_with_both_values() {
    let header = check(&sample()).unwrap();
    let error = header
        .check_facts("python version=3.13.5\noptimization level=2\n")
        .unwrap_err();
    insta::assert_snapshot!(error, @r#"it was made for optimization level "0", this interpreter has "2""#);
    let error = header.check_facts("python version=3.13.5\n").unwrap_err();
    insta::assert_snapshot!(error, @"the header is damaged (its facts are not those that this interpreter checks)");
}

#[test]
fn a_package_is_known_only_with_its_own_directory() {
    let mut tables = TablesBuilder::new();
    tables.directory("/lib", 1, 11);
    tables.directory("/lib/json", 2, 0);
    tables.entries(
        "/lib",
        &[
            ("json", Some("json/__init__.py")),
            ("abc", Some("abc.py")),
            ("email", Some("email/__init__.py")),
            ("namespace", None),
        ],
    );
    tables.entries("/lib/json", &[]);
    let bytes = tables.finish();
    let tables = Tables::parse(&bytes).unwrap();
    let lib = tables.directory("/lib").unwrap();
    let json = tables.directory("/lib/json").unwrap();
    assert_eq!(
        tables.entry(lib, "json"),
        Some(Entry::Package {
            file: "json/__init__.py",
            directory: json
        })
    );
    assert_eq!(
        tables.entry(lib, "abc"),
        Some(Entry::Module { file: "abc.py" })
    );
    assert_eq!(tables.entry(lib, "email"), Some(Entry::Unknown));
    assert_eq!(tables.entry(lib, "namespace"), Some(Entry::Unknown));
    assert_eq!(tables.entry(lib, "nothing"), None);
    assert_eq!(tables.entry(json, "abc"), None);
    assert_eq!(tables.directory("/lib/email"), None);
}

proptest! {
    #[test]
    fn what_was_added_is_found(
        modules in proptest::collection::btree_map("[a-z/]{1,12}", (any::<i64>(), any::<u64>()), 0..60),
        strings in proptest::collection::btree_set("\\PC{0,8}", 0..200),
        absent in "[A-Z]{1,12}",
    ) {
        let mut tables = TablesBuilder::new();
        let mut offsets = BTreeMap::new();
        for (index, string) in strings.iter().enumerate() {
            let offset = (index as u64 + 1) * OBJECT_ALIGNMENT;
            tables.interned(content_hash(string.as_bytes()), offset);
            tables.pattern(content_hash(string.as_bytes()), offset);
            offsets.insert(string, offset);
        }
        let set = FrozenSet { object: 16, elements: 32, table: 48, slots: 8 };
        let set_index = tables.frozenset(set);
        for (index, (origin, (mtime, size))) in modules.iter().enumerate() {
            let sets = if index % 2 == 0 { vec![set_index] } else { vec![] };
            let code = (index % 3 != 2).then_some(index as u64 + 1);
            tables.module(module(origin, *mtime, *size, code), &sets);
        }
        let bytes = tables.finish();
        let tables = Tables::parse(&bytes).unwrap();
        for (index, (origin, (mtime, size))) in modules.iter().enumerate() {
            let module = tables.module(origin).unwrap();
            let code = (index % 3 != 2).then_some(index as u64 + 1);
            prop_assert_eq!((module.origin, module.mtime_ns, module.size, module.code),
                            (origin.as_str(), *mtime, *size, code));
            prop_assert_eq!(tables.frozensets(&module).collect::<Vec<_>>(),
                            if index % 2 == 0 { vec![set] } else { vec![] });
        }
        prop_assert_eq!(tables.module(&absent), None);
        prop_assert_eq!(tables.audit(), Vec::<String>::new());
        prop_assert_eq!(tables.modules().count(), modules.len());
        for (string, offset) in offsets {
            prop_assert!(tables.interned(content_hash(string.as_bytes())).any(|found| found == offset));
            prop_assert!(tables.patterns(content_hash(string.as_bytes())).any(|found| found == offset));
        }
    }

    /// With any bytes, parsing and look-ups neither panic nor loop forever.
    #[test]
    fn damaged_tables_are_harmless(
        changes in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..20),
        length in any::<prop::sample::Index>(),
        truncate in any::<bool>(),
    ) {
        let mut bytes = tables();
        for (place, value) in changes {
            let place = place.index(bytes.len());
            bytes[place] = value;
        }
        if truncate {
            bytes.truncate(length.index(bytes.len()));
        }
        if let Ok(tables) = Tables::parse(&bytes) {
            look_up(&tables);
        }
    }

    /// Positions in a header are checked even if its checksum is correct.
    #[test]
    fn a_lying_header_is_harmless(
        changes in proptest::collection::vec((24..400usize, any::<u8>()), 1..6),
    ) {
        let mut file = sample();
        for (place, value) in changes {
            file[place] = value;
        }
        let bytes = u32::from_le_bytes(file[12..16].try_into().unwrap()) as usize;
        file[16..24].fill(0);
        let checksum = content_hash(&file[..bytes]);
        file[16..24].copy_from_slice(&checksum.to_le_bytes());
        if let Ok(header) = Header::parse(&file, file.len() as u64) {
            let mut memory = 0;
            for section in header.sections() {
                for extent in section.extents() {
                    prop_assert!(extent.file_offset + extent.bytes <= file.len() as u64);
                }
                if section.kind.is_mapped() {
                    prop_assert!(section.memory_offset >= memory);
                    memory = section.memory_offset + section.bytes;
                    prop_assert!(memory <= header.mapped_bytes);
                }
            }
        }
    }
}
