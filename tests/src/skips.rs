//! Tests, and parts of tests, that this machine cannot run. Each one that is left out says why.

use std::env;
use std::fmt::Display;
use std::fs::File;
use std::io::Write;

/// Ends a test that this machine cannot run. The arguments are those of `format!()` and give the reason.
#[macro_export]
macro_rules! skip {
    ($($reason:tt)*) => {{
        $crate::skips::skipped(format_args!($($reason)*));
        return;
    }};
}

/// Notes that a test, or a part of it, is left out. With `CDS_NO_SKIPS=1` this is an error. `CDS_SKIPS` names a file
/// that gets a line with the reason.
pub fn skipped(reason: impl Display) {
    let line = format!("{reason}").replace('\n', " ");
    assert!(
        env::var_os("CDS_NO_SKIPS").is_none_or(|value| value != "1"),
        "nothing may be left out (CDS_NO_SKIPS): {line}"
    );
    println!("left out: {line}");
    if let Some(path) = env::var_os("CDS_SKIPS") {
        let file = File::options().create(true).append(true).open(path);
        let noted = file.and_then(|mut file| writeln!(file, "{line}"));
        noted.expect("the file that CDS_SKIPS names can be written");
    }
}
