//! Messages of the runtime for people.

/// Prints one line to stderr.
pub fn complain(message: &str) {
    eprintln!("cds: {message}");
}
