//! The differences between plain and restored runs, and those that are allowed.

use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use anyhow::{Context, Result, ensure};

use super::Report;

/// Sections of the report whose values have to differ between processes.
const FRESH: [&str; 2] = ["fresh.", "place."];

/// The list of allowed differences. Each line has a pattern of keys, a tab and a reason. `*` stands for any text.
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
                .with_context(|| format!("no reason in {}: {line}", path.display()))?;
            ensure!(
                !reason.trim().is_empty(),
                "the reason for {pattern} is empty"
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

    /// The reason why a key may differ; none if it must not differ. All lines that match count as used.
    fn reason(&self, key: &str) -> Option<&str> {
        let mut reason = None;
        for line in self.lines.iter().filter(|line| matches(&line.pattern, key)) {
            line.was_used.set(true);
            reason.get_or_insert(line.reason.as_str());
        }
        reason
    }

    /// Patterns that have matched no difference. They have to be removed.
    pub fn unused(&self) -> Vec<&str> {
        let unused = self.lines.iter().filter(|line| !line.was_used.get());
        unused.map(|line| line.pattern.as_str()).collect()
    }
}

/// Whether a text matches a pattern.
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

/// The values of a key in plain runs and in restored runs.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Values {
    plain: String,
    restored: String,
}

/// A key, and the runs in which it differs.
type Place<'a> = (&'a str, &'a BTreeSet<String>);

/// The results of all comparisons.
#[derive(Default)]
pub struct Findings {
    titles: BTreeSet<String>,
    compared: usize,
    /// Keys whose values differ between plain runs.
    varying: BTreeSet<String>,
    /// Keys that have the restored value in a run with only the archive, too. The image does not cause this difference.
    of_archive: BTreeSet<String>,
    /// Keys that may differ, by reason.
    allowed: BTreeMap<String, BTreeSet<String>>,
    /// Runs that were not restored, and why.
    not_restored: BTreeMap<String, String>,
    /// Differences that are not allowed, and the runs that have them.
    differences: BTreeMap<(String, Values), BTreeSet<String>>,
}

impl Findings {
    /// Compares the runs of one image in one setting.
    pub fn compare(
        &mut self,
        title: &str,
        allowed: &Allowed,
        plain: &[Report],
        archived: &Report,
        restored: &[Report],
    ) {
        self.titles.insert(title.to_owned());
        let reports = plain.iter().chain(restored);
        let keys: BTreeSet<&str> = reports.flat_map(Report::keys).collect();
        self.compared += keys.len();
        for key in keys {
            let is_fresh = FRESH.iter().any(|section| key.starts_with(section));
            let (expected, found) = (values(key, plain), values(key, restored));
            let difference = if is_fresh {
                // If each plain run has another value, each restored run must have another value, too.
                let is_repeated = expected.len() == plain.len() && found.len() < restored.len();
                is_repeated.then(|| Values {
                    plain: "another value in each run".to_owned(),
                    restored: format!("{} values in {} runs", found.len(), restored.len()),
                })
            } else if expected.len() > 1 {
                self.varying.insert(key.to_owned());
                None
            } else if expected == found {
                None
            } else if found == BTreeSet::from([archived.value(key)]) {
                self.of_archive.insert(key.to_owned());
                None
            } else {
                let (plain, restored) = (shown(&expected), shown(&found));
                Some(Values { plain, restored })
            };
            let Some(difference) = difference else {
                continue;
            };
            if let Some(reason) = allowed.reason(key) {
                let keys = self.allowed.entry(reason.to_owned()).or_default();
                keys.insert(key.to_owned());
            } else {
                let titles = self.differences.entry((key.to_owned(), difference));
                titles.or_default().insert(title.to_owned());
            }
        }
    }

    /// Notes that a process was not restored. This is a failure, because nothing was compared.
    pub fn note_not_restored(&mut self, title: &str, reason: String) {
        self.not_restored.insert(title.to_owned(), reason);
    }

    pub fn is_clean(&self) -> bool {
        self.differences.is_empty() && self.not_restored.is_empty()
    }

    /// The full report for people.
    pub fn describe(&self) -> String {
        let mut text = format!("{} lines were compared\n", self.compared);
        list(&mut text, "that differ between plain runs", &self.varying);
        list(
            &mut text,
            "that also differ with the archive",
            &self.of_archive,
        );
        for (reason, keys) in &self.allowed {
            list(&mut text, &format!("that may differ: {reason}"), keys);
        }
        for (title, reason) in &self.not_restored {
            text += &format!("\n{title}: not restored: {reason}\n");
        }
        text += &format!("\n{} that must not differ:\n", self.differences.len());
        for (values, found) in self.alike() {
            text += "\n";
            for (key, titles) in found {
                text += &format!("    {key}");
                if titles.len() < self.titles.len() {
                    let titles = titles.iter().map(String::as_str).collect::<Vec<_>>();
                    text += &format!("  [{}]", titles.join("; "));
                }
                text += "\n";
            }
            text += &format!("        plain     {}\n", values.plain);
            text += &format!("        restored  {}\n", values.restored);
        }
        text
    }

    /// Differences grouped by their values, because many keys have the same values, in the order of their first keys.
    fn alike(&self) -> Vec<(&Values, Vec<Place<'_>>)> {
        let mut alike = BTreeMap::<_, Vec<_>>::new();
        for ((key, values), titles) in &self.differences {
            alike
                .entry(values)
                .or_default()
                .push((key.as_str(), titles));
        }
        let mut alike: Vec<_> = alike.into_iter().collect();
        alike.sort_by_key(|(_, found)| found[0].0);
        alike
    }
}

fn list(text: &mut String, title: &str, keys: &BTreeSet<String>) {
    *text += &format!("\n{} {title}:\n", keys.len());
    for key in keys {
        *text += &format!("    {key}\n");
    }
}

/// The values of a key in the reports.
fn values<'a>(key: &str, reports: &'a [Report]) -> BTreeSet<Option<&'a str>> {
    reports.iter().map(|report| report.value(key)).collect()
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
