//! A corpus of broken archives, one for each reason to refuse an archive, and a fuzzer that looks for more reasons.

mod common;

use std::collections::BTreeMap;
use std::fmt::Write;

use archive_format::{Header, SectionKind, Tables, content_hash};
use common::{check, contents, look_up, sample};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

/// One line for each archive: `length;offset:hexadecimal bytes;…`. With `right` in front, the checksums of the header
/// and of the tables are corrected after the change.
const CORPUS: &str = include_str!("corpus.txt");

/// Changes to the sample.
struct Change {
    right: bool,
    length: usize,
    pieces: Vec<(usize, Vec<u8>)>,
}

impl Change {
    fn random(random: &mut StdRng, sample: &[u8], header: &Header) -> Self {
        let tables = header.section(SectionKind::Tables);
        let tables = tables.extents().next().expect("tables are not empty");
        let header_bytes = u32::from_le_bytes(sample[12..16].try_into().unwrap()) as usize;
        let length = match random.random_range(0..8) {
            0 => random.random_range(0..sample.len() + 100),
            _ => sample.len(),
        };
        let places = match random.random_range(0..4) {
            0 => 0..sample.len(),
            1 => 0..header_bytes,
            2 => 24..header_bytes,
            _ => tables.file_offset as usize..(tables.file_offset + tables.bytes) as usize,
        };
        let piece = |random: &mut StdRng| {
            let place = random.random_range(places.clone());
            let values = [
                0,
                1,
                8,
                4096,
                u64::from(u32::MAX),
                1 << 63,
                u64::MAX,
                sample.len() as u64,
            ];
            match random.random_range(0..4) {
                0 => (place, vec![sample[place] ^ 1 << random.random_range(0..8)]),
                1 => (place, vec![random.random()]),
                2 => (
                    place / 4 * 4,
                    values[random.random_range(0..values.len())].to_le_bytes()[..4].to_vec(),
                ),
                _ => (
                    place / 8 * 8,
                    values[random.random_range(0..values.len())]
                        .to_le_bytes()
                        .to_vec(),
                ),
            }
        };
        Self {
            right: random.random(),
            length,
            pieces: (0..random.random_range(1..4))
                .map(|_| piece(random))
                .collect(),
        }
    }

    fn parse(line: &str) -> Self {
        let (right, line) = match line.strip_prefix("right;") {
            Some(line) => (true, line),
            None => (false, line),
        };
        let mut fields = line.split(';');
        let length = fields.next().unwrap().parse().unwrap();
        let piece = |field: &str| {
            let (offset, digits) = field.split_once(':').unwrap();
            let byte = |at| u8::from_str_radix(&digits[at..at + 2], 16).unwrap();
            (
                offset.parse().unwrap(),
                (0..digits.len()).step_by(2).map(byte).collect(),
            )
        };
        Self {
            right,
            length,
            pieces: fields.map(piece).collect(),
        }
    }

    fn line(&self) -> String {
        let mut line = format!("{}{}", if self.right { "right;" } else { "" }, self.length);
        for (offset, bytes) in &self.pieces {
            let _ = write!(line, ";{offset}:");
            for byte in bytes {
                let _ = write!(line, "{byte:02x}");
            }
        }
        line
    }

    fn apply(&self, sample: &[u8], header: &Header) -> Vec<u8> {
        let mut file = sample.to_vec();
        for (offset, bytes) in &self.pieces {
            let end = file.len().min(offset + bytes.len());
            file[*offset..end].copy_from_slice(&bytes[..end - offset]);
        }
        if self.right {
            make_right(&mut file, sample, header);
        }
        file.resize(self.length, b'x');
        file
    }
}

/// Writes the correct checksums of the changed tables and the changed header.
fn make_right(file: &mut [u8], sample: &[u8], before: &Header) {
    let tables = before.section(SectionKind::Tables);
    let now = content_hash(&contents(file, tables)).to_le_bytes();
    let header_bytes = u32::from_le_bytes(file[12..16].try_into().unwrap()) as usize;
    if header_bytes > file.len() {
        return;
    }
    let header = &mut file[..header_bytes];
    let was = content_hash(&contents(sample, tables)).to_le_bytes();
    if let Some(place) = header.windows(8).position(|window| window == was) {
        header[place..place + 8].copy_from_slice(&now);
    }
    if header_bytes >= 24 {
        header[16..24].fill(0);
        let checksum = content_hash(header);
        header[16..24].copy_from_slice(&checksum.to_le_bytes());
    }
}

/// The result of the check of a file, as text without numbers. A file that is accepted is read completely.
fn outcome(file: &[u8]) -> String {
    match check(file) {
        Ok(header) => {
            let tables = contents(file, header.section(SectionKind::Tables));
            let tables = Tables::parse(&tables).expect("checked");
            look_up(&tables);
            let wrong = if tables.audit().is_empty() {
                "nothing"
            } else {
                "something"
            };
            format!("taken, and an audit finds {wrong}")
        }
        Err(reason) => {
            let reason = reason.to_string();
            let numberless: Vec<_> = reason
                .split(|c: char| c.is_ascii_digit())
                .filter(|part| !part.is_empty())
                .collect();
            let reason = numberless.join("#");
            // The values of facts may be any text.
            let made_for = "it was made for";
            if reason.starts_with(made_for) {
                format!("{made_for} something else")
            } else {
                reason
            }
        }
    }
}

#[test]
fn the_corpus_is_refused_as_ever() {
    let sample = sample();
    let header = check(&sample).unwrap();
    let outcomes = CORPUS.lines().map(|line| {
        format!(
            "{}\n",
            outcome(&Change::parse(line).apply(&sample, &header))
        )
    });
    insta::assert_snapshot!(outcomes.collect::<String>());
}

/// If the corpus has no line for an outcome, the test prints one. `CDS_FUZZ_ROUNDS` is the number of rounds.
#[test]
fn there_is_no_outcome_that_the_corpus_lacks() {
    let rounds = std::env::var("CDS_FUZZ_ROUNDS").map_or(20_000, |rounds| rounds.parse().unwrap());
    let sample = sample();
    let header = check(&sample).unwrap();
    let known = CORPUS
        .lines()
        .map(|line| outcome(&Change::parse(line).apply(&sample, &header)));
    let known: Vec<String> = known.collect();
    let mut new = BTreeMap::new();
    let mut random = StdRng::seed_from_u64(7);
    for _ in 0..rounds {
        let change = Change::random(&mut random, &sample, &header);
        let outcome = outcome(&change.apply(&sample, &header));
        if !known.contains(&outcome) {
            new.entry(outcome).or_insert_with(|| change.line());
        }
    }
    let lines: Vec<&str> = new.values().map(String::as_str).collect();
    assert!(
        new.is_empty(),
        "{new:#?}\nLines for corpus.txt:\n{}",
        lines.join("\n")
    );
}
