//! The catalogue for `uv python install --python-downloads-json-url`.
//!
//! Its format is that of uv's own `crates/uv-python/download-metadata.json`.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use serde::Serialize;

use crate::digest;

#[derive(Serialize)]
struct Download {
    name: &'static str,
    arch: Architecture,
    os: &'static str,
    libc: &'static str,
    major: u8,
    minor: u8,
    patch: u8,
    prerelease: &'static str,
    url: String,
    sha256: String,
    variant: Option<&'static str>,
    build: String,
}

#[derive(Serialize)]
struct Architecture {
    family: &'static str,
    variant: Option<&'static str>,
}

/// Writes `downloads.json` next to the package.
pub fn write(tarball: &Path, date: &str, base: Option<&str>) -> Result<()> {
    let file = tarball.file_name().unwrap_or_default().to_string_lossy();
    let directory = tarball.parent().context("the package has a directory")?;
    let base = match base {
        Some(base) => base.trim_end_matches('/').to_owned(),
        None => format!("file://{}", directory.display()),
    };
    let catalogue = of(&file, date, &base, digest::of_file(tarball)?)?;
    let path = directory.join("downloads.json");
    fs::write(&path, catalogue).with_context(|| format!("cannot write {}", path.display()))
}

fn of(file: &str, date: &str, base: &str, sha256: String) -> Result<String> {
    let version = file
        .strip_prefix("cpython-")
        .and_then(|rest| Some(rest.split_once('+')?.0))
        .context("the package has a version")?;
    let numbers: Vec<u8> = version
        .split('.')
        .map(|number| number.parse().context("the version has numbers"))
        .collect::<Result<_>>()?;
    ensure!(numbers.len() == 3, "{version} has three numbers");
    let arch = std::env::consts::ARCH;
    let download = Download {
        name: "cpython",
        arch: Architecture {
            family: arch,
            variant: None,
        },
        os: "linux",
        libc: "gnu",
        major: numbers[0],
        minor: numbers[1],
        patch: numbers[2],
        prerelease: "",
        url: format!("{base}/{}", file.replace('+', "%2B")),
        sha256,
        variant: None,
        build: date.to_owned(),
    };
    let key = format!("cpython-{version}-linux-{arch}-gnu");
    let catalogue = BTreeMap::from([(key, download)]);
    Ok(serde_json::to_string_pretty(&catalogue)? + "\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_address_is_that_of_the_file() {
        let file = "cpython-3.13.15+20261128-x86_64-unknown-linux-gnu-install_only_stripped.tar.gz";
        let text = of(file, "20261128", "https://example.org/a", "ab".into()).unwrap();
        let json: serde_json::Value = serde_json::from_str(&text).unwrap();
        let (_, download) = json.as_object().unwrap().iter().next().unwrap();
        assert_eq!(
            download["url"],
            "https://example.org/a/cpython-3.13.15%2B20261128-x86_64-unknown-linux-gnu-install_only_stripped.tar.gz"
        );
        assert_eq!(
            (&download["minor"], &download["patch"]),
            (&13.into(), &15.into())
        );
    }
}
