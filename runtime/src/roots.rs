//! Directories that may have moved since the dump: an installation or a virtual environment that was copied
//! elsewhere keeps its archive, and its modules have the paths of the copy.

use std::borrow::Cow;

use crate::cpython::config::Config;

/// Where the paths of an archive begin, as it was at the dump and as it is now, if that differs.
pub struct Roots {
    moved: Vec<Moved>,
}

struct Moved {
    recorded: String,
    current: String,
}

/// `sys.prefix` and `sys.base_prefix`, which are in this order in every archive.
pub fn current(config: &Config) -> [String; 2] {
    [config.prefix(), config.base_prefix()].map(Option::unwrap_or_default)
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

    pub fn have_moved(&self) -> bool {
        !self.moved.is_empty()
    }

    /// The path under which the dump knew a file or directory.
    pub fn recorded<'a>(&self, path: &'a str) -> Cow<'a, str> {
        let found = self.moved.iter().find_map(|root| {
            let rest = path.strip_prefix(&root.current)?;
            (rest.is_empty() || rest.starts_with('/')).then(|| format!("{}{rest}", root.recorded))
        });
        found.map_or(Cow::Borrowed(path), Cow::Owned)
    }
}
