//! Why no image could be taken.

use std::path::Path;

use crate::cpython::object::Raised;
use crate::messages;

pub enum Failure {
    Reason(String),
    Raised(Raised),
}

impl From<Raised> for Failure {
    fn from(raised: Raised) -> Self {
        Self::Raised(raised)
    }
}

impl From<&str> for Failure {
    fn from(text: &str) -> Self {
        Self::Reason(text.to_owned())
    }
}

impl Failure {
    /// Reports the reason, and writes it to the file of the request, where the process that requested the image reads
    /// it.
    pub fn report(self, request: &Path) {
        match self {
            Self::Reason(text) => {
                messages::complain(&format!("no startup image: {text}"));
                // If this fails, only the report on stderr has the reason.
                let _ = std::fs::write(request, text);
            }
            Self::Raised(raised) => {
                let text = format!(
                    "an error occurred while the image was taken: {}",
                    raised.report_as_text()
                );
                let _ = std::fs::write(request, text);
            }
        }
    }
}
