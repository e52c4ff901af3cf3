//! A small archive with contents of each kind, and functions that read it.

use archive_format::{
    Archive, BitmapBuilder, Extent, Freshness, FrozenSet, Header, Layout, Length, NewModule, PAGE,
    Rejection, Section, SectionKind, Tables, TablesBuilder, content_hash,
};

pub const FACTS: &str = "python version=3.13.5\noptimization level=0\n";

pub fn sample() -> Vec<u8> {
    let lengths = [
        (SectionKind::Constants, 100, 100),
        (SectionKind::Text, PAGE, 0),
        (SectionKind::Lazy, 0, 0),
        (SectionKind::Code, PAGE + 1, PAGE),
    ];
    let lengths = lengths.map(|(kind, bytes, hot_bytes)| Length {
        kind,
        bytes,
        hot_bytes,
    });
    let layout = Layout::new(&lengths);
    let mut relocations = BitmapBuilder::new(layout.mapped_bytes());
    relocations.mark(layout.memory_offset(SectionKind::Code) + 8);
    Archive {
        requested_base: 0x2800_0000_0000,
        anchor: 0x98_7654,
        code_count: 3,
        freshness: Freshness::Hash,
        facts: FACTS,
        objects: lengths
            .iter()
            .map(|length| vec![length.kind as u8 + 1; length.bytes as usize])
            .collect(),
        tables: tables(),
        relocations: relocations.finish(),
        layout,
    }
    .encode()
}

/// Tables with an entry of each kind.
pub fn tables() -> Vec<u8> {
    let mut tables = TablesBuilder::new();
    tables.directory("/lib", 1, 11);
    tables.directory("/lib/json", 2, 0);
    let entries = [("json", Some("json/__init__.py")), ("abc", Some("abc.py"))];
    tables.entries("/lib", &entries);
    let set = tables.frozenset(FrozenSet {
        object: 16,
        elements: 32,
        table: 48,
        slots: 8,
    });
    tables.module(module("/lib/abc.py", 1, 2, Some(3)), &[set]);
    tables.interned(content_hash(b"x"), 16);
    tables.pattern(content_hash(b"x"), 32);
    tables.finish()
}

pub fn module(origin: &str, mtime_ns: i64, size: u64, code: Option<u64>) -> NewModule<'_> {
    NewModule {
        name: "name",
        origin,
        mtime_ns,
        size,
        content_hash: size ^ 1,
        code,
    }
}

pub fn contents(file: &[u8], section: &Section) -> Vec<u8> {
    let piece = |extent: Extent| &file[extent.file_offset as usize..][..extent.bytes as usize];
    section.extents().map(piece).collect::<Vec<_>>().concat()
}

/// Does all checks that opening and verifying a file do.
pub fn check(file: &[u8]) -> Result<Header, Rejection> {
    let header = Header::parse(file, file.len() as u64)?;
    for section in header.sections() {
        section.verify(&contents(file, section))?;
    }
    let tables = header.section(SectionKind::Tables);
    Tables::parse(&contents(file, tables))?;
    header.check_facts(FACTS)?;
    Ok(header)
}

/// Does look-ups of all kinds. None of them may panic or loop forever.
pub fn look_up(tables: &Tables) {
    for path in ["/lib", "/lib/json", "/none"] {
        if let Some(directory) = tables.directory(path) {
            for name in ["json", "abc", "none"] {
                tables.entry(directory, name);
            }
        }
    }
    for module in tables.modules().chain(tables.module("/lib/abc.py")) {
        tables.frozensets(&module).count();
    }
    tables.directories().count();
    tables.audit();
    tables.interned(content_hash(b"x")).count();
    tables.patterns(content_hash(b"x")).count();
}
