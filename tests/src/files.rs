//! The contents of a directory: recorded after a run, and restored before the next one.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use sha2::{Digest, Sha256};

/// Directories with compiled code are ignored: the interpreter writes them, not the program.
const COMPILED: &str = "__pycache__";

/// Files with more characters are shortened.
const LONG: usize = 4000;

/// Files and directories, by their paths relative to a directory.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Files(BTreeMap<PathBuf, Entry>);

#[derive(Debug, Clone, PartialEq, Eq)]
struct Entry {
    mode: u32,
    kind: Kind,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Kind {
    Directory,
    File(Vec<u8>),
    Link(PathBuf),
    /// A socket or a pipe.
    Other,
}

impl Files {
    pub fn of(directory: &Path) -> Self {
        let mut files = Self::default();
        files.collect(directory, Path::new(""));
        files
    }

    fn collect(&mut self, root: &Path, place: &Path) {
        for found in fs::read_dir(root.join(place)).expect("it is there") {
            let found = found.expect("it can be listed");
            let name = place.join(found.file_name());
            let metadata = found.metadata().expect("it is there");
            let kind = if metadata.is_dir() {
                if found.file_name() == COMPILED {
                    continue;
                }
                self.collect(root, &name);
                Kind::Directory
            } else if metadata.is_symlink() {
                Kind::Link(fs::read_link(found.path()).expect("it is a link"))
            } else if metadata.is_file() {
                Kind::File(fs::read(found.path()).expect("it can be read"))
            } else {
                Kind::Other
            };
            let mode = metadata.permissions().mode();
            self.0.insert(name, Entry { mode, kind });
        }
    }

    /// Restores a directory to this state. Unchanged files are not touched.
    pub fn restore(&self, directory: &Path) {
        let found = Self::of(directory);
        // In reverse order, the contents of a directory come before the directory.
        for (name, entry) in found.0.iter().rev() {
            let path = directory.join(name);
            if self.0.get(name).map(|wanted| &wanted.kind) == Some(&entry.kind) {
                continue;
            }
            let removed = match entry.kind {
                Kind::Directory => fs::remove_dir_all(path),
                _ => fs::remove_file(path),
            };
            removed.expect("it can be removed");
        }
        for (name, entry) in &self.0 {
            let path = directory.join(name);
            let is_there = found.0.get(name).map(|found| &found.kind) == Some(&entry.kind);
            match &entry.kind {
                _ if is_there => {}
                Kind::Directory => fs::create_dir(&path).expect("it can be made"),
                Kind::File(text) => fs::write(&path, text).expect("it can be written"),
                Kind::Link(target) => symlink(target, &path).expect("it can be made"),
                Kind::Other => {}
            }
            if found
                .0
                .get(name)
                .is_none_or(|found| found.mode != entry.mode)
                && matches!(entry.kind, Kind::Directory | Kind::File(_))
            {
                let mode = fs::Permissions::from_mode(entry.mode);
                fs::set_permissions(&path, mode).expect("it is one's own");
            }
        }
    }

    /// The differences from `before`: new and changed files, and an entry of the kind `Other` for each removed file.
    pub fn since(&self, before: &Self) -> Self {
        let mut changed = self.clone();
        changed
            .0
            .retain(|name, entry| before.0.get(name) != Some(entry));
        for name in before.0.keys().filter(|name| !self.0.contains_key(*name)) {
            let gone = Entry {
                mode: 0,
                kind: Kind::Other,
            };
            changed.0.insert(name.clone(), gone);
        }
        changed
    }

    /// One line for each file, to read and to compare. `normal` normalizes the contents. For a long file, the line has
    /// the beginning and a digest of the normalized contents.
    pub fn text(&self, normal: impl Fn(&str) -> String) -> String {
        let lines = self.0.iter().map(|(name, entry)| {
            let contents = match &entry.kind {
                Kind::Directory => "a directory".to_owned(),
                Kind::File(bytes) => shortened(&normal(&bytes.escape_ascii().to_string())),
                Kind::Link(target) => format!("a link to {}", target.display()),
                Kind::Other => "removed, or not a regular file".to_owned(),
            };
            format!("{} (mode {:o}): {contents}\n", name.display(), entry.mode)
        });
        lines.collect()
    }
}

fn shortened(contents: &str) -> String {
    match contents.char_indices().nth(LONG) {
        None => format!("\"{contents}\""),
        Some((end, _)) => {
            let digest = Sha256::digest(contents);
            let digest = digest[..8].iter().map(|byte| format!("{byte:02x}"));
            format!("\"{}…\" {}", &contents[..end], String::from_iter(digest))
        }
    }
}

/// The modification time of each directory. To restore the contents of a directory changes its time.
pub struct Times(Vec<(PathBuf, SystemTime)>);

impl Times {
    pub fn of(directory: &Path) -> Self {
        let mut times = Vec::new();
        let mut left = vec![directory.to_owned()];
        while let Some(place) = left.pop() {
            let metadata = fs::metadata(&place).expect("it is there");
            for found in fs::read_dir(&place).expect("it is there").flatten() {
                if found.file_type().is_ok_and(|kind| kind.is_dir()) {
                    left.push(found.path());
                }
            }
            times.push((place, metadata.modified().expect("it has a time")));
        }
        Self(times)
    }

    pub fn restore(&self) {
        for (place, time) in &self.0 {
            let Ok(directory) = File::open(place) else {
                continue;
            };
            let now = directory.metadata().and_then(|found| found.modified());
            if now.is_ok_and(|now| now != *time) {
                directory.set_modified(*time).expect("it is one's own");
            }
        }
    }
}
