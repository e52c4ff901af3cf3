//! What the runtime says to people.

/// One line on stderr.
pub fn complain(message: &str) {
    eprintln!("cds: {message}");
}
