//! Fetches the tarball of a pinned release into the cache.
//!
//! The origins are tried in order: the cache, `--source`, the official tarball, Debian's source package. Each origin
//! leaves a complete file or none. Only [`admit`] moves a file into the cache, and it checks the hash of the file,
//! whatever the origin.

mod apt_sources;
pub mod debian;
mod http;

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};

use crate::pins::{Pin, Pins};
use crate::workspace::Workspace;
use crate::{digest, stamp};

#[derive(clap::Args)]
pub struct Args {
    /// The pinned version of CPython to fetch [default: the newest that is available]
    #[arg(long, value_name = "VERSION")]
    cpython: Option<String>,
    /// The tarball of CPython, or a directory that contains it
    #[arg(long, value_name = "TARBALL|DIR")]
    source: Option<PathBuf>,
}

pub fn run(args: &Args) -> Result<()> {
    let workspace = Workspace::new();
    let _lock = workspace.lock()?;
    let pins = Pins::load(&workspace.patches())?;
    let downloads = workspace.downloads();
    let pin = first(
        &downloads,
        &pins,
        args.cpython.as_deref(),
        args.source.as_deref(),
    )?;
    println!("{}", downloads.join(pin.tarball()).display());
    Ok(())
}

/// Fetches the chosen release. Without a choice, fetches the release of a named source, or the newest one that is
/// available, and reports the newer ones that are not.
pub fn first<'a>(
    cache: &Path,
    pins: &'a Pins,
    chosen: Option<&str>,
    source: Option<&Path>,
) -> Result<&'a Pin> {
    if chosen.is_some() {
        let pin = pins.choose(chosen)?;
        tarball(cache, pin, source)?;
        return Ok(pin);
    }
    if let Some(source) = source {
        let pin = pins.iter().find(|pin| has(source, pin));
        let pin = pin.unwrap_or_else(|| pins.newest());
        tarball(cache, pin, Some(source))?;
        return Ok(pin);
    }
    let mut failures = Vec::new();
    for pin in pins.iter() {
        match tarball(cache, pin, None) {
            Ok(_) => {
                for failure in failures {
                    eprintln!("{failure}\nCPython {} is used instead.", pin.version);
                }
                return Ok(pin);
            }
            Err(error) => failures.push(format!("{error:#}")),
        }
    }
    bail!("{}", failures.join("\n"))
}

/// Whether `source` is the tarball of a release, or a directory that contains the tarball.
fn has(source: &Path, pin: &Pin) -> bool {
    if source.is_dir() {
        let names = [pin.tarball(), pin.debian_tarball()];
        return names.iter().any(|name| source.join(name).is_file());
    }
    digest::of_file(source).is_ok_and(|found| found == pin.sha256)
}

/// The verified tarball of a release, in the cache.
pub fn tarball(cache: &Path, pin: &Pin, source: Option<&Path>) -> Result<PathBuf> {
    fs::create_dir_all(cache).with_context(|| format!("cannot create {}", cache.display()))?;
    let cached = cache.join(pin.tarball());
    if cached.exists() {
        match verify(&cached, pin, "the cache") {
            Ok(()) => return Ok(cached),
            Err(error) => eprintln!("  {error:#}"),
        }
        stamp::remove_file(&cached)?;
    }

    // If the user names a file, no other origin is tried.
    if let Some(source) = source {
        copy(source, &cached, pin)?;
        return Ok(cached);
    }

    let mut failures = String::new();
    for (origin, fetch) in [
        ("official tarball", http::fetch as Origin),
        ("Debian source package", debian::fetch),
    ] {
        match fetch(&cached, pin) {
            Ok(()) => return Ok(cached),
            Err(error) => failures.push_str(&format!("\n  {origin}: {error:#}")),
        }
    }
    bail!(
        "{} {} cannot be fetched:{failures}\n\
         Get {} from another place (its sha256 is {}) and name it with --source.",
        pin.name,
        pin.version,
        pin.tarball(),
        pin.sha256
    )
}

type Origin = fn(&Path, &Pin) -> Result<()>;

fn copy(source: &Path, cached: &Path, pin: &Pin) -> Result<()> {
    let tarball = if source.is_dir() {
        let names = [pin.tarball(), pin.debian_tarball()];
        let Some(found) = names
            .iter()
            .map(|name| source.join(name))
            .find(|path| path.is_file())
        else {
            bail!(
                "{} has neither {} nor {}",
                source.display(),
                names[0],
                names[1]
            );
        };
        found
    } else {
        source.to_owned()
    };
    let temporary = partial(cached);
    fs::copy(&tarball, &temporary).with_context(|| format!("cannot copy {}", tarball.display()))?;
    admit(&temporary, cached, pin, &tarball.display().to_string())
}

/// The name of a file while it is incomplete.
fn partial(cached: &Path) -> PathBuf {
    let mut name = cached.as_os_str().to_owned();
    name.push(".part");
    name.into()
}

/// Moves a complete file into the cache if it is the pinned one, and removes it otherwise.
fn admit(file: &Path, cached: &Path, pin: &Pin, origin: &str) -> Result<()> {
    if let Err(error) = verify(file, pin, origin) {
        stamp::remove_file(file)?;
        return Err(error);
    }
    File::open(file)
        .and_then(|file| file.sync_all())
        .with_context(|| format!("cannot write {} to disk", file.display()))?;
    fs::rename(file, cached)
        .with_context(|| format!("cannot move {} to {}", file.display(), cached.display()))
}

