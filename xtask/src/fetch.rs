//! Fetches the tarball of a pinned release into the cache.
//!
//! The origins are tried in order: the cache, `--source`, the official tarball, Debian's source package. Each leaves a
//! whole file or none, and [`admit`] alone lets a file into the cache: its hash decides, whatever the origin.

mod apt_sources;
mod debian;
mod http;

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};

use crate::pins::{Pin, Pins};
use crate::workspace::Workspace;
use crate::{digest, stamp};

#[derive(clap::Args)]
pub struct Args {
    /// The pinned version to fetch
    #[arg(long, value_name = "VERSION")]
    pin: Option<String>,
    /// The tarball, or a directory that has it
    #[arg(long, value_name = "TARBALL|DIR")]
    source: Option<PathBuf>,
}

pub fn run(args: &Args) -> Result<()> {
    let workspace = Workspace::new();
    let _lock = workspace.lock()?;
    let pins = Pins::load(&workspace.patches())?;
    let tarball = tarball(
        &workspace.downloads(),
        pins.choose(args.pin.as_deref())?,
        args.source.as_deref(),
    )?;
    println!("{}", tarball.display());
    Ok(())
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

    // Whoever names a file wants that file: there is no falling back from it.
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
        "CPython {} cannot be fetched:{failures}\n\
         Get {} elsewhere (its sha256 is {}) and name it with --source.",
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

/// Where a file grows until it is whole.
fn partial(cached: &Path) -> PathBuf {
    let mut name = cached.as_os_str().to_owned();
    name.push(".part");
    name.into()
}

/// Moves a whole file into the cache if it is the pinned one, and removes it otherwise.
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
            version: "3.13.5".into(),
            sha256: digest::of_file(&path).unwrap(),
            size: content.len() as u64,
            url: "http://127.0.0.1:9/".into(),
            debian: DebianSource {
                package: "python3.13".into(),
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
}
