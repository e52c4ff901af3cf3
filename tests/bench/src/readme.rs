//! The table in the README.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};

use crate::report;
use crate::results::Results;

const START: &str = "<!-- Written by `cargo xtask bench --readme` -->\n";
const END: &str = "<!-- End of what it wrote -->\n";

/// Replaces the table of programs, and the circumstances of the measurement, in the README.
pub fn update(path: &Path, results: &Results) -> Result<()> {
    let text =
        fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    let section = format!(
        "\n{}\n\n{}\n",
        in_lines(&report::circumstances(results)),
        report::programs(results).to_markdown()
    );
    let text = replaced(&text, &section)
        .with_context(|| format!("{} has no place for the table: {START}", path.display()))?;
    fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))
}

/// Wraps a text like the rest of the README.
fn in_lines(text: &str) -> String {
    const LONGEST: usize = 120;
    let mut lines = vec![String::new()];
    for word in text.split_whitespace() {
        match lines.last_mut() {
            Some(line) if line.is_empty() => line.push_str(word),
            Some(line) if line.chars().count() + 1 + word.chars().count() <= LONGEST => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(word.to_owned()),
        }
    }
    lines.join("\n")
}

fn replaced(text: &str, section: &str) -> Option<String> {
    let (before, rest) = text.split_once(START)?;
    let (_, after) = rest.split_once(END)?;
    Some(format!("{before}{START}{section}{END}{after}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_was_written_is_replaced() {
        let text = format!("a\n{START}old\n{END}b\n");
        assert_eq!(
            replaced(&text, "new\n").unwrap(),
            format!("a\n{START}new\n{END}b\n")
        );
        assert_eq!(replaced("a\n", "new\n"), None);
    }

    #[test]
    fn no_line_is_too_long() {
        let text = "word ".repeat(100);
        let lines = in_lines(&text);
        assert_eq!(lines.lines().map(str::len).max(), Some(119));
        assert_eq!(lines.replace('\n', " "), text.trim_end());
    }

    /// The README has a table in the format of this program, and the date, the machine and the versions.
    #[test]
    fn the_readme_has_such_a_table() {
        let readme = include_str!("../../../README.md");
        let (_, rest) = readme
            .split_once(START)
            .expect("the README has a place for the table");
        let (section, _) = rest.split_once(END).expect("the place ends");
        let empty = report::programs(&Results::empty()).to_markdown();
        let header = empty.lines().next().expect("a table has a header");
        assert!(section.contains(header), "no line {header:?}");
        let rows = section.lines().filter(|line| line.starts_with("| "));
        for row in rows.clone() {
            assert_eq!(
                row.matches(" | ").count(),
                header.matches(" | ").count(),
                "{row}"
            );
        }
        assert!(rows.count() > 10);
        let circumstances = section.trim_start().split("\n\n").next();
        let circumstances = circumstances.unwrap_or_default().replace('\n', " ");
        let (date, _) = circumstances.split_once(',').expect("a date comes first");
        let is_date = |(index, c): (usize, char)| match index {
            4 | 7 => c == '-',
            _ => c.is_ascii_digit(),
        };
        assert!(
            date.len() == 10 && date.char_indices().all(is_date),
            "{date}"
        );
        for said in ["CPython 3.13.", "gcc", "Linux ", " rounds"] {
            assert!(circumstances.contains(said), "{said} in {circumstances}");
        }
    }
}
