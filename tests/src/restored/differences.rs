//! What differs between plain and restored runs, and what may.

use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use anyhow::{Context, Result, ensure};

use super::Report;

/// Sections whose values have to differ from process to process.
const FRESH: [&str; 2] = ["fresh.", "place."];

/// The list of what may differ: a pattern of keys and a reason a line, with a tab between them. `*` stands for any text.
pub struct Allowed {
    lines: Vec<Line>,
}

struct Line {
    pattern: String,
    reason: String,
    was_used: Cell<bool>,
}

impl Allowed {
    pub fn read(path: &Path) -> Result<Self> {
        let text =
            fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
        let lines = text
            .lines()
            .filter(|line| !line.is_empty() && !line.starts_with('#'));
        let lines = lines.map(|line| {
            let (pattern, reason) = line
                .split_once('\t')
                .with_context(|| format!("there is no reason in {}: {line}", path.display()))?;
            ensure!(
                !reason.trim().is_empty(),
                "there is no reason for {pattern}"
            );
            Ok(Line {
                pattern: pattern.to_owned(),
                reason: reason.trim().to_owned(),
                was_used: Cell::new(false),
            })
        });
        Ok(Self {
            lines: lines.collect::<Result<_>>()?,
        })
    }

    /// The reason for a difference, if there is one. All lines that match count as used.
    fn reason(&self, key: &str) -> Option<&str> {
        let mut reason = None;
        for line in self.lines.iter().filter(|line| matches(&line.pattern, key)) {
            line.was_used.set(true);
            reason.get_or_insert(line.reason.as_str());
        }
        reason
    }

    /// Patterns that no difference has matched: they have to be removed.
    pub fn unused(&self) -> Vec<&str> {
        let unused = self.lines.iter().filter(|line| !line.was_used.get());
        unused.map(|line| line.pattern.as_str()).collect()
    }
}

/// Whether a text is like a pattern.
fn matches(pattern: &str, text: &str) -> bool {
    let Some((first, rest)) = pattern.split_once('*') else {
        return pattern == text;
    };
    let Some(mut text) = text.strip_prefix(first) else {
        return false;
    };
    let mut parts: Vec<&str> = rest.split('*').collect();
    let last = parts.pop().unwrap_or_default();
    for part in parts {
        match text.find(part) {
            Some(place) => text = &text[place + part.len()..],
            None => return false,
        }
    }
    text.ends_with(last)
}

/// A line that is not as in plain runs.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Difference {
    pub key: String,
    pub plain: String,
    pub restored: String,
    /// Whether a run with the archive has the same: then it is not the image that makes the difference.
    pub is_of_archive: bool,
}

/// What plain runs have, and what restored ones have.
type Values<'a> = (&'a str, &'a str);

/// A difference and the runs that have it.
type Found<'a> = (&'a Difference, &'a BTreeSet<String>);

/// What the comparison of some runs has shown, and in which of them.
#[derive(Default)]
pub struct Findings {
    differences: BTreeMap<Difference, BTreeSet<String>>,
    /// Keys whose values differ among plain runs.
    varying: BTreeSet<String>,
    allowed: BTreeMap<String, BTreeSet<String>>,
    compared: usize,
}

impl Findings {
    /// Compares the runs of one image in one setting.
    pub fn compare(
        &mut self,
        title: &str,
        allowed: &Allowed,
        plain: &[Report],
        archived: Option<&Report>,
        restored: &[Report],
    ) {
        let reports = plain.iter().chain(restored);
        let keys: BTreeSet<&str> = reports.flat_map(Report::keys).collect();
        for key in keys {
            self.compared += 1;
            let difference = if FRESH.iter().any(|section| key.starts_with(section)) {
                repeated(key, plain, restored)
            } else if values(key, plain).len() > 1 {
                self.varying.insert(key.to_owned());
                None
            } else {
                different(key, plain, archived, restored)
            };
            let Some(difference) = difference else {
                continue;
            };
            if let Some(reason) = allowed.reason(key) {
                let keys = self.allowed.entry(reason.to_owned()).or_default();
                keys.insert(key.to_owned());
            } else {
                let settings = self.differences.entry(difference).or_default();
                settings.insert(title.to_owned());
            }
        }
    }

