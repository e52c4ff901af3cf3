//! The fingerprint: what must be the same in the interpreter that wrote an archive and in the one that uses it.

use std::fmt::Write;

use archive_format::{Header, Rejection};

use crate::cpython::config::Config;
use crate::cpython::object;
use crate::executable::Executable;

/// The facts that an archive depends on, as `key=value` lines. A mismatch is reported for the first fact that differs,
/// so the facts that are most useful to a user come first.
///
/// The build id represents everything that is fixed when the interpreter is linked: version, magic number, ABI flags,
/// architecture, the layout of every struct, the address of every static object.
pub fn facts(config: &Config, executable: &Executable, lower: Option<&Header>) -> Option<String> {
    let mut facts = String::new();
    let mut fact = |key: &str, value: &str| {
        // A value with a newline would look like two facts.
        let value = value.replace('\n', "?");
        writeln!(facts, "{key}={value}").ok()
    };
    fact("python version", object::version())?;
    fact(OPTIONS[0], &config.optimization_level().to_string())?;
    fact(
        OPTIONS[1],
        if config.has_debug_ranges() {
            "yes"
        } else {
            "no"
        },
    )?;
    fact(OPTIONS[2], &config.pycache_prefix().unwrap_or_default())?;
    fact(BUILD, executable.build_id()?)?;
    fact(
        LOWER_LAYER,
        &lower.map_or_else(|| "none".to_owned(), identity),
    )?;
    Some(facts)
}

/// The facts that depend on the options of one process.
const OPTIONS: [&str; 3] = [
    "optimization level",
    "column numbers in code",
    "pycache prefix",
];

/// Whether an archive is rejected because of an option of this process, but fits other processes of the same
/// interpreter.
pub fn is_option_mismatch(rejection: &Rejection) -> bool {
    matches!(rejection, Rejection::Fact { key, .. } if OPTIONS.contains(&key.as_str()))
}

/// The fact that identifies the build of the interpreter.
pub const BUILD: &str = "interpreter build";

/// The fact that identifies the lower layer of an archive.
const LOWER_LAYER: &str = "standard library archive";

/// Whether an archive has a lower layer, to whose objects it refers.
pub fn has_lower_layer(header: &Header) -> bool {
    header
        .fact(LOWER_LAYER)
        .is_some_and(|lower| lower != "none")
}

/// The identity of an archive as text.
pub fn identity(header: &Header) -> String {
    header
        .identity
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}
