//! The system's apt sources, in both formats, and the entry that serves the Debian archive.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};

/// One entry: an archive, its suites and components, and apt's options for it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Entry {
    enabled: bool,
    uris: String,
    suites: Vec<String>,
    components: Vec<String>,
    /// The remaining fields, in deb822 form, with their continuation lines.
    options: Vec<(String, String)>,
}

impl Entry {
    /// Whether this is the distribution's own main archive. A third party may name its suite after a Debian release,
    /// but its address and its key have other names.
    pub fn serves_debian(&self, codename: &str) -> bool {
        let aliases = [
            codename,
            "oldstable",
            "stable",
            "testing",
            "unstable",
            "sid",
        ];
        let signed_by = self.option("Signed-By");
        self.enabled
            && self.components.iter().any(|component| component == "main")
            && self
                .suites
                .iter()
                .any(|suite| aliases.contains(&suite.as_str()))
            && (self.uris.contains("debian")
                || signed_by.is_some_and(|key| key.contains("debian-archive")))
    }

    /// The addresses of the archive.
    pub fn mirrors(&self) -> impl Iterator<Item = &str> {
        self.uris.split_whitespace()
    }

    /// The file with the archive's keys, if the entry names one.
    pub fn keyring(&self) -> Option<&str> {
        let keys = self.option("Signed-By").map(str::trim);
        keys.filter(|keys| keys.starts_with('/'))
    }

    fn option(&self, name: &str) -> Option<&str> {
        let mut options = self.options.iter();
        let option = options.find(|(known, _)| known.eq_ignore_ascii_case(name));
        option.map(|(_, value)| value.as_str())
    }

    /// An entry for the sources of another suite of the same archive.
    pub fn sources_of(&self, suite: &str) -> String {
        let mut stanza = format!(
            "Types: deb-src\nURIs: {}\nSuites: {suite}\nComponents: main\n",
            self.uris
        );
        for (name, value) in &self.options {
            stanza.push_str(&format!("{name}: {value}\n"));
        }
        stanza
    }
}

/// All entries of the system's configuration.
pub fn read(etc: &Path) -> Result<Vec<Entry>> {
    let mut files = vec![etc.join("sources.list")];
    if let Ok(parts) = fs::read_dir(etc.join("sources.list.d")) {
        let mut parts = parts
            .map(|part| Ok(part?.path()))
            .collect::<Result<Vec<_>>>()?;
        parts.sort();
        files.extend(parts);
    }
    let mut entries = Vec::new();
    for file in files.iter().filter(|file| file.is_file()) {
        let text =
            fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?;
        match file.extension().and_then(|extension| extension.to_str()) {
            Some("sources") => entries.extend(parse_deb822(&text)),
            Some("list") => entries.extend(text.lines().filter_map(parse_line)),
            _ => {}
        }
    }
    Ok(entries)
}

fn words(text: &str) -> Vec<String> {
    text.split_whitespace().map(str::to_owned).collect()
}

/// The format of `*.sources`: stanzas of fields.
fn parse_deb822(text: &str) -> Vec<Entry> {
    let mut entries = Vec::new();
    let mut fields: Vec<(String, String)> = Vec::new();
    // The empty line at the end closes the last stanza.
    for line in text.lines().chain([""]) {
        if line.starts_with('#') {
        } else if line.trim().is_empty() {
            entries.extend(entry(std::mem::take(&mut fields)));
        } else if line.starts_with([' ', '\t']) {
            if let Some((_, value)) = fields.last_mut() {
                value.push('\n');
                value.push_str(line);
            }
        } else if let Some((name, value)) = line.split_once(':') {
            fields.push((name.trim().to_owned(), value.trim().to_owned()));
        }
    }
    entries
}

fn entry(fields: Vec<(String, String)>) -> Option<Entry> {
    if fields.is_empty() {
        return None;
    }
    let mut entry = Entry {
        enabled: true,
        ..Entry::default()
    };
    for (name, value) in fields {
        match name.to_ascii_lowercase().as_str() {
            "types" => {}
            "uris" => entry.uris = value,
            "suites" => entry.suites = words(&value),
            "components" => entry.components = words(&value),
            "enabled" => {
                entry.enabled = !matches!(value.to_ascii_lowercase().as_str(), "no" | "false" | "0")
            }
            _ => entry.options.push((name, value)),
        }
    }
    Some(entry)
}

