//! The archives in use: the standard library's, and on top of it the one that the user named.

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use rustix::fs::Access;

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
    /// Memory offsets of interned strings that must not be found here, because the interpreter has interned an equal
    /// string before.
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

    /// Whether the interned string at a memory offset is hidden by an equal string that was interned before.
    pub fn hides(&self, offset: u64) -> bool {
        self.hidden.contains(&offset)
    }

    /// The roots of the archive's paths. Call this only after the interpreter's paths have been configured.
    pub fn roots(&self, config: &Config) -> &Roots {
        self.roots
            .get_or_init(|| Roots::new(self.archive.tables.roots(), config))
    }
}

/// All archives in use.
#[derive(Default)]
pub struct Layers {
    /// The archive that comes with the interpreter.
    pub standard: Option<Layer>,
    /// The archive that the user named.
    pub named: Option<Layer>,
    /// An archive that the program has loaded at run time.
    late: OnceLock<Layer>,
}

/// An archive that cannot be used.
pub struct Unusable {
    pub path: PathBuf,
    pub reason: OpenError,
}

impl Layers {
    /// Opens the archives that the options select. A standard library archive that cannot be used is not reported,
    /// because the user did not ask for it.
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

    /// The layers, in the order in which they are searched.
    pub fn iter(&self) -> impl Iterator<Item = &Layer> {
        let late = self.late.get().into_iter();
        late.chain(&self.named).chain(&self.standard)
    }

    /// The layers, starting with the lowest. What most programs have in common is found there, without searching the
    /// others.
    pub fn iter_from_lowest(&self) -> impl Iterator<Item = &Layer> {
        let layers = self.standard.iter().chain(&self.named);
        layers.chain(self.late.get())
    }

    /// The archive that the program has loaded, or the archive that the user named, and the archive below.
    pub fn chosen(&self) -> impl Iterator<Item = &Layer> {
        let upper = self.late.get().or(self.named.as_ref());
        let has_lower = |upper: &Layer| fingerprint::has_lower_layer(&upper.archive.header);
        let lower = self.standard.as_ref();
        upper
            .into_iter()
            .chain(lower.filter(|_| upper.is_some_and(has_lower)))
    }

    /// Adds an archive that the program has loaded. None if it has already loaded one.
    pub fn add_late(&self, layer: Layer, hidden: HashSet<u64>) -> Option<&Layer> {
        self.late.set(Layer { hidden, ..layer }).ok()?;
        self.late.get()
    }

    pub fn is_empty(&self) -> bool {
        self.iter().next().is_none()
    }

    /// The number of code objects in all layers.
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

    /// An archive without a lower layer is used without the standard library's archive. It contains its own copies of
    /// strings that the other archive also has, of which only one can be interned, and both request the same address.
    fn named(&self, path: &Path) -> Result<(Layers, Option<Unusable>), OpenError> {
        let candidate = Candidate::open(path)?;
        // Most of this archive is for this program. The same is not true for the standard library's archive, which is
        // not read ahead.
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

/// The path of the standard library's archive. It lies beside `lib/pythonX.Y` and not in it, because writing it there
/// would change the directory that it describes.
pub fn standard_archive() -> Option<PathBuf> {
    let executable = std::env::current_exe().ok()?;
    let own = beside_library_of(&executable)?;
    if rustix::fs::access(&own, Access::EXISTS).is_ok() {
        return Some(own);
    }
    // An interpreter that was copied into a virtual environment has its library at the place from which it was copied.
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
