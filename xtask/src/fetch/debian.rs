//! Debian's source package: its `.orig.tar.xz` is the official tarball, byte for byte.
//!
//! apt runs with its own configuration in a temporary directory. The configuration is made from the system's entry for
//! the Debian archive (same mirror, same key), with another suite. The system's configuration is read, never written.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use xshell::{Cmd, Shell, cmd};

use super::apt_sources::{self, Entry};
use crate::pins::Pin;
use crate::progress::Phase;
use crate::workspace;

pub fn fetch(cached: &Path, pin: &Pin) -> Result<()> {
    let archives = archives()?;
    let mut failures = Vec::new();
    for suite in &pin.debian.suites {
        for archive in &archives {
            let phase = Phase::start(format!("source package from Debian {suite}"));
            let fetched = Apt::new(archive, suite)
                .and_then(|apt| apt.download(pin, &phase)?.admit(cached, pin, suite));
            match phase.end(fetched) {
                Ok(()) => return Ok(()),
                Err(error) => failures.push(format!("suite {suite}: {error:#}")),
            }
        }
    }
    bail!("{}", failures.join("; "))
}

/// The system's entries for the Debian archive.
///
/// # Errors
/// There is none.
pub fn archives() -> Result<Vec<Entry>> {
    let release = fs::read_to_string("/etc/os-release").context("cannot read /etc/os-release")?;
    let codename = release
        .lines()
        .find_map(|line| line.strip_prefix("VERSION_CODENAME="));
    let codename = codename.unwrap_or("sid").trim_matches('"');
    let mut entries = apt_sources::read(Path::new("/etc/apt"))?;
    entries.retain(|entry| entry.serves_debian(codename));
    ensure!(
        !entries.is_empty(),
        "the system's apt sources have no entry for the Debian archive"
    );
    Ok(entries)
}

/// apt with a private configuration.
struct Apt {
    dir: tempfile::TempDir,
    /// Its working directory is the directory for downloads.
    shell: Shell,
}

/// A tarball that apt has downloaded, in apt's directory.
struct Download {
    apt: Apt,
    tarball: PathBuf,
}

impl Apt {
    fn new(archive: &Entry, suite: &str) -> Result<Self> {
        let dir = tempfile::tempdir().context("cannot create a temporary directory")?;
        for sub in [
            "sources.list.d",
            "lists/partial",
            "cache/archives/partial",
            "download",
        ] {
            fs::create_dir_all(dir.path().join(sub)).context("cannot create apt's directories")?;
        }
        fs::write(
            dir.path().join("sources.list.d/private.sources"),
            archive.sources_of(suite),
        )
        .context("cannot write apt's configuration")?;
        let shell = workspace::shell()?;
        shell.change_dir(dir.path().join("download"));
        shell.set_var("LC_ALL", "C");
        Ok(Self { dir, shell })
    }

    fn command(&self, program: &str) -> Cmd<'_> {
        let dir = self.dir.path().display();
        let options = [
            "Dir::Etc::sourcelist=/dev/null".to_owned(),
            format!("Dir::Etc::sourceparts={dir}/sources.list.d"),
            format!("Dir::State::lists={dir}/lists"),
            format!("Dir::Cache={dir}/cache"),
            // The directory belongs to this user: apt's sandbox user could not write to it, and apt would warn.
            "APT::Sandbox::User=root".to_owned(),
            "Acquire::Languages=none".to_owned(),
            "Acquire::http::Timeout=15".to_owned(),
            "Acquire::https::Timeout=15".to_owned(),
            "Acquire::Retries=1".to_owned(),
        ];
        let options = options.iter().flat_map(|option| ["-o", option]);
        cmd!(self.shell, "{program} {options...}").quiet()
    }

    fn download(self, pin: &Pin, phase: &Phase) -> Result<Download> {
        // By default, apt only warns if an archive is unreachable.
        let strict = "APT::Update::Error-Mode=any";
        let update = self.command("apt-get");
        self.run(update.args(["-q", "-o", strict, "update"]), phase)?;
        let package = &pin.debian.package;
        let version = self.version(pin)?;
        let source = self.command("apt-get");
        let source = source.args(["-q", "--download-only", "--tar-only", "source"]);
        self.run(source.arg(format!("{package}={version}")), phase)?;
        let tarball = self.dir.path().join("download").join(pin.debian_tarball());
        ensure!(
            tarball.is_file(),
            "{package} {version} has no {}",
            pin.debian_tarball()
        );
        Ok(Download { apt: self, tarball })
    }

    /// The error contains the errors that apt prints, because apt's log is removed together with the directory.
    fn run(&self, command: Cmd, phase: &Phase) -> Result<()> {
        let log = self.dir.path().join("apt.log");
        let Err(error) = phase.run(&mut command.into(), &log) else {
            return Ok(());
        };
        let output = fs::read(&log).unwrap_or_default();
        let output = String::from_utf8_lossy(&output);
        let reasons: Vec<_> = output
            .lines()
            .filter_map(|line| line.strip_prefix("E: "))
            .collect();
        if reasons.is_empty() {
            return Err(error);
        }
        bail!("{}", reasons.join(" "))
    }

    /// The newest Debian revision of the release.
    fn version(&self, pin: &Pin) -> Result<String> {
        let package = &pin.debian.package;
        let show = self.command("apt-cache");
        let show = show.args(["showsrc", "--only-source", package]);
        let output = show.ignore_status().output()?;
        let text = String::from_utf8_lossy(&output.stdout);
        let versions: Vec<_> = text
            .lines()
            .filter_map(|line| line.strip_prefix("Version: "))
            .collect();
        let is_wanted = |version: &str| {
            let upstream = version.rsplit_once('-').map_or(version, |(v, _)| v);
            upstream.split_once(':').map_or(upstream, |(_, v)| v) == pin.debian_version()
        };
        match versions.iter().find(|version| is_wanted(version)) {
            Some(version) => Ok((*version).to_owned()),
            None if versions.is_empty() => bail!("it has no source package {package}"),
            None => bail!("its {package} is {}", versions.join(", ")),
        }
    }
}

impl Download {
    fn admit(self, cached: &Path, pin: &Pin, suite: &str) -> Result<()> {
        let part = super::partial(cached);
        fs::copy(&self.tarball, &part)
            .with_context(|| format!("cannot write {}", part.display()))?;
        drop(self.apt);
        super::admit(
            &part,
            cached,
            pin,
            &format!("Debian's source package in {suite}"),
        )
    }
}
