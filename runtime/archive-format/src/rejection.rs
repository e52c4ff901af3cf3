use crate::SectionKind;

/// Why a file is refused. The user reads this text: it says what was found and what was expected.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Rejection {
    #[error("not a cds archive (it does not begin with the archive magic)")]
    Magic,
    #[error("archive format {found}, this interpreter reads format {expected}")]
    Version { found: u32, expected: u32 },
    #[error("the file is {found} bytes long, its header says {expected} (truncated or extended)")]
    Length { found: u64, expected: u64 },
    #[error("the header is damaged (checksum mismatch)")]
    HeaderChecksum,
    #[error("the header is damaged ({0})")]
    Header(&'static str),
    #[error("the {0} section is damaged (checksum mismatch)")]
    SectionChecksum(SectionKind),
    #[error("the tables are damaged ({0})")]
    Tables(&'static str),
    #[error("it was made for {key} {archive:?}, this interpreter has {here:?}")]
    Fact {
        key: String,
        archive: String,
        here: String,
    },
}
