//! Directories that may have moved since the dump. A copied installation or virtual environment can still use its
//! archive, and its modules get the paths of the copy.

use std::path::Path;

use crate::cpython::config::Config;

/// The directories with which the paths of an archive begin: their names at the dump and now, where these differ.
pub struct Roots {
    moved: Vec<Moved>,
}

struct Moved {
    recorded: String,
    current: String,
}

/// The directories, in the same order in every archive: first the environment that contains the executable, then the
/// installation. (In a virtual environment, `site` sets `sys.prefix`, which is too late for the first imports.)
pub fn current(config: &Config) -> [String; 2] {
    let environment = config.executable().and_then(|executable| {
        Path::new(&executable)
            .parent()?
            .parent()?
            .to_str()
            .map(str::to_owned)
    });
    [environment, config.base_prefix()].map(Option::unwrap_or_default)
}

impl Roots {
    pub fn new<'a>(recorded: impl Iterator<Item = &'a str>, config: &Config) -> Self {
        let pairs = recorded.zip(current(config));
        let moved = pairs.filter(|(recorded, current)| recorded != current);
        let moved = moved.filter(|(recorded, current)| !recorded.is_empty() && !current.is_empty());
        let moved = moved.map(|(recorded, current)| Moved {
            recorded: recorded.to_owned(),
            current,
        });
        Self {
            moved: moved.collect(),
        }
    }

    /// The names that a file or directory may have had at the dump, if they differ from its present name.
    pub fn former_names(&self, path: &str) -> impl Iterator<Item = String> {
        self.moved.iter().filter_map(move |root| {
            let rest = path.strip_prefix(&root.current)?;
            (rest.is_empty() || rest.starts_with('/')).then(|| format!("{}{rest}", root.recorded))
        })
    }
}
