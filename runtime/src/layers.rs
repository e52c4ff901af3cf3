//! The archives in use: that of the standard library, and on top of it the one that the user named.

use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use crate::cpython::config::Config;
use crate::cpython::object;
use crate::fingerprint::{self, Image};
use crate::options::{Choice, Options};
use crate::reader::{Candidate, Mapped, OpenError};
use crate::roots::Roots;

/// An archive in use.
pub struct Layer {
    pub archive: Mapped,
    roots: OnceLock<Roots>,
}

impl Layer {
    fn new(archive: Mapped) -> Self {
        Self {
            archive,
            roots: OnceLock::new(),
        }
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
}

/// What could not be used.
pub struct Unusable {
    pub path: PathBuf,
    pub reason: OpenError,
}

impl Layers {
    /// Opens what the options ask for. Nothing is said of a standard library archive that cannot be used: it
    /// was not asked for.
    pub fn open(options: &Options, config: &Config, image: &Image) -> (Self, Option<Unusable>) {
        if options.archive == Choice::Off {
            return (Self::default(), None);
        }
        let standard = standard_archive().and_then(|path| {
            let facts = fingerprint::facts(config, image, None)?;
            let archive = Candidate::open(&path).ok()?;
            archive.map(&facts, image, None, options.strict).ok()
        });
        let Choice::File(path) = &options.archive else {
            return (
                Self {
                    standard: standard.map(Layer::new),
                    named: None,
                },
                None,
            );
        };
        match Self::open_named(path, standard.as_ref(), options, config, image) {
            Ok((archive, is_upper)) => {
                // An archive that stands by itself has its own copies of strings that the other has too, of
                // which only one can be interned.
                let standard = standard.filter(|_| is_upper);
                (
                    Self {
                        standard: standard.map(Layer::new),
                        named: Some(Layer::new(archive)),
                    },
                    None,
                )
            }
            Err(reason) => {
                let layers = Self {
                    standard: standard.map(Layer::new),
                    named: None,
                };
                (
                    layers,
                    Some(Unusable {
                        path: path.clone(),
                        reason,
                    }),
                )
            }
        }
    }

    fn open_named(
        path: &Path,
        standard: Option<&Mapped>,
        options: &Options,
        config: &Config,
        image: &Image,
    ) -> Result<(Mapped, bool), OpenError> {
        let candidate = Candidate::open(path)?;
        let is_upper = fingerprint::has_lower_layer(&candidate.header);
        let lower = standard.filter(|_| is_upper);
        let facts = fingerprint::facts(config, image, lower.map(|lower| &lower.header));
        let facts = facts.ok_or(OpenError::NoBuildId)?;
        Ok((
            candidate.map(&facts, image, lower, options.strict)?,
            is_upper,
        ))
    }

    /// The layers, from the one that is asked first.
    pub fn iter(&self) -> impl Iterator<Item = &Layer> {
        self.named.iter().chain(&self.standard)
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

/// Where the archive of the standard library is, if there is one: beside `lib/pythonX.Y`, and not in it, since
/// writing it there would change the directory that it describes.
fn standard_archive() -> Option<PathBuf> {
    let executable = std::env::current_exe().ok()?;
    let prefix = executable.parent()?.parent()?;
    Some(prefix.join(format!("lib/python{}-stdlib.img", object::minor_version())))
}
