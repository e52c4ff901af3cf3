//! The pinned CPython releases.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use serde::Deserialize;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Table {
    release: Vec<Pin>,
}

/// One release of CPython or of a library: its tarball, and the origins of the tarball.
#[derive(Clone, Debug, Deserialize, PartialEq)]
#[serde(deny_unknown_fields)]
pub struct Pin {
    #[serde(default = "python")]
    pub name: String,
    pub version: String,
    pub sha256: String,
    pub size: u64,
    /// The official tarball, unless Debian's differs from it.
    pub url: Option<String>,
    #[serde(default = "xz")]
    pub suffix: String,
    pub debian: DebianSource,
}

/// The Debian source package with the same tarball.
#[derive(Clone, Debug, Deserialize, PartialEq)]
#[serde(deny_unknown_fields)]
pub struct DebianSource {
    pub package: String,
    /// Debian's name of the version, if it is another one.
    pub version: Option<String>,
    pub suites: Vec<String>,
}

fn python() -> String {
    "Python".to_owned()
}

fn xz() -> String {
    "tar.xz".to_owned()
}

impl Pin {
    pub fn tarball(&self) -> String {
        format!("{}-{}.{}", self.name, self.version, self.suffix)
    }

    /// Debian's name of the same file.
    pub fn debian_tarball(&self) -> String {
        let package = &self.debian.package;
        format!("{package}_{}.orig.{}", self.debian_version(), self.suffix)
    }

    /// Debian's version, without Debian's revision and epoch.
    pub fn debian_version(&self) -> &str {
        self.debian.version.as_deref().unwrap_or(&self.version)
    }

    /// # Errors
    /// The hash is not a sha256.
    pub fn check(&self) -> Result<()> {
        let is_digit = |byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
        ensure!(
            self.sha256.len() == 64 && self.sha256.bytes().all(is_digit),
            "{} {}: the sha256 is not 64 lower-case hexadecimal digits",
            self.name,
            self.version
        );
        Ok(())
    }
}

/// The pins in the order of the table: the newest comes first.
pub struct Pins(Vec<Pin>);

impl Pins {
    pub fn load(patches: &Path) -> Result<Self> {
        let path = patches.join("pins.toml");
        let text =
            fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
        Self::parse(&text).with_context(|| format!("{} is not a table of pins", path.display()))
    }

    #[cfg(test)]
    pub fn of(pins: Vec<Pin>) -> Self {
        Self(pins)
    }

    fn parse(text: &str) -> Result<Self> {
        let Table { release } = toml::from_str(text)?;
        ensure!(!release.is_empty(), "no release is pinned");
        let versions = release.iter().map(|pin| numbers(&pin.version));
        ensure!(
            versions.clone().zip(versions.skip(1)).all(|(a, b)| a > b),
            "the releases are not in order, the newest first"
        );
        for pin in &release {
            pin.check()?;
        }
        Ok(Self(release))
    }

    pub fn iter(&self) -> impl Iterator<Item = &Pin> {
        self.0.iter()
    }

    pub fn newest(&self) -> &Pin {
        &self.0[0]
    }

    /// The release of the given version, or the newest release without a version.
    pub fn choose(&self, version: Option<&str>) -> Result<&Pin> {
        let Some(version) = version else {
            return Ok(self.newest());
        };
        match self.0.iter().find(|pin| pin.version == version) {
            Some(pin) => Ok(pin),
            None => {
                let pinned: Vec<_> = self.iter().map(|pin| pin.version.as_str()).collect();
                bail!(
                    "CPython {version} is not pinned; cpython-patches/3.13/pins.toml has {}",
                    pinned.join(", ")
                )
            }
        }
    }
}

/// The numbers of a version, for comparisons.
fn numbers(version: &str) -> Vec<u32> {
    version
        .split('.')
        .map(|part| part.parse().unwrap_or(0))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const TWO: &str = r#"
        [[release]]
        version = "3.13.15"
        sha256 = "1e66a7945a48390ee4c2a4268a0e4185884059a13c4aab6d148aa208deea4a76"
        size = 2
        url = "https://example.org/b"
        debian = { package = "python3.13", suites = ["forky", "sid"] }

        [[release]]
        version = "3.13.5"
        sha256 = "93e583f243454e6e9e4588ca2c2662206ad961659863277afcdb96801647d640"
        size = 1
        url = "https://example.org/a"
        debian = { package = "python3.13", suites = ["trixie"] }
    "#;

    #[test]
    fn the_first_release_is_the_newest() {
        let pins = Pins::parse(TWO).unwrap();
        assert_eq!(pins.choose(None).unwrap().version, "3.13.15");
        let newer = pins.choose(Some("3.13.15")).unwrap();
        assert_eq!(newer.tarball(), "Python-3.13.15.tar.xz");
        assert_eq!(newer.debian_tarball(), "python3.13_3.13.15.orig.tar.xz");
    }

    #[test]
    fn an_unknown_version_names_the_pinned_ones() {
        let error = Pins::parse(TWO)
            .unwrap()
            .choose(Some("3.12.1"))
            .unwrap_err()
            .to_string();
        assert!(error.contains("3.13.15, 3.13.5"), "{error}");
    }

    #[test]
    fn a_short_hash_is_refused() {
        let error = Pins::parse(&TWO.replace("93e583f2", "93e5"))
            .err()
            .unwrap()
            .to_string();
        assert!(error.contains("3.13.5"), "{error}");
    }

    #[test]
    fn the_table_of_this_repository_is_valid() {
        let pins = Pins::load(&crate::workspace::Workspace::new().patches()).unwrap();
        assert_eq!(pins.newest().version, "3.13.15");
    }
}
