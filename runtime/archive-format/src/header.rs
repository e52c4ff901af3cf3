//! The header: identity, facts that must match, and the position of each section.
//!
//! The layout of the first 24 bytes ([`Prologue`]) is the same in all versions, so that each reader can
//! distinguish an archive of another version from a damaged one.

use std::fmt;

use xxhash_rust::xxh3::{Xxh3, xxh3_64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::Rejection;

/// Version of everything after the prologue. A reader accepts exactly its own version: an archive is a
/// cache, and writing it again is cheaper than converting it. It changes whenever the meaning of a byte changes.
pub const VERSION: u32 = 5;

/// Alignment of sections in the file and in memory, in bytes: the largest page of the architecture.
pub const PAGE: u64 = if cfg!(target_arch = "x86_64") {
    4096
} else {
    65536
};

/// The maximum length of the header with its section table and facts, in bytes.
pub const MAX_HEADER_BYTES: u32 = 64 * 1024;

const SECOND_NS: u32 = 1_000_000_000;

/// The beginning of the last line of the facts, which says how the archive was written. This line may differ.
pub const COMMAND: &str = "command=";

/// The first byte has its high bit set, as in PNG, so that no text file begins with the magic.
const MAGIC: [u8; 8] = *b"\x89CPYCDS\n";

#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
struct Prologue {
    magic: [u8; 8],
    version: u32,
    /// Length of prologue, fixed part, section table and facts, in bytes.
    header_bytes: u32,
    /// XXH3 of `header_bytes` bytes with this field zero.
    checksum: u64,
}

#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
struct Fixed {
    file_bytes: u64,
    requested_base: u64,
    /// Bytes of address space from the base to the end of the last mapped section.
    mapped_bytes: u64,
    anchor: u64,
    identity: [u8; 16],
    code_count: u32,
    section_count: u32,
    facts_bytes: u32,
    freshness: u32,
}

#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
struct SectionRecord {
    kind: u32,
    reserved: u32,
    memory_offset: u64,
    bytes: u64,
    hot_bytes: u64,
    hot_file_offset: u64,
    cold_file_offset: u64,
    checksum: u64,
}

/// The sections in the order of memory. Objects are grouped by what writes to their pages in a running process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum SectionKind {
    /// int, float, complex, tuple: never written.
    Constants,
    /// Docstrings, line tables, exception tables: only written to if a program hashes them.
    Text,
    /// Names, other hashed strings, bytes constants, frozensets: the interpreter writes hashes and
    /// UTF-8 caches when it needs them.
    Lazy,
    /// Code objects: the interpreter writes inline caches and specialized instructions when they run.
    Code,
    /// Catalog, intern table, directory index: never written.
    Tables,
    /// The bitmap of pointers. It is read, not mapped, and only if the archive must be relocated.
    Relocations,
}

impl SectionKind {
    pub const ALL: [Self; 6] = [
        Self::Constants,
        Self::Text,
        Self::Lazy,
        Self::Code,
        Self::Tables,
        Self::Relocations,
    ];

    /// The sections in the order of the file. Those that every program needs come first.
    const IN_FILE: [Self; 6] = [
        Self::Tables,
        Self::Code,
        Self::Lazy,
        Self::Constants,
        Self::Text,
        Self::Relocations,
    ];

    pub fn name(self) -> &'static str {
        match self {
            Self::Constants => "constants",
            Self::Text => "text",
            Self::Lazy => "lazy",
            Self::Code => "code",
            Self::Tables => "tables",
            Self::Relocations => "relocations",
        }
    }

    pub fn is_mapped(self) -> bool {
        self != Self::Relocations
    }

    /// Whether the section holds CPython objects, whose pointers are in the relocation bitmap.
    pub fn has_objects(self) -> bool {
        matches!(self, Self::Constants | Self::Text | Self::Lazy | Self::Code)
    }

    /// Whether a measurement must find the pages of the section clean. CPython does not write to constants and tables.
    /// It writes to text only when a program asks for a hash, which a training run records.
    pub fn is_never_written(self) -> bool {
        matches!(self, Self::Constants | Self::Text | Self::Tables)
    }
}

