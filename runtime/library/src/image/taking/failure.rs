//! Why there is no image.

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
    /// Says why. Whoever has asked for the image gets the reason in the place of the request.
    pub fn tell(self, request: &Path) {
        match self {
            Self::Reason(text) => {
                messages::complain(&format!("no startup image: {text}"));
                // Without it, the reason is not kept.
                let _ = std::fs::write(request, text);
            }
            Self::Raised(raised) => {
                let text = format!("an error in taking it: {}", raised.report_as_text());
                let _ = std::fs::write(request, text);
            }
        }
    }
}
