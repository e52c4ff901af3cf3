//! The patch series: an order file, patches with their reasons, and whole new files.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use xshell::cmd;

use crate::digest::Inputs;
use crate::mirror::{self, Extra};
use crate::workspace;

pub struct Series {
    pub patches: Vec<Patch>,
    overlay: PathBuf,
}

pub struct Patch {
    pub name: String,
    /// The reason, and then the diff.
    pub text: String,
}

impl Series {
    pub fn load(dir: &Path) -> Result<Self> {
        let path = dir.join("series");
        let text =
            fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
        let mut patches: Vec<Patch> = Vec::new();
        for name in names(&text) {
            ensure!(
                patches.iter().all(|patch| patch.name != name),
                "{} names {name} twice",
                path.display()
            );
            let path = dir.join(name);
            let text = fs::read_to_string(&path)
                .with_context(|| format!("cannot read {}", path.display()))?;
            patches.push(Patch {
                name: name.to_owned(),
                text,
            });
        }
        for entry in fs::read_dir(dir).with_context(|| format!("cannot read {}", dir.display()))? {
            let name = entry
                .with_context(|| format!("cannot read {}", dir.display()))?
                .file_name();
            let name = name.to_string_lossy();
            ensure!(
                !name.ends_with(".patch") || patches.iter().any(|patch| patch.name == name),
                "{} does not name {name}: add it or remove the file",
                path.display()
            );
        }
        Ok(Self {
            patches,
            overlay: dir.join("overlay"),
        })
    }

    /// The series without one patch.
    ///
    /// # Errors
    /// The series does not contain the patch.
    pub fn without(mut self, name: Option<&str>) -> Result<Self> {
        if let Some(name) = name {
            let count = self.patches.len();
            self.patches.retain(|patch| patch.name != name);
            ensure!(
                self.patches.len() < count,
                "the series does not contain {name}, which is to be left out"
            );
        }
        Ok(self)
    }

    pub fn overlay(&self) -> &Path {
        &self.overlay
    }

    /// Applies all patches to the pristine tree `source`, then copies the overlay into it.
    pub fn apply(&self, source: &Path) -> Result<()> {
        for patch in &self.patches {
            patch.apply(source, &[])?;
        }
        self.copy_overlay(source)
    }

    /// Copies the overlay, which only adds files: changes of existing files must be patches.
    pub fn copy_overlay(&self, source: &Path) -> Result<()> {
        for file in self.overlay_files()? {
            ensure!(
                !source.join(&file).exists(),
                "the overlay has {}, which CPython also has; make this change a patch",
                file.display()
            );
        }
        if self.overlay.exists() {
            mirror::mirror(&self.overlay, source, Extra::Keep)?;
        }
        Ok(())
    }

    pub fn overlay_files(&self) -> Result<Vec<PathBuf>> {
        if self.overlay.exists() {
            mirror::files(&self.overlay)
        } else {
            Ok(Vec::new())
        }
    }

    /// Adds everything that the patched source depends on.
    pub fn add_to(&self, inputs: &mut Inputs) -> Result<()> {
        for patch in &self.patches {
            inputs.add(&patch.name).add(&patch.text);
        }
        for file in self.overlay_files()? {
            let path = self.overlay.join(&file);
            let content =
                fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
            inputs.add(file.to_string_lossy().as_bytes()).add(content);
        }
        Ok(())
    }
}

/// The names in an order file, without its comments.
fn names(series: &str) -> impl Iterator<Item = &str> {
    series
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
}

impl Patch {
    /// The reason: everything before the diff.
    pub fn header(&self) -> &str {
        let mut end = 0;
        for line in self.text.split_inclusive('\n') {
            if line.starts_with("diff ") || line.starts_with("--- ") {
                break;
            }
            end += line.len();
        }
        self.text[..end].trim_end()
    }

    /// Checks that the patch gives its reason, and only changes text of existing files.
    pub fn check(&self) -> Result<()> {
        let mut lines = self.header().lines();
        let subject = lines.next().unwrap_or_default();
        ensure!(
            !subject.trim().is_empty(),
            "{}: no subject line before the diff",
            self.name
        );
        let separator = lines.next().unwrap_or_default();
        let argues = separator.trim().is_empty() && lines.any(|line| !line.trim().is_empty());
        ensure!(
            argues,
            "{}: no paragraph below the subject that says why the patch is needed",
            self.name
        );
        let whole = ["--- /dev/null", "+++ /dev/null", "Binary files "];
        ensure!(
            !self
                .text
                .lines()
                .any(|line| whole.iter().any(|start| line.starts_with(start))),
            "{}: a patch only changes text; whole new files belong in overlay/",
            self.name
        );
        Ok(())
    }

    /// The files of the tree that the patch changes.
    pub fn touched(&self) -> impl Iterator<Item = &Path> {
        self.text
            .lines()
            .filter_map(|line| line.strip_prefix("--- a/"))
            .map(Path::new)
    }