impl fmt::Display for SectionKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The position of a section. All offsets are multiples of [`PAGE`].
///
/// In memory a section is in one piece. In the file it is in two pieces: its hot part, which programs are expected to
/// use, lies with the hot parts of the other sections. A start with a cold page cache then reads one piece of the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Section {
    pub kind: SectionKind,
    /// Meaningless for a section that is not mapped.
    pub memory_offset: u64,
    pub bytes: u64,
    /// Length of the hot part, which comes first: a multiple of [`PAGE`], or the whole section.
    pub hot_bytes: u64,
    hot_file_offset: u64,
    cold_file_offset: u64,
    checksum: u64,
}

/// A part of a section that is in one piece in the file, too.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Extent {
    pub file_offset: u64,
    /// Meaningless for a section that is not mapped.
    pub memory_offset: u64,
    pub bytes: u64,
}

impl Section {
    /// The parts of the section that are not empty, in order.
    pub fn extents(&self) -> impl Iterator<Item = Extent> + use<> {
        let hot = Extent {
            file_offset: self.hot_file_offset,
            memory_offset: self.memory_offset,
            bytes: self.hot_bytes,
        };
        let cold = Extent {
            file_offset: self.cold_file_offset,
            memory_offset: self.memory_offset.wrapping_add(self.hot_bytes),
            bytes: self.bytes - self.hot_bytes,
        };
        [hot, cold].into_iter().filter(|extent| extent.bytes > 0)
    }

    /// Checks whether `bytes`, the section's contents, are what was written.
    pub fn verify(&self, bytes: &[u8]) -> Result<(), Rejection> {
        if xxh3_64(bytes) == self.checksum {
            Ok(())
        } else {
            Err(Rejection::SectionChecksum(self.kind))
        }
    }
}

/// How an import checks that a source file is the one that was dumped, as for `.pyc` files (PEP 552).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Freshness {
    /// Its modification time and size.
    #[default]
    Mtime,
    /// A hash of its contents, which a copy of the file has, too.
    Hash,
    /// Nothing: the file is assumed to be unchanged.
    Unchecked,
}

impl Freshness {
    pub const ALL: [Self; 3] = [Self::Mtime, Self::Hash, Self::Unchecked];

    pub fn name(self) -> &'static str {
        match self {
            Self::Mtime => "mtime",
            Self::Hash => "hash",
            Self::Unchecked => "unchecked",
        }
    }
}

/// Length of a section.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Length {
    pub kind: SectionKind,
    pub bytes: u64,
    /// Length of the hot part, see [`Section`].
    pub hot_bytes: u64,
}

impl Length {
    /// The length of a section that is completely hot or completely cold.
    fn all(kind: SectionKind, contents: &[u8], is_hot: bool) -> Self {
        let bytes = contents.len() as u64;
        let hot_bytes = if is_hot { bytes } else { 0 };
        Self {
            kind,
            bytes,
            hot_bytes,
        }
    }
}

/// The positions of sections of given lengths, in the file and in memory.
///
/// In memory an unmapped page precedes each section. The kernel then keeps one mapping for each section,
/// so `/proc/PID/smaps` shows the cost of each section, and an overrun faults.
#[derive(Debug, Clone)]
pub struct Layout {
    sections: Vec<Section>,
    next_memory: u64,
}

impl Layout {
    /// Places the sections that hold objects. `lengths` has all of them, in the order of [`SectionKind::ALL`].
    pub fn new(lengths: &[Length]) -> Self {
        let mut layout = Self {
            sections: Vec::new(),
            next_memory: PAGE,
        };
        for &length in lengths {
            let order = length.kind as usize;
            assert_eq!(order, layout.sections.len(), "sections in order");
            layout.append(length);
        }
        layout
    }

    /// Memory offset of a section of objects.
    pub fn memory_offset(&self, kind: SectionKind) -> u64 {
        self.sections[kind as usize].memory_offset
    }

    /// Bytes of address space that the sections take which were placed so far.
    pub fn mapped_bytes(&self) -> u64 {
        self.next_memory
    }

    fn append(&mut self, length: Length) {
        let Length {
            kind,
            bytes,
            hot_bytes,
        } = length;
        assert!(
            hot_bytes == bytes || hot_bytes < bytes && hot_bytes.is_multiple_of(PAGE),
            "the parts of a section are divided at a page"
        );
        let memory_offset = if kind.is_mapped() {
            self.next_memory
        } else {
            0
        };
        if kind.is_mapped() {
            self.next_memory += round_up(bytes) + PAGE;
        }
        self.sections.push(Section {
            kind,
            memory_offset,
            bytes,
            hot_bytes,
            hot_file_offset: 0,
            cold_file_offset: 0,
            checksum: 0,
        });
    }
}

