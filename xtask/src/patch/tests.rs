//! A series of three patches, one of them optional, and an overlay, over a release of two files.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;

use super::{check, edit, refresh};
use crate::digest;
use crate::workspace::Workspace;

const FIRST: &str = "\
Say one

Two says nothing.

diff --git a/f b/f
--- a/f
+++ b/f
@@ -1,7 +1,7 @@
 1
 2
 3
-4
+four
 5
 6
 7
";

const SECOND: &str = "\
Say seven

Seven is more.

diff --git a/f b/f
--- a/f
+++ b/f
@@ -4,4 +4,4 @@
 four
 5
 6
-7
+seven
";

/// The optional patch (`--without class-slots`).
const OPTIONAL: &str = "\
Say zero

Nothing depends on it.

diff --git a/g b/g
--- a/g
+++ b/g
@@ -1 +1 @@
-0
+zero
";

const SERIES: &str = "# order matters\nfirst.patch\nclass-slots.patch\nsecond.patch\n";

struct Repository {
    dir: tempfile::TempDir,
}

impl Repository {
    fn new() -> Self {
        let repository = Self {
            dir: tempfile::tempdir().unwrap(),
        };
        let workspace = repository.workspace();
        fs::create_dir_all(workspace.downloads()).unwrap();
        let tarball = workspace.downloads().join("Python-3.13.5.tar.xz");
        let mut archive = tar::Builder::new(xz2::write::XzEncoder::new(
            File::create(&tarball).unwrap(),
            0,
        ));
        for (name, content) in [("f", "1\n2\n3\n4\n5\n6\n7\n"), ("g", "0\n")] {
            let mut header = tar::Header::new_gnu();
            header.set_size(content.len() as u64);
            header.set_mode(0o644);
            archive
                .append_data(
                    &mut header,
                    format!("Python-3.13.5/{name}"),
                    content.as_bytes(),
                )
                .unwrap();
        }
        archive.into_inner().unwrap().finish().unwrap();

        repository.write(
            "pins.toml",
            &format!(
                "[[release]]\nversion = \"3.13.5\"\nsha256 = \"{}\"\nsize = 1\nurl = \"http://127.0.0.1:9/\"\n\
                 debian = {{ package = \"python3.13\", suites = [] }}\n",
                digest::of_file(&tarball).unwrap()
            ),
        );
        repository.write("series", SERIES);
        repository.write("first.patch", FIRST);
        repository.write("class-slots.patch", OPTIONAL);
        repository.write("second.patch", SECOND);
        repository.write("overlay/d/new.h", "new\n");
        repository
    }

    fn workspace(&self) -> Workspace {
        Workspace::at(self.dir.path())
    }

    fn write(&self, name: &str, text: &str) {
        let path = self.workspace().patches().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    fn read(&self, name: &str) -> String {
        fs::read_to_string(self.workspace().patches().join(name)).unwrap()
    }

    fn edit(&self) -> PathBuf {
        edit::edit(&self.workspace(), None).unwrap();
        self.workspace().version("3.13.5").join("edit")
    }

    fn refresh(&self) -> Result<(), String> {
        refresh::refresh(&self.workspace(), None).map_err(|error| format!("{error:#}"))
    }
}

fn git(tree: &Path, arguments: &[&str]) {
    let status = Command::new("git")
        .current_dir(tree)
        .args(arguments)
        .env("GIT_SEQUENCE_EDITOR", ":")
        .status();
    assert!(status.unwrap().success(), "git {arguments:?}");
}

#[test]
fn what_is_not_changed_comes_back_byte_by_byte() {
    let repository = Repository::new();
    repository.edit();
    repository.refresh().unwrap();
    assert_eq!(repository.read("series"), SERIES);
    assert_eq!(repository.read("first.patch"), FIRST);
    assert_eq!(repository.read("second.patch"), SECOND);
    assert_eq!(repository.read("overlay/d/new.h"), "new\n");
}

#[test]
fn commits_become_patches_and_the_series_still_applies() {
    let repository = Repository::new();
    let tree = repository.edit();
    fs::write(tree.join("d/new.h"), "newer\n").unwrap();
    git(
        &tree,
        &["commit", "--quiet", "--all", "--amend", "--no-edit"],
    );
    let text = fs::read_to_string(tree.join("f"))
        .unwrap()
        .replace("four", "FOUR");
    fs::write(tree.join("f"), text).unwrap();
    git(
        &tree,
        &[
            "commit",
            "--quiet",
            "--all",
            "--message=Shout",
            "--message=Four is far.",
        ],
    );
    repository.refresh().unwrap();
    assert_eq!(repository.read("series"), format!("{SERIES}shout.patch\n"));
    assert!(
        repository
            .read("shout.patch")
            .starts_with("Shout\n\nFour is far.\n\ndiff --git a/f b/f\n--- a/f\n")
    );
    assert_eq!(repository.read("overlay/d/new.h"), "newer\n");
    check(&repository.workspace()).unwrap();
}

#[test]
fn a_commit_without_a_reason_writes_nothing() {
    let repository = Repository::new();
    let tree = repository.edit();
    fs::write(tree.join("f"), "1\n").unwrap();
    git(&tree, &["commit", "--quiet", "--all", "--message=Cut"]);
    assert!(
        repository
            .refresh()
            .unwrap_err()
            .contains("cut.patch: no paragraph")
    );
    assert_eq!(repository.read("series"), SERIES);
}

#[test]
fn a_patch_of_the_overlay_belongs_into_the_overlay() {
    let repository = Repository::new();
    let tree = repository.edit();
    fs::write(tree.join("d/new.h"), "newer\n").unwrap();
    git(
        &tree,
        &[
            "commit",
            "--quiet",
            "--all",
            "--message=Renew",
            "--message=It was old.",
        ],
    );
    let error = repository.refresh().unwrap_err();
    assert!(error.contains("renew.patch changes d/new.h"), "{error}");
}

#[test]
fn work_that_is_not_written_back_is_not_thrown_away() {
    let repository = Repository::new();
    let tree = repository.edit();
    fs::write(tree.join("f"), "1\n").unwrap();
    let error = edit::edit(&repository.workspace(), None)
        .unwrap_err()
        .to_string();
    assert!(error.contains("cargo xtask patch refresh"), "{error}");
    assert!(
        repository
            .refresh()
            .unwrap_err()
            .contains("belong to no commit")
    );
}

#[test]
fn a_patch_that_does_not_apply_is_named() {
    let repository = Repository::new();
    repository.write("second.patch", &SECOND.replace(" four", " 4"));
    check(&repository.workspace()).unwrap_err();
    let error = edit::edit(&repository.workspace(), None)
        .unwrap_err()
        .to_string();
    assert!(error.contains("second.patch does not apply"), "{error}");
}

#[test]
fn the_series_also_applies_without_an_optional_patch() {
    let repository = Repository::new();
    check(&repository.workspace()).unwrap();
    // Now the last patch needs the line of the optional one.
    let second = format!("{SECOND}{}", &OPTIONAL[OPTIONAL.find("diff").unwrap()..]);
    let second = second.replace("-0\n+zero", "-zero\n+ZERO");
    repository.write("second.patch", &second);
    edit::edit(&repository.workspace(), None).unwrap();
    check(&repository.workspace()).unwrap_err();
}