    /// Applies the patch to a tree. All lines of the context must match.
    pub fn apply(&self, source: &Path, options: &[&str]) -> Result<()> {
        // Inside of a repository, git interprets the paths as its paths, and skips paths that it does not have.
        let ceiling = source.parent().unwrap_or(source);
        let shell = workspace::shell()?;
        shell.change_dir(source);
        let mut git = cmd!(shell, "git apply --whitespace=nowarn {options...} -")
            .quiet()
            .env("GIT_CEILING_DIRECTORIES", ceiling)
            .stdin(&self.text)
            .ignore_status();
        for (variable, _) in env::vars_os().filter(|(name, _)| is_git_location(name)) {
            git = git.env_remove(variable);
        }
        let output = git.output()?;
        if !output.status.success() {
            bail!(
                "{} does not apply:\n{}",
                self.name,
                String::from_utf8_lossy(&output.stderr).trim_end()
            );
        }
        Ok(())
    }
}

/// Git sets these variables for its hooks. They would make git use the wrong repository.
fn is_git_location(name: &std::ffi::OsStr) -> bool {
    ["GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_PREFIX"]
        .iter()
        .any(|location| name == *location)
}

#[cfg(test)]
mod tests {
    use super::*;

    const DIFF: &str = "diff --git a/f b/f\n--- a/f\n+++ b/f\n@@ -2,3 +2,3 @@\n 1\n-2\n+two\n 3\n";

    fn patch(header: &str) -> Patch {
        Patch {
            name: "p.patch".into(),
            text: format!("{header}{DIFF}"),
        }
    }

    #[test]
    fn comments_and_empty_lines_are_no_names() {
        assert_eq!(
            names("# order\na.patch\n\n  b.patch \n").collect::<Vec<_>>(),
            ["a.patch", "b.patch"]
        );
    }

    #[test]
    fn a_patch_must_say_why() {
        patch("Do it\n\nBecause of that.\n\n").check().unwrap();
        for header in [
            "",
            "\n\n",
            "Do it\n",
            "Do it\n\n",
            "Do it\nwithout a separation\n\n",
        ] {
            let error = patch(header).check().unwrap_err().to_string();
            assert!(error.starts_with("p.patch: no "), "{error}");
        }
    }

    #[test]
    fn the_header_ends_where_the_diff_begins() {
        assert_eq!(patch("Do it\n\nBecause.\n\n").header(), "Do it\n\nBecause.");
        assert_eq!(patch("").touched().collect::<Vec<_>>(), [Path::new("f")]);
    }

    fn directory(series: &str, patches: &[&str]) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("series"), series).unwrap();
        for name in patches {
            fs::write(dir.path().join(name), patch("Do it\n\nBecause.\n\n").text).unwrap();
        }
        dir
    }

    #[test]
    fn the_series_and_the_directory_must_agree() {
        let of = |series, patches| {
            Series::load(directory(series, patches).path()).map(|series| series.patches.len())
        };
        assert_eq!(of("a.patch\n", &["a.patch"]).unwrap(), 1);
        assert!(
            of("a.patch\n", &[])
                .unwrap_err()
                .to_string()
                .contains("a.patch")
        );
        assert!(
            of("", &["a.patch"])
                .unwrap_err()
                .to_string()
                .contains("does not name a.patch")
        );
        assert!(
            of("a.patch\na.patch\n", &["a.patch"])
                .unwrap_err()
                .to_string()
                .contains("twice")
        );
    }

    #[test]
    fn a_patch_applies_at_another_line_but_not_in_another_context() {
        let source = tempfile::tempdir().unwrap();
        fs::write(source.path().join("f"), "0\n0\n1\n2\n3\n").unwrap();
        patch("").apply(source.path(), &[]).unwrap();
        assert_eq!(
            fs::read_to_string(source.path().join("f")).unwrap(),
            "0\n0\n1\ntwo\n3\n"
        );
        fs::write(source.path().join("f"), "one\n2\n3\n").unwrap();
        let error = patch("").apply(source.path(), &[]).unwrap_err().to_string();
        assert!(error.contains("p.patch does not apply"), "{error}");
    }

    #[test]
    fn the_overlay_adds_files_and_replaces_none() {
        let dir = directory("a.patch\n", &["a.patch"]);
        fs::create_dir_all(dir.path().join("overlay/d")).unwrap();
        fs::write(dir.path().join("overlay/d/new"), "new").unwrap();
        let series = Series::load(dir.path()).unwrap();
        let source = tempfile::tempdir().unwrap();
        fs::write(source.path().join("f"), "1\n2\n3\n").unwrap();
        series.apply(source.path()).unwrap();
        assert_eq!(
            fs::read_to_string(source.path().join("d/new")).unwrap(),
            "new"
        );
        let error = series.copy_overlay(source.path()).unwrap_err().to_string();
        assert!(error.contains("d/new"), "{error}");
    }
}
