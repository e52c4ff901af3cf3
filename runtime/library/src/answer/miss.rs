//! Why an archive has no answer.

/// The reason why code does not come from an archive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Miss {
    NotInArchive,
    SourceChanged,
    SourceGone,
    Damaged,
    CannotBe,
}

impl Miss {
    /// Whether a new archive would contain the code.
    pub fn is_needless(self) -> bool {
        matches!(
            self,
            Self::NotInArchive | Self::SourceChanged | Self::Damaged
        )
    }

    pub fn reason(self) -> &'static str {
        match self {
            Self::NotInArchive => "not in the archive",
            Self::SourceChanged => "source changed",
            Self::SourceGone => "source gone",
            Self::Damaged => "archive damaged",
            Self::CannotBe => "cannot be archived",
        }
    }
}
