//! Makes one directory tree equal to another, and writes only to files that differ: make compares modification times,
//! so an unchanged file must keep its time.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use walkdir::WalkDir;

use crate::stamp;

/// What to do with files that only the destination has.
#[derive(Clone, Copy, PartialEq)]
pub enum Extra {
    Keep,
    /// Removes all except `__pycache__`, which Python makes when it runs.
    Remove,
}

/// Makes `to` a copy of `from`. Returns how many files it has changed.
pub fn mirror(from: &Path, to: &Path, extra: Extra) -> Result<usize> {
    let mut changed = 0;
    for path in files(from)? {
        changed += usize::from(update(&from.join(&path), &to.join(&path))?);
    }
    if extra == Extra::Remove && to.exists() {
        for path in files(to)? {
            if fs::symlink_metadata(from.join(&path)).is_err() {
                stamp::remove_file(&to.join(&path))?;
                changed += 1;
            }
        }
    }
    Ok(changed)
}

/// The files of a tree, relative to it, sorted.
pub fn files(dir: &Path) -> Result<Vec<PathBuf>> {
    let walk = WalkDir::new(dir).sort_by_file_name().into_iter();
    let walk = walk.filter_entry(|entry| entry.file_name() != "__pycache__");
    let mut files = Vec::new();
    for entry in walk {
        let entry = entry.with_context(|| format!("cannot read {}", dir.display()))?;
        if !entry.file_type().is_dir() {
            files.push(
                entry
                    .path()
                    .strip_prefix(dir)
                    .expect("walked below it")
                    .to_owned(),
            );
        }
    }
    Ok(files)
}

/// Makes the file `to` equal to `from`. Returns whether it has changed `to`.
pub fn update(from: &Path, to: &Path) -> Result<bool> {
    if same(from, to)? {
        return Ok(false);
    }
    let what = || format!("cannot copy {} to {}", from.display(), to.display());
    let dir = to.parent().with_context(what)?;
    fs::create_dir_all(dir).with_context(what)?;
    let metadata = fs::symlink_metadata(from).with_context(what)?;
    if metadata.is_symlink() {
        stamp::remove_file(to)?;
        std::os::unix::fs::symlink(fs::read_link(from).with_context(what)?, to)
            .with_context(what)?;
    } else {
        let temporary = tempfile::Builder::new()
            .prefix(".mirror")
            .tempfile_in(dir)
            .with_context(what)?;
        fs::copy(from, temporary.path()).with_context(what)?;
        temporary.persist(to).with_context(what)?;
    }
    Ok(true)
}

fn same(from: &Path, to: &Path) -> Result<bool> {
    let read = |path: &Path| format!("cannot read {}", path.display());
    let old = match fs::symlink_metadata(to) {
        Ok(metadata) => metadata,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(false),
        Err(error) => return Err(error).with_context(|| read(to)),
    };
    let new = fs::symlink_metadata(from).with_context(|| read(from))?;
    if new.file_type() != old.file_type() {
        return Ok(false);
    }
    if new.is_symlink() {
        return Ok(fs::read_link(from).with_context(|| read(from))?
            == fs::read_link(to).with_context(|| read(to))?);
    }
    Ok(new.len() == old.len()
        && new.permissions() == old.permissions()
        && fs::read(from).with_context(|| read(from))? == fs::read(to).with_context(|| read(to))?)
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use super::*;

    fn tree(files: &[(&str, &str)]) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        for (path, content) in files {
            let path = dir.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(&path, content).unwrap();
        }
        dir
    }

    #[test]
    fn unchanged_files_keep_their_modification_time() {
        let from = tree(&[("a", "1"), ("d/b", "2")]);
        let to = tree(&[("a", "1"), ("d/b", "old")]);
        let old = SystemTime::UNIX_EPOCH;
        for path in ["a", "d/b"] {
            fs::File::open(to.path().join(path))
                .unwrap()
                .set_modified(old)
                .unwrap();
        }
        assert_eq!(mirror(from.path(), to.path(), Extra::Remove).unwrap(), 1);
        assert_eq!(
            fs::metadata(to.path().join("a"))
                .unwrap()
                .modified()
                .unwrap(),
            old
        );
        assert_ne!(
            fs::metadata(to.path().join("d/b"))
                .unwrap()
                .modified()
                .unwrap(),
            old
        );
        assert_eq!(fs::read(to.path().join("d/b")).unwrap(), b"2");
    }

    #[test]
    fn extra_files_go_unless_kept_and_compiled_modules_stay() {
        let from = tree(&[("a", "1")]);
        let to = tree(&[("a", "1"), ("gone", ""), ("__pycache__/a.pyc", "")]);
        assert_eq!(mirror(from.path(), to.path(), Extra::Keep).unwrap(), 0);
        assert!(to.path().join("gone").exists());
        assert_eq!(mirror(from.path(), to.path(), Extra::Remove).unwrap(), 1);
        assert!(!to.path().join("gone").exists());
        assert!(to.path().join("__pycache__/a.pyc").exists());
    }

    #[test]
    fn links_and_permissions_are_carried_over() {
        use std::os::unix::fs::PermissionsExt;
        let from = tree(&[("run", "1")]);
        fs::set_permissions(from.path().join("run"), fs::Permissions::from_mode(0o755)).unwrap();
        std::os::unix::fs::symlink("run", from.path().join("link")).unwrap();
        let to = tree(&[("run", "1"), ("link", "1")]);
        assert_eq!(mirror(from.path(), to.path(), Extra::Remove).unwrap(), 2);
        assert_eq!(
            fs::read_link(to.path().join("link")).unwrap(),
            Path::new("run")
        );
        assert_eq!(
            fs::metadata(to.path().join("run"))
                .unwrap()
                .permissions()
                .mode()
                & 0o777,
            0o755
        );
        assert_eq!(mirror(from.path(), to.path(), Extra::Remove).unwrap(), 0);
    }
}
