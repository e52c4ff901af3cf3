//! The options of the user: `-X cds…` options, and `PYTHON_CDS…` environment variables. An option overrides a variable,
//! and `-E` and `-I` disable the variables.

use std::ffi::OsString;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{self, Path, PathBuf};

use startup_image::command_line::{AUTO, OFF, WITH_IMAGE};
use startup_image::{background, cache, file_name};

use crate::cache::Entries;
use crate::cpython::config::Config;

/// Options of one process.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Options {
    /// The archive to use (`-X cds=FILE`).
    pub archive: Choice,
    /// Whether the archive is named by a variable. Child processes inherit variables, and may have other options.
    pub is_inherited: bool,
    /// The archive that is used and is also written or renewed when it lacks something (`-X cds_auto=FILE`).
    pub auto: Option<Auto>,
    /// Exit if the archive cannot be used, verify the whole file, and map the section that is never written read-only
    /// (`-X cds_strict`).
    pub strict: bool,
    /// Append the name of each loaded module to this file (`-X cds_trace=FILE`).
    pub trace: Option<PathBuf>,
    /// Record at exit which archived objects the run wrote to (`-X cds_profile=FILE`).
    pub profile: Option<PathBuf>,
    /// Report at exit what came from the archive (`-X cds_stats`, `-X cds_stats=FILE`).
    pub stats: Option<StatsTarget>,
    /// Take a startup image instead of running a program (`-X cds_image=REQUEST`).
    pub image: Option<PathBuf>,
    /// Whether this process renews an archive after a run (`-X cds_after_run`).
    pub is_renewal: bool,
    /// Whether there are settings for code-data-share (`PYCDSMODE`, `PYCDSVERBOSE`), which the package `cds` handles.
    pub pycds: bool,
}

/// An archive that renews itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Auto {
    /// The path as the user gave it.
    pub archive: PathBuf,
    /// The absolute path, since programs change their working directory.
    pub target: PathBuf,
    /// Whether the startup image beside it is renewed, too (`-X cds_auto=FILE,image`).
    pub has_image: bool,
    /// The working directory at the start of the process.
    pub directory: PathBuf,
    /// The entries of the cache that this process uses; none if the user has named the archive.
    pub entries: Option<Entries>,
    /// Whether the archive or the cache is chosen for this process (`-X cds=auto`), and not for all programs of the user.
    pub is_chosen: bool,
}

impl Auto {
    /// Parses the value of `-X cds_auto` or of the variable. The value is not empty.
    pub fn of_option(value: &str) -> Self {
        let with_image = value.strip_suffix(WITH_IMAGE);
        let archive = PathBuf::from(with_image.unwrap_or(value));
        Self {
            target: path::absolute(&archive).unwrap_or_else(|_| archive.clone()),
            archive,
            has_image: with_image.is_some(),
            directory: std::env::current_dir().unwrap_or_default(),
            entries: None,
            is_chosen: true,
        }
    }

    /// The first archive in the entry of the program.
    pub fn in_cache(entries: Entries, is_chosen: bool) -> Self {
        let archive = archive_in(&entries.program, 0);
        Self {
            target: archive.clone(),
            has_image: true,
            directory: std::env::current_dir().unwrap_or_default(),
            entries: Some(entries),
            archive,
            is_chosen,
        }
    }

    /// The path of the image beside the archive, if an image is wanted.
    pub fn image(&self) -> Option<PathBuf> {
        self.has_image.then(|| image(&self.target))
    }

    /// Only one process at a time renews archives with this file or directory.
    pub fn building(&self) -> PathBuf {
        match &self.entries {
            Some(entries) => crate::cache::building(&entries.program),
            None => self.target.parent().unwrap_or(&self.target).to_owned(),
        }
    }
}

/// The archive of a variant in an entry of the cache.
pub fn archive_in(entry: &Path, variant: usize) -> PathBuf {
    OsString::from_vec(cache::archive(entry.as_os_str().as_bytes(), variant)).into()
}