/// All contents of a file, ready to be encoded.
pub struct Archive<'a> {
    /// The base address that all stored pointers assume.
    pub requested_base: u64,
    /// Address of a fixed object in the interpreter that wrote the file. Relocation adds the difference to its
    /// address in the reading interpreter to all pointers into the interpreter.
    pub anchor: u64,
    /// Number of code objects; their versions are 1 to this number.
    pub code_count: u32,
    pub freshness: Freshness,
    /// `key=value` lines. Each line must be the same in the interpreter that uses the archive.
    pub facts: &'a str,
    /// From [`Layout::new`], with the sections' contents in the same order.
    pub layout: Layout,
    pub objects: Vec<Vec<u8>>,
    pub tables: Vec<u8>,
    pub relocations: Vec<u8>,
}

impl Archive<'_> {
    /// Encodes the whole file. The same contents give the same bytes.
    pub fn encode(self) -> Vec<u8> {
        let mut layout = self.layout;
        let mut contents = self.objects;
        layout.append(Length::all(SectionKind::Tables, &self.tables, true));
        contents.push(self.tables);
        let relocations = Length::all(SectionKind::Relocations, &self.relocations, false);
        layout.append(relocations);
        contents.push(self.relocations);
        assert_eq!(
            layout.sections.len(),
            contents.len(),
            "one content for each section"
        );

        let header_bytes = size_of::<Prologue>()
            + size_of::<Fixed>()
            + layout.sections.len() * size_of::<SectionRecord>()
            + self.facts.len();
        let mut file_offset = round_up(header_bytes as u64);
        let mut identity = Xxh3::new();
        identity.update(self.facts.as_bytes());
        for (section, bytes) in layout.sections.iter_mut().zip(&contents) {
            assert_eq!(
                section.bytes,
                bytes.len() as u64,
                "contents as long as laid out"
            );
            section.checksum = xxh3_64(bytes);
            identity.update(&section.checksum.to_le_bytes());
        }
        for kind in SectionKind::IN_FILE {
            let section = &mut layout.sections[kind as usize];
            section.hot_file_offset = file_offset;
            file_offset += round_up(section.hot_bytes);
        }
        for kind in SectionKind::IN_FILE {
            let section = &mut layout.sections[kind as usize];
            section.cold_file_offset = file_offset;
            file_offset += round_up(section.bytes - section.hot_bytes);
        }

        let fixed = Fixed {
            file_bytes: file_offset,
            requested_base: self.requested_base,
            mapped_bytes: layout.next_memory,
            anchor: self.anchor,
            identity: identity.digest128().to_le_bytes(),
            code_count: self.code_count,
            section_count: layout.sections.len() as u32,
            facts_bytes: self.facts.len() as u32,
            freshness: self.freshness as u32,
        };
        let mut file = Vec::with_capacity(file_offset as usize);
        let prologue = Prologue {
            magic: MAGIC,
            version: VERSION,
            header_bytes: header_bytes as u32,
            checksum: 0,
        };
        file.extend_from_slice(prologue.as_bytes());
        file.extend_from_slice(fixed.as_bytes());
        for section in &layout.sections {
            let record = SectionRecord {
                kind: section.kind as u32,
                reserved: 0,
                memory_offset: section.memory_offset,
                bytes: section.bytes,
                hot_bytes: section.hot_bytes,
                hot_file_offset: section.hot_file_offset,
                cold_file_offset: section.cold_file_offset,
                checksum: section.checksum,
            };
            file.extend_from_slice(record.as_bytes());
        }
        file.extend_from_slice(self.facts.as_bytes());
        let checksum = xxh3_64(&file);
        file[CHECKSUM].copy_from_slice(&checksum.to_le_bytes());
        let parts = || {
            SectionKind::IN_FILE.into_iter().map(|kind| {
                let section = &layout.sections[kind as usize];
                let bytes = &contents[kind as usize];
                (section, bytes.split_at(section.hot_bytes as usize))
            })
        };
        for (section, (hot, _)) in parts() {
            file.resize(section.hot_file_offset as usize, 0);
            file.extend_from_slice(hot);
        }
        for (section, (_, cold)) in parts() {
            file.resize(section.cold_file_offset as usize, 0);
            file.extend_from_slice(cold);
        }
        file.resize(file_offset as usize, 0);
        file
    }
}

