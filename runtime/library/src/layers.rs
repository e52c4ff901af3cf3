//! The archives in use: that of the standard library, and on top of it the one that the user named.

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use crate::answer::roots::Roots;
use crate::cpython::config::Config;
use crate::cpython::object;
use crate::executable::Executable;
use crate::fingerprint;
use crate::mapped::Mapped;
use crate::options::{Choice, Options};
use crate::reader::{Candidate, OpenError};

/// An archive in use.
pub struct Layer {
    pub archive: Mapped,
    roots: OnceLock<Roots>,
    /// Memory offsets of interned strings that are not to be found, since the interpreter has them elsewhere.
    hidden: HashSet<u64>,
}

impl Layer {
    pub fn new(archive: Mapped) -> Self {
        Self {
            archive,
            roots: OnceLock::new(),
            hidden: HashSet::new(),
        }
    }

    /// Whether the interned string at a memory offset has a twin that was there first.
    pub fn hides(&self, offset: u64) -> bool {
        self.hidden.contains(&offset)
    }

    /// The roots of its paths. Only after the paths of the interpreter have been configured.
    pub fn roots(&self, config: &Config) -> &Roots {
        self.roots
            .get_or_init(|| Roots::new(self.archive.tables.roots(), config))
    }
}

/// All archives in use.
#[derive(Default)]
pub struct Layers {
    /// Comes with the interpreter.
    pub standard: Option<Layer>,
    /// The one that the user asked for.
    pub named: Option<Layer>,
    /// One that the program has loaded.
    late: OnceLock<Layer>,
}

/// What could not be used.
pub struct Unusable {
    pub path: PathBuf,
    pub reason: OpenError,
}

impl Layers {
    /// Opens what the options ask for. Nothing is said of a standard library archive that cannot be used: it
    /// was not asked for.
    pub fn open(
        options: &Options,
        config: &Config,
        executable: &Executable,
    ) -> (Self, Option<Unusable>) {
        let opener = Opener {
            strict: options.strict,
            config,
            executable,
        };
        match &options.archive {
            Choice::Off => (Self::default(), None),
            Choice::Standard => (opener.standard(), None),
            Choice::File(path) => opener.named(path).unwrap_or_else(|reason| {
                let path = path.clone();
                (opener.standard(), Some(Unusable { path, reason }))
            }),
        }
    }

    /// The layers, from the one that is asked first.
    pub fn iter(&self) -> impl Iterator<Item = &Layer> {
        let late = self.late.get().into_iter();
        late.chain(&self.named).chain(&self.standard)
    }

    /// The layers, from the lowest. What most programs share is found there, without looking into the others.
    pub fn iter_from_lowest(&self) -> impl Iterator<Item = &Layer> {
        let layers = self.standard.iter().chain(&self.named);
        layers.chain(self.late.get())
    }

    /// Adds an archive that the program has loaded; none if there is one already.
    pub fn add_late(&self, layer: Layer, hidden: HashSet<u64>) -> Option<&Layer> {
        self.late.set(Layer { hidden, ..layer }).ok()?;
        self.late.get()
    }

    pub fn is_empty(&self) -> bool {
        self.iter().next().is_none()
    }

    /// Number of code objects in all layers.
    pub fn code_count(&self) -> u32 {
        self.iter()
            .map(|layer| layer.archive.header.code_count)
            .sum()
    }
}

struct Opener<'a> {
    strict: bool,
    config: &'a Config,
    executable: &'a Executable,
}

impl Opener<'_> {
    fn standard(&self) -> Layers {
        let open = || {
            let candidate = Candidate::open(&standard_archive()?).ok()?;
            self.map(candidate, None).ok()
        };
        Layers {
            standard: open().map(Layer::new),
            ..Layers::default()
        }
    }

    /// An archive that stands by itself is used without the standard library's: it has its own copies of strings that
    /// the other has too, of which only one can be interned, and it wants to lie at the same address.
    fn named(&self, path: &Path) -> Result<(Layers, Option<Unusable>), OpenError> {
        let candidate = Candidate::open(path)?;
        // Most of it is for this program, which cannot be said of the standard library's.
        candidate.read_ahead();
        let is_upper = fingerprint::has_lower_layer(&candidate.header);
        let mut layers = if is_upper {
            self.standard()
        } else {
            Layers::default()
        };
        let lower = layers.standard.as_ref().map(|layer| &layer.archive);
        match self.map(candidate, lower) {
            Ok(archive) => {
                layers.named = Some(Layer::new(archive));
                Ok((layers, None))
            }
            Err(reason) if is_upper => {
                let path = path.to_owned();
                Ok((layers, Some(Unusable { path, reason })))
            }
            Err(reason) => Err(reason),
        }
    }

    fn map(&self, candidate: Candidate, lower: Option<&Mapped>) -> Result<Mapped, OpenError> {
        let facts = fingerprint::facts(
            self.config,
            self.executable,
            lower.map(|lower| &lower.header),
        );
        let facts = facts.ok_or(OpenError::NoBuildId)?;
        candidate.map(&facts, self.executable, lower, self.strict)
    }
}

/// Where the archive of the standard library is, if there is one: beside `lib/pythonX.Y`, and not in it, since
/// writing it there would change the directory that it describes.
pub fn standard_archive() -> Option<PathBuf> {
    let executable = std::env::current_exe().ok()?;
    let own = beside_library_of(&executable)?;
    if own.exists() {
        return Some(own);
    }
    // An interpreter that was copied into a virtual environment has its library where it was copied from.
    let settings = std::fs::read_to_string(executable.parent()?.parent()?.join("pyvenv.cfg"));
    let settings = settings.unwrap_or_default();
    let original = settings.lines().find_map(|line| {
        let (name, value) = line.split_once('=')?;
        (name.trim() == "executable").then(|| value.trim())
    });
    original.map_or(Some(own), |original| beside_library_of(Path::new(original)))
}

fn beside_library_of(executable: &Path) -> Option<PathBuf> {
    let name = format!("lib/python{}-stdlib.img", object::minor_version());
    Some(executable.parent()?.parent()?.join(name))
}