/// The format of `*.list`: `deb [option=value ...] uri suite component ...`.
fn parse_line(line: &str) -> Option<Entry> {
    let line = line.split('#').next()?.trim();
    let rest = line
        .strip_prefix("deb-src")
        .or_else(|| line.strip_prefix("deb"))?;
    let rest = rest.strip_prefix([' ', '\t'])?.trim_start();
    let (options, rest) = match rest.strip_prefix('[') {
        Some(rest) => rest.split_once(']')?,
        None => ("", rest),
    };
    let mut rest = words(rest).into_iter();
    Some(Entry {
        enabled: true,
        uris: rest.next()?,
        suites: vec![rest.next()?],
        components: rest.collect(),
        options: options
            .split_whitespace()
            .filter_map(deb822_option)
            .collect(),
    })
}

fn deb822_option(option: &str) -> Option<(String, String)> {
    let (name, value) = option.split_once('=')?;
    let name = match name {
        "arch" => "Architectures",
        "lang" => "Languages",
        "target" => "Targets",
        name => name,
    };
    Some((name.to_owned(), value.replace(',', " ")))
}

#[cfg(test)]
mod tests {
    use super::*;

    const CONTAINER: &str = "\
Types: deb
# http://snapshot.debian.org/archive/debian/20250520T000000Z
URIs: http://deb.debian.org/debian
Suites: bookworm bookworm-updates
Components: main
Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg

Types: deb
URIs: http://deb.debian.org/debian-security
Suites: bookworm-security
Components: main
Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg
";

    #[test]
    fn the_main_archive_is_told_from_the_security_archive() {
        let entries = parse_deb822(CONTAINER);
        assert_eq!(
            entries
                .iter()
                .map(|entry| entry.serves_debian("bookworm"))
                .collect::<Vec<_>>(),
            [true, false]
        );
        assert_eq!(
            entries[0].sources_of("trixie"),
            "Types: deb-src\nURIs: http://deb.debian.org/debian\nSuites: trixie\nComponents: main\n\
             Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg\n"
        );
    }

    #[test]
    fn a_key_in_the_entry_keeps_its_lines() {
        let text = "Types: deb\nURIs: http://mirror/debian\nSuites: sid\nComponents: main contrib\nSigned-By:\n \
                    -----BEGIN PGP PUBLIC KEY BLOCK-----\n .\n mQINBF\nEnabled: yes\n";
        let entries = parse_deb822(text);
        assert!(entries[0].serves_debian("bookworm"));
        assert!(
            entries[0]
                .sources_of("trixie")
                .ends_with("Signed-By: \n -----BEGIN PGP PUBLIC KEY BLOCK-----\n .\n mQINBF\n")
        );
    }

    #[test]
    fn a_disabled_entry_serves_nothing() {
        let entries = parse_deb822(&CONTAINER.replacen("Types: deb", "Types: deb\nenabled: no", 1));
        assert!(!entries[0].serves_debian("bookworm"));
    }

    #[test]
    fn a_line_becomes_a_stanza() {
        let line = "deb [arch=amd64,arm64 signed-by=/a.gpg] http://ftp.debian.org/debian bookworm main non-free # x";
        let entry = parse_line(line).unwrap();
        assert!(entry.serves_debian("bookworm"));
        assert_eq!(
            entry.sources_of("trixie"),
            "Types: deb-src\nURIs: http://ftp.debian.org/debian\nSuites: trixie\nComponents: main\n\
             Architectures: amd64 arm64\nsigned-by: /a.gpg\n"
        );
    }

    #[test]
    fn third_parties_and_comments_are_no_debian_archive() {
        for line in [
            "deb https://packages.cloud.google.com/apt cloud-sdk-bookworm main",
            "deb [signed-by=/k.gpg] https://apt.releases.hashicorp.com bookworm main",
            "deb [arch=amd64] https://download.docker.com/linux/debian bookworm stable",
            "deb http://apt.postgresql.org/pub/repos/apt bookworm-pgdg main",
        ] {
            assert!(
                !parse_line(line).unwrap().serves_debian("bookworm"),
                "{line}"
            );
        }
        assert_eq!(
            parse_line("# deb http://deb.debian.org/debian bookworm main"),
            None
        );
        assert_eq!(parse_line("debug"), None);
        assert_eq!(parse_line("deb http://deb.debian.org/debian"), None);
    }

    #[test]
    fn both_formats_are_read_and_other_files_are_not() {
        let etc = tempfile::tempdir().unwrap();
        fs::create_dir(etc.path().join("sources.list.d")).unwrap();
        fs::write(
            etc.path().join("sources.list"),
            "deb http://deb.debian.org/debian bookworm main\n",
        )
        .unwrap();
        fs::write(etc.path().join("sources.list.d/debian.sources"), CONTAINER).unwrap();
        fs::write(
            etc.path().join("sources.list.d/debian.sources.save"),
            CONTAINER,
        )
        .unwrap();
        assert_eq!(read(etc.path()).unwrap().len(), 3);
    }
}