/// The path of an archive's startup image.
pub fn image(archive: &Path) -> PathBuf {
    let name = file_name::of_archive(archive.as_os_str().as_bytes());
    OsString::from_vec(name).into()
}

/// The destination of the statistics.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StatsTarget {
    Stderr,
    /// As JSON if its name ends with `.json`.
    File(PathBuf),
}

impl StatsTarget {
    /// Parses the value of `-X cds_stats` or of the variable.
    pub fn of_option(value: &str) -> Option<Self> {
        match value {
            "0" => None,
            "" | "1" => Some(Self::Stderr),
            path => Some(Self::File(PathBuf::from(path))),
        }
    }
}

/// The archives to use.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Choice {
    /// The standard library's archive.
    #[default]
    Standard,
    /// No archive, not even the standard library's.
    Off,
    /// An archive on top of the standard library's.
    File(PathBuf),
}

impl Options {
    pub fn read(config: &Config) -> Self {
        let options = config.x_options();
        let variable = |name: &str| {
            // A set-user-ID program must not take a file name from the environment of its caller (secure_getenv(3)).
            let trusted = config.uses_environment() && !is_set_user_id();
            trusted
                .then(|| std::env::var(name).ok())
                .flatten()
                .filter(|value| !value.is_empty())
        };
        let environment = |name: &str| variable(&format!("PYTHON_{}", name.to_uppercase()));
        let pycds_mode = variable("PYCDSMODE");
        let pycds_archive =
            variable("PYCDSARCHIVE").filter(|_| pycds_mode.as_deref() == Some("SHARE"));
        let value = |name: &str| {
            let option = options.iter().rev().find(|(option, _)| option == name);
            option.map_or_else(
                || environment(name),
                |(_, value)| Some(value.clone().unwrap_or_default()),
            )
        };
        let file = |name: &str| {
            value(name)
                .filter(|value| !value.is_empty())
                .map(PathBuf::from)
        };
        let flag = |name: &str| value(name).is_some_and(|value| value != "0");
        let archive = file("cds").or(pycds_archive.map(PathBuf::from));
        // An archive that was chosen with `cds` is not renewed.
        let auto = value("cds_auto").filter(|value| !value.is_empty() && archive.is_none());
        let is_auto = archive
            .as_ref()
            .is_some_and(|path| path.as_os_str() == AUTO);
        let (archive, auto) = match crate::cache::current() {
            // The launcher has read the same options.
            Some(entries) => (None, Some(Auto::in_cache(entries, is_auto))),
            None => (
                archive.filter(|_| !is_auto),
                auto.as_deref().map(Auto::of_option),
            ),
        };
        let is_inherited = !options.iter().any(|(name, _)| name == "cds");
        Self {
            is_inherited,
            archive: match archive.or_else(|| auto.as_ref().map(|auto| auto.archive.clone())) {
                None => Choice::Standard,
                Some(path) if path.as_os_str() == OFF => Choice::Off,
                Some(path) => Choice::File(path),
            },
            auto,
            strict: flag("cds_strict"),
            trace: file("cds_trace"),
            profile: file("cds_profile"),
            image: options
                .iter()
                .find(|(name, _)| name == "cds_image")
                .and_then(|(_, value)| value.as_deref())
                .map(PathBuf::from),
            stats: value("cds_stats").and_then(|value| StatsTarget::of_option(&value)),
            is_renewal: options.iter().any(|(name, _)| name == background::OPTION),
            pycds: pycds_mode.is_some() || variable("PYCDSVERBOSE").is_some(),
        }
    }

    /// Leaves the archive that renews itself alone.
    pub fn forget_auto(&mut self) {
        self.auto = None;
        self.archive = Choice::Standard;
    }
}

fn is_set_user_id() -> bool {
    // SAFETY: the call only reads the auxiliary vector.
    unsafe { libc::getauxval(libc::AT_SECURE) != 0 }
}