    pub fn is_clean(&self) -> bool {
        self.differences.is_empty()
    }

    /// Differences by what they consist of: many keys have the same.
    fn alike(&self) -> BTreeMap<Values<'_>, Vec<Found<'_>>> {
        let mut alike = BTreeMap::<_, Vec<_>>::new();
        for (difference, titles) in &self.differences {
            let values = (difference.plain.as_str(), difference.restored.as_str());
            alike.entry(values).or_default().push((difference, titles));
        }
        alike
    }

    /// Everything, to be read.
    pub fn describe(&self) -> String {
        let mut text = format!("{} lines were compared\n", self.compared);
        let varying = self.varying.iter().map(String::as_str).collect::<Vec<_>>();
        text += &format!("\n{} that differ among plain runs:\n", varying.len());
        for key in varying {
            text += &format!("    {key}\n");
        }
        for (reason, keys) in &self.allowed {
            text += &format!("\n{} that may differ, since {reason}:\n", keys.len());
            for key in keys {
                text += &format!("    {key}\n");
            }
        }
        text += &format!("\n{} that must not differ:\n", self.differences.len());
        for ((plain, restored), differences) in self.alike() {
            text += "\n";
            for (difference, titles) in differences {
                let titles = titles.iter().map(String::as_str).collect::<Vec<_>>();
                let archive = if difference.is_of_archive {
                    ", and with the archive alone"
                } else {
                    ""
                };
                text += &format!("    {} [{}{archive}]\n", difference.key, titles.join("; "));
            }
            text += &format!("        plain     {plain}\n        restored  {restored}\n");
        }
        text
    }
}

/// The values that reports have for a key.
fn values<'a>(key: &str, reports: &'a [Report]) -> BTreeSet<Option<&'a str>> {
    reports.iter().map(|report| report.value(key)).collect()
}

fn different(
    key: &str,
    plain: &[Report],
    archived: Option<&Report>,
    restored: &[Report],
) -> Option<Difference> {
    let (expected, found) = (values(key, plain), values(key, restored));
    if expected == found {
        return None;
    }
    let archived = archived.map(|report| BTreeSet::from([report.value(key)]));
    Some(Difference {
        key: key.to_owned(),
        plain: shown(&expected),
        restored: shown(&found),
        is_of_archive: archived == Some(found),
    })
}

/// What is another value in each plain run has to be one in each restored one.
fn repeated(key: &str, plain: &[Report], restored: &[Report]) -> Option<Difference> {
    let (expected, found) = (values(key, plain), values(key, restored));
    if expected.len() < plain.len() || found.len() == restored.len() {
        return None;
    }
    Some(Difference {
        key: key.to_owned(),
        plain: "differs from run to run".to_owned(),
        restored: format!("{} values in {} runs", found.len(), restored.len()),
        is_of_archive: false,
    })
}

fn shown(values: &BTreeSet<Option<&str>>) -> String {
    let values = values
        .iter()
        .map(|value| value.unwrap_or("there is no such line"));
    values.collect::<Vec<_>>().join("\n                  ")
}

#[cfg(test)]
mod tests {
    use super::matches;

    #[test]
    fn a_star_stands_for_any_text() {
        for (pattern, text, expected) in [
            ("a.b", "a.b", true),
            ("a.b", "a.bc", false),
            ("a.*", "a.", true),
            ("a.*", "b.a.", false),
            ("*.b", "a.b", true),
            ("a*b*c", "a-b-c", true),
            ("a*b*c", "a-c-b", false),
            ("a*b*bc", "abc", false),
        ] {
            assert_eq!(matches(pattern, text), expected, "{pattern} {text}");
        }
    }
}