fn verify(file: &Path, pin: &Pin, origin: &str) -> Result<()> {
    let found = digest::of_file(file)?;
    ensure!(
        found == pin.sha256,
        "{} from {origin} is not the pinned file: its sha256 is {found}, expected {}",
        pin.tarball(),
        pin.sha256
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pins::DebianSource;

    fn pin(content: &[u8]) -> Pin {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("content");
        fs::write(&path, content).unwrap();
        Pin {
            name: "Python".into(),
            version: "3.13.5".into(),
            sha256: digest::of_file(&path).unwrap(),
            size: content.len() as u64,
            url: Some("http://127.0.0.1:9/".into()),
            suffix: "tar.xz".into(),
            debian: DebianSource {
                package: "python3.13".into(),
                version: None,
                suites: vec![],
            },
        }
    }

    fn files(dir: &Path) -> Vec<String> {
        let mut names: Vec<_> = fs::read_dir(dir)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    #[test]
    fn a_mismatch_names_both_hashes_and_the_origin_and_keeps_nothing() {
        let cache = tempfile::tempdir().unwrap();
        let elsewhere = tempfile::tempdir().unwrap();
        let source = elsewhere.path().join("wrong.tar.xz");
        fs::write(&source, "wrong").unwrap();
        let pin = pin(b"right");
        let error = tarball(cache.path(), &pin, Some(&source))
            .unwrap_err()
            .to_string();
        assert!(error.contains(&pin.sha256), "{error}");
        assert!(
            error.contains(&digest::of_file(&source).unwrap()),
            "{error}"
        );
        assert!(error.contains("wrong.tar.xz"), "{error}");
        assert!(files(cache.path()).is_empty());
        assert!(source.exists());
    }

    #[test]
    fn a_directory_may_have_the_tarball_under_debians_name() {
        let cache = tempfile::tempdir().unwrap();
        let source = tempfile::tempdir().unwrap();
        fs::write(source.path().join("python3.13_3.13.5.orig.tar.xz"), "right").unwrap();
        tarball(cache.path(), &pin(b"right"), Some(source.path())).unwrap();
        assert_eq!(files(cache.path()), ["Python-3.13.5.tar.xz"]);
    }

    #[test]
    fn the_cache_comes_first() {
        let cache = tempfile::tempdir().unwrap();
        fs::write(cache.path().join("Python-3.13.5.tar.xz"), "right").unwrap();
        tarball(
            cache.path(),
            &pin(b"right"),
            Some(Path::new("/nonexistent")),
        )
        .unwrap();
    }

    #[test]
    fn a_damaged_file_in_the_cache_is_replaced() {
        let cache = tempfile::tempdir().unwrap();
        let source = tempfile::tempdir().unwrap();
        fs::write(cache.path().join("Python-3.13.5.tar.xz"), "rigt").unwrap();
        fs::write(source.path().join("Python-3.13.5.tar.xz"), "right").unwrap();
        let fetched = tarball(cache.path(), &pin(b"right"), Some(source.path())).unwrap();
        assert_eq!(fs::read(fetched).unwrap(), b"right");
    }

    fn two(old: &str, new: &str) -> Pins {
        let of = |version: &str, content: &str| Pin {
            version: version.into(),
            ..pin(content.as_bytes())
        };
        Pins::of(vec![of("3.13.15", new), of("3.13.5", old)])
    }

    #[test]
    fn the_newest_that_can_be_had_is_taken() {
        let cache = tempfile::tempdir().unwrap();
        let pins = two("old", "new");
        let error = first(cache.path(), &pins, None, None).unwrap_err();
        let error = error.to_string();
        assert!(
            error.contains("3.13.15 cannot") && error.contains("3.13.5 cannot"),
            "{error}"
        );
        fs::write(cache.path().join("Python-3.13.5.tar.xz"), "old").unwrap();
        let taken = |chosen| first(cache.path(), &pins, chosen, None).map(|pin| &*pin.version);
        assert_eq!(taken(None).unwrap(), "3.13.5");
        assert!(taken(Some("3.13.15")).is_err());
        fs::write(cache.path().join("Python-3.13.15.tar.xz"), "new").unwrap();
        assert_eq!(taken(None).unwrap(), "3.13.15");
        assert_eq!(taken(Some("3.13.5")).unwrap(), "3.13.5");
    }

    #[test]
    fn a_named_source_decides_which_release_it_is() {
        let cache = tempfile::tempdir().unwrap();
        let source = tempfile::tempdir().unwrap();
        let pins = two("old", "new");
        fs::write(cache.path().join("Python-3.13.15.tar.xz"), "new").unwrap();
        let file = source.path().join("some.tar.xz");
        fs::write(&file, "old").unwrap();
        let taken = |source: &Path| {
            let taken = first(cache.path(), &pins, None, Some(source));
            taken.map(|pin| &*pin.version)
        };
        assert_eq!(taken(&file).unwrap(), "3.13.5");
        fs::rename(&file, source.path().join("python3.13_3.13.5.orig.tar.xz")).unwrap();
        assert_eq!(taken(source.path()).unwrap(), "3.13.5");
    }
}