/// Place of [`Prologue::checksum`] in the file.
const CHECKSUM: std::ops::Range<usize> = 16..24;

/// A header that is consistent with itself and with the length of the file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Header {
    pub requested_base: u64,
    pub mapped_bytes: u64,
    pub anchor: u64,
    /// Identifies the contents: only byte-identical archives have equal identities.
    pub identity: [u8; 16],
    pub code_count: u32,
    pub freshness: Freshness,
    pub facts: String,
    sections: Vec<Section>,
}

impl Header {
    /// Reads a header from the first bytes of a file. Reads at most [`MAX_HEADER_BYTES`].
    ///
    /// If there is no error, every section lies in the file and is page-aligned, and every mapped section lies inside
    /// `mapped_bytes` and overlaps with no other section.
    ///
    /// # Errors
    /// The first reason not to trust the file.
    pub fn parse(start: &[u8], file_bytes: u64) -> Result<Self, Rejection> {
        let (prologue, _) = Prologue::read_from_prefix(start).map_err(|_| Rejection::Magic)?;
        if prologue.magic != MAGIC {
            return Err(Rejection::Magic);
        }
        if prologue.version != VERSION {
            return Err(Rejection::Version {
                found: prologue.version,
                expected: VERSION,
            });
        }
        if prologue.header_bytes > MAX_HEADER_BYTES {
            return Err(Rejection::Header("it is too long"));
        }
        let header_bytes = prologue.header_bytes as usize;
        let header = start.get(..header_bytes).ok_or(Rejection::Length {
            found: file_bytes,
            expected: header_bytes as u64,
        })?;
        let mut unsigned = header.to_vec();
        unsigned
            .get_mut(CHECKSUM)
            .ok_or(Rejection::Header("it is too short"))?
            .fill(0);
        if xxh3_64(&unsigned) != prologue.checksum {
            return Err(Rejection::HeaderChecksum);
        }
        let too_short = Rejection::Header("it is too short");
        let rest = &header[size_of::<Prologue>()..];
        let (fixed, rest) =
            Fixed::read_from_prefix(rest).map_err(|_| Rejection::Header("it is too short"))?;
        if fixed.file_bytes != file_bytes {
            return Err(Rejection::Length {
                found: file_bytes,
                expected: fixed.file_bytes,
            });
        }
        let records = fixed.section_count as usize;
        if records != SectionKind::ALL.len() {
            return Err(Rejection::Header("wrong number of sections"));
        }
        let (records, rest) =
            <[SectionRecord]>::ref_from_prefix_with_elems(rest, records).map_err(|_| too_short)?;
        if rest.len() != fixed.facts_bytes as usize {
            return Err(Rejection::Header("its parts do not add up"));
        }
        let facts =
            std::str::from_utf8(rest).map_err(|_| Rejection::Header("its facts are not text"))?;
        let sections = Self::check_sections(records, &fixed, header_bytes as u64)?;
        let freshness = *Freshness::ALL
            .get(fixed.freshness as usize)
            .ok_or(Rejection::Header("its freshness policy is unknown"))?;
        Ok(Self {
            requested_base: fixed.requested_base,
            mapped_bytes: fixed.mapped_bytes,
            anchor: fixed.anchor,
            identity: fixed.identity,
            code_count: fixed.code_count,
            freshness,
            facts: facts.to_owned(),
            sections,
        })
    }

