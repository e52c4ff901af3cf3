//! The paths of the repository, and of the build trees below `target/cpython`.

use std::env;
use std::fmt;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};
use xshell::Shell;

/// The repository.
pub struct Workspace {
    root: PathBuf,
}

impl Workspace {
    pub fn new() -> Self {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent();
        Self::at(root.expect("xtask lies in the repository"))
    }

    pub fn at(root: &Path) -> Self {
        Self {
            root: root.to_owned(),
        }
    }

    pub fn root(&self) -> &Path {
        &self.root
    }

    /// A shell for commands that run in the repository.
    pub fn shell(&self) -> Result<Shell> {
        let shell = shell()?;
        shell.change_dir(&self.root);
        Ok(shell)
    }

    /// The cargo that has started xtask, in the repository.
    pub fn cargo(&self) -> Command {
        let mut cargo = Command::new(env::var_os("CARGO").unwrap_or("cargo".into()));
        cargo.current_dir(&self.root);
        cargo
    }

    /// The pins, the series and the patches.
    pub fn patches(&self) -> PathBuf {
        self.root.join("cpython-patches/3.13")
    }

    /// The Python modules of the runtime.
    pub fn python_modules(&self) -> PathBuf {
        self.root.join("runtime/python")
    }

    /// The directory of all builds. It contains nothing else.
    pub fn cpython(&self) -> PathBuf {
        self.root.join("target/cpython")
    }

    pub fn downloads(&self) -> PathBuf {
        self.cpython().join("downloads")
    }

    /// The file with the environment in which a plain `cargo` finds the headers of the last build.
    pub fn runtime_env(&self) -> PathBuf {
        self.cpython().join("runtime.env")
    }

    /// The link to the interpreter, at the root.
    pub fn python(&self) -> PathBuf {
        self.root.join("python")
    }

    /// The directory of one version.
    pub fn version(&self, version: &str) -> PathBuf {
        self.cpython().join(version)
    }

    pub fn build(&self, version: &str, profile: Profile, patches: Patches) -> Build {
        Build {
            dir: self.version(version),
            version: version.to_owned(),
            profile,
            patches,
            configure: Vec::new(),
            prefix: None,
        }
    }

    /// Prevents another xtask from using the build trees while the result exists.
    pub fn lock(&self) -> Result<File> {
        let dir = self.cpython();
        fs::create_dir_all(&dir).with_context(|| format!("cannot create {}", dir.display()))?;
        let path = dir.join("lock");
        let file =
            File::create(&path).with_context(|| format!("cannot create {}", path.display()))?;
        if file.try_lock().is_err() {
            eprintln!("waiting for another cargo xtask to finish");
            file.lock()
                .with_context(|| format!("cannot lock {}", path.display()))?;
        }
        Ok(file)
    }
}

/// For commands that run in the working directory.
pub fn shell() -> Result<Shell> {
    Shell::new().context("there is no working directory")
}

/// How the interpreter is compiled.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Profile {
    /// -O3
    Dev,
    /// -O3 with profile-guided and link-time optimisation
    Release,
    /// As release, but with -O0 and the profile of an empty program: checks in minutes that a release can be built
    ReleaseCheck,
    /// `--with-pydebug`, and a runtime that fails where tests request a failure
    Debug,
    /// AddressSanitizer and UndefinedBehaviorSanitizer, and a runtime that fails where tests request a failure
    Sanitize,
}

impl Profile {
    /// Whether the build uses profile-guided and link-time optimisation.
    pub fn is_optimised(self) -> bool {
        matches!(self, Profile::Release | Profile::ReleaseCheck)
    }

    /// Whether the runtime has fault points for tests (`runtime/library/src/fault.rs`).
    pub fn has_faults(self) -> bool {
        matches!(self, Profile::Debug | Profile::Sanitize)
    }
}

impl fmt::Display for Profile {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str(match self {
            Profile::Dev => "dev",
            Profile::Release => "release",
            Profile::ReleaseCheck => "release-check",
            Profile::Debug => "debug",
            Profile::Sanitize => "sanitize",
        })
    }
}

/// Which patches an interpreter has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Patches {
    All,
    Without(Optional),
    /// CPython as it is released.
    None,
}

/// A patch that the others do not need.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Optional {
    /// Finds the special methods of a new class faster, with and without an archive
    ClassSlots,
}

impl Optional {
    /// Its name on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Optional::ClassSlots => "class-slots",
        }
    }
}

impl Patches {
    /// The prefix of the names of directories.
    fn prefix(self) -> &'static str {
        match self {
            Patches::All => "",
            Patches::Without(Optional::ClassSlots) => "without-class-slots-",
            Patches::None => "stock-",
        }
    }

    /// The patch that is left out.
    pub fn left_out(self) -> Option<&'static str> {
        match self {
            Patches::Without(Optional::ClassSlots) => Some("class-slots.patch"),
            Patches::All | Patches::None => None,
        }
    }
}

/// The directories of one interpreter: a version, a profile, patched or stock.
#[derive(Clone)]
pub struct Build {
    dir: PathBuf,
    version: String,
    pub profile: Profile,
    pub patches: Patches,
    /// Additional arguments for configure.
    pub configure: Vec<String>,
    prefix: Option<PathBuf>,
}

impl Build {
    /// The same interpreter with another prefix.
    pub fn with_prefix(&self, prefix: PathBuf) -> Build {
        Build {
            prefix: Some(prefix),
            ..self.clone()
        }
    }

    pub fn version(&self) -> &str {
        &self.version
    }

    pub fn is_stock(&self) -> bool {
        self.patches == Patches::None
    }

    /// `dev`, `stock-dev`, and so on.
    fn kind(&self) -> String {
        format!("{}{}", self.patches.prefix(), self.profile)
    }

    pub fn name(&self) -> String {
        let elsewhere = if self.prefix.is_some() {
            "-prefixed"
        } else {
            ""
        };
        format!("{}{elsewhere}", self.kind())
    }

    /// The source tree, which all profiles share.
    pub fn source(&self) -> PathBuf {
        self.dir.join(format!("{}src", self.patches.prefix()))
    }

    /// The directory in which configure and make run.
    pub fn objects(&self) -> PathBuf {
        self.dir.join(self.name())
    }

    /// The directory in which the interpreter is installed: the configured prefix.
    pub fn installation(&self) -> PathBuf {
        let own = || self.dir.join(format!("{}-install", self.kind()));
        self.prefix.clone().unwrap_or_else(own)
    }

    /// The directory of the Rust part: cargo's target directory and the object that is linked into the interpreter.
    pub fn runtime(&self) -> PathBuf {
        self.dir.join(format!("{}-runtime", self.kind()))
    }

    pub fn log(&self, step: &str) -> PathBuf {
        let name = format!("{}-{step}.log", self.name());
        self.dir.join("logs").join(name)
    }
}
