//! Directories that may have moved since the dump: an installation or a virtual environment that was copied
//! elsewhere keeps its archive, and its modules have the paths of the copy.

use std::path::Path;

use crate::cpython::config::Config;

/// Where the paths of an archive begin, as it was at the dump and as it is now, if that differs.
pub struct Roots {
    moved: Vec<Moved>,
}

struct Moved {
    recorded: String,
    current: String,
}

/// The directories in this order in every archive: that of the environment which the executable is in, and that of
/// the installation. (In a virtual environment `sys.prefix` is set by `site`, too late for its first imports.)
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

    /// What a dump may have called a file or directory, besides the name that it has now.
    pub fn former_names(&self, path: &str) -> impl Iterator<Item = String> {
        self.moved.iter().filter_map(move |root| {
            let rest = path.strip_prefix(&root.current)?;
            (rest.is_empty() || rest.starts_with('/')).then(|| format!("{}{rest}", root.recorded))
        })
    }
}