    fn check_sections(
        records: &[SectionRecord],
        fixed: &Fixed,
        header_bytes: u64,
    ) -> Result<Vec<Section>, Rejection> {
        let end_of =
            |offset: u64, bytes: u64| offset.checked_add(bytes)?.checked_next_multiple_of(PAGE);
        let aligned = |offset: u64| offset.is_multiple_of(PAGE);
        let follows = |offset: u64, bytes: u64, file_end: u64| {
            if offset != file_end {
                return Err(Rejection::Header("sections overlap in the file"));
            }
            end_of(offset, bytes)
                .filter(|&end| end <= fixed.file_bytes)
                .ok_or(Rejection::Header("a section lies outside the file"))
        };
        if !aligned(fixed.requested_base)
            || !aligned(fixed.mapped_bytes)
            || fixed
                .requested_base
                .checked_add(fixed.mapped_bytes)
                .is_none_or(|end| end > MAX_ADDRESS)
        {
            return Err(Rejection::Header("its address range is impossible"));
        }
        let mut file_end = round_up(header_bytes);
        let mut memory_end = PAGE;
        let mut sections = Vec::with_capacity(records.len());
        for (record, kind) in records.iter().zip(SectionKind::ALL) {
            if record.kind != kind as u32 {
                return Err(Rejection::Header("sections are missing or out of order"));
            }
            let parts = (record.hot_bytes, record.bytes);
            if parts.0 != parts.1 && (parts.0 > parts.1 || !aligned(parts.0)) {
                return Err(Rejection::Header("a section is not divided at a page"));
            }
            if kind.is_mapped() {
                if !aligned(record.memory_offset) || record.memory_offset < memory_end {
                    return Err(Rejection::Header("sections overlap in memory"));
                }
                memory_end = end_of(record.memory_offset, record.bytes)
                    .filter(|&end| end <= fixed.mapped_bytes)
                    .ok_or(Rejection::Header("a section lies outside the mapping"))?;
            }
            sections.push(Section {
                kind,
                memory_offset: record.memory_offset,
                bytes: record.bytes,
                hot_bytes: record.hot_bytes,
                hot_file_offset: record.hot_file_offset,
                cold_file_offset: record.cold_file_offset,
                checksum: record.checksum,
            });
        }
        for kind in SectionKind::IN_FILE {
            let section = &sections[kind as usize];
            file_end = follows(section.hot_file_offset, section.hot_bytes, file_end)?;
        }
        for kind in SectionKind::IN_FILE {
            let section = &sections[kind as usize];
            let cold_bytes = section.bytes - section.hot_bytes;
            file_end = follows(section.cold_file_offset, cold_bytes, file_end)?;
        }
        Ok(sections)
    }

    /// The nanosecond part of the modification time that the writer gives the file. A later write, or a copy with
    /// another time, almost certainly changes it. Never 0.
    pub fn seal_ns(&self) -> u32 {
        let [.., a, b, c, d] = self.identity;
        u32::from_le_bytes([a, b, c, d]) % (SECOND_NS - 1) + 1
    }

    /// All sections, in the order of [`SectionKind::ALL`].
    pub fn sections(&self) -> &[Section] {
        &self.sections
    }

    pub fn section(&self, kind: SectionKind) -> &Section {
        &self.sections[kind as usize]
    }

    /// Bytes from the start of the file to the end of the hot parts.
    pub fn hot_file_bytes(&self) -> u64 {
        let ends = self
            .sections
            .iter()
            .map(|section| section.hot_file_offset + section.hot_bytes);
        ends.max().unwrap_or(0)
    }

    /// The value of a fact.
    pub fn fact(&self, key: &str) -> Option<&str> {
        self.facts
            .lines()
            .find_map(|line| line.strip_prefix(key)?.strip_prefix('='))
    }

    /// Compares the facts, line by line, with those of the running interpreter.
    ///
    /// # Errors
    /// The first fact that differs, with both values.
    pub fn check_facts(&self, here: &str) -> Result<(), Rejection> {
        let rest = self.facts.strip_prefix(here);
        if rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(COMMAND)) {
            return Ok(());
        }
        for (key, value) in here.lines().filter_map(|line| line.split_once('=')) {
            let archive = self.fact(key).unwrap_or_default();
            if archive != value {
                return Err(Rejection::Fact {
                    key: key.to_owned(),
                    archive: archive.to_owned(),
                    here: value.to_owned(),
                });
            }
        }
        Err(Rejection::Header(
            "its facts are not those that this interpreter checks",
        ))
    }
}

/// End of user space with 4-level page tables (Linux Documentation/arch/x86/x86_64/mm.rst).
const MAX_ADDRESS: u64 = 0x7fff_ffff_f000;

fn round_up(bytes: u64) -> u64 {
    bytes.next_multiple_of(PAGE)
}
