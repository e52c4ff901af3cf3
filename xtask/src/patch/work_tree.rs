//! The git work tree in which the series is edited.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use xshell::{Cmd, Shell, cmd};

use crate::workspace::{self, Workspace};

/// The first commit: CPython as released.
const PRISTINE: &str = "pristine";
/// The commit that equals the files of the series.
const EXPORTED: &str = "refs/xtask/exported";
/// The line of a commit message that names the file of the commit.
const TRAILER: &str = "Patch: ";
/// The name in this line for the commit of the whole new files.
pub const OVERLAY: &str = "overlay/";

pub struct WorkTree {
    dir: PathBuf,
    shell: Shell,
}

/// A commit of the series: the file that it is written to, and the reason.
pub struct Commit {
    pub id: String,
    pub name: String,
    pub header: String,
}

impl WorkTree {
    pub fn new(workspace: &Workspace, version: &str) -> Result<Self> {
        let shell = workspace::shell()?;
        // Commits and diffs must not depend on the user's configuration of git.
        for (name, value) in [
            ("GIT_CONFIG_GLOBAL", "/dev/null"),
            ("GIT_CONFIG_NOSYSTEM", "1"),
            ("GIT_ATTR_NOSYSTEM", "1"),
            ("XDG_CONFIG_HOME", "/dev/null"),
            ("GIT_AUTHOR_NAME", "xtask"),
            ("GIT_AUTHOR_EMAIL", "xtask@localhost"),
            ("GIT_AUTHOR_DATE", "2000-01-01T00:00:00Z"),
            ("GIT_COMMITTER_NAME", "xtask"),
            ("GIT_COMMITTER_EMAIL", "xtask@localhost"),
            ("GIT_COMMITTER_DATE", "2000-01-01T00:00:00Z"),
        ] {
            shell.set_var(name, value);
        }
        Ok(Self {
            dir: workspace.version(version).join("edit"),
            shell,
        })
    }

    pub fn dir(&self) -> &Path {
        &self.dir
    }

    pub fn exists(&self) -> bool {
        self.dir.join(".git").exists()
    }

    fn git<'a>(&'a self, arguments: &[&str]) -> Cmd<'a> {
        // The work tree is inside the repository: without its own .git, git would use the outer repository.
        let git = self.dir.join(".git");
        let dir = &self.dir;
        cmd!(
            self.shell,
            "git -C {dir} --git-dir={git} --work-tree={dir} {arguments...}"
        )
        .quiet()
    }

    fn run(&self, arguments: &[&str]) -> Result<()> {
        let output = self.git(arguments).ignore_status().output()?;
        let error = String::from_utf8_lossy(&output.stderr);
        ensure!(
            output.status.success(),
            "git {} failed: {}",
            arguments.join(" "),
            error.trim_end()
        );
        Ok(())
    }

    fn read(&self, arguments: &[&str]) -> Result<String> {
        Ok(self.git(arguments).ignore_stderr().read()?)
    }

    /// Makes a git work tree of the directory, which contains the pristine tree.
    pub fn init(&self) -> Result<()> {
        let dir = &self.dir;
        cmd!(self.shell, "git init --quiet --initial-branch=series {dir}")
            .quiet()
            .run()
            .context("cannot run git")?;
        self.run(&["add", "--all", "--force"])?;
        self.commit("CPython as released")?;
        self.run(&["tag", PRISTINE])?;
        // The user must be able to commit here, also if git has no name and address of the user.
        let users = workspace::shell()?;
        let email = cmd!(users, "git config user.email").quiet().ignore_stderr();
        let known = email.read().is_ok();
        if !known {
            self.run(&["config", "user.name", "xtask"])?;
            self.run(&["config", "user.email", "xtask@localhost"])?;
        }
        Ok(())
    }

    /// Commits the index as one file of the series.
    pub fn commit_as(&self, header: &str, name: &str) -> Result<()> {
        self.commit(&format!("{header}\n\n{TRAILER}{name}\n"))
    }

    fn commit(&self, message: &str) -> Result<()> {
        self.git(&[
            "commit",
            "--quiet",
            "--allow-empty",
            "--no-verify",
            "--cleanup=verbatim",
            "--file=-",
        ])
        .stdin(message)
        .run()
        .context("cannot commit")
    }

    pub fn add_all(&self) -> Result<()> {
        self.run(&["add", "--all", "--force"])
    }

    /// Records that the files of the series equal the commits.
    pub fn mark_exported(&self) -> Result<()> {
        self.run(&["update-ref", EXPORTED, "HEAD"])
    }

    /// Whether the series contains all changes of the work tree.
    pub fn is_exported(&self) -> Result<bool> {
        let exported = self
            .read(&["rev-parse", "--verify", EXPORTED])
            .unwrap_or_default();
        Ok(self.uncommitted()?.is_empty() && self.read(&["rev-parse", "HEAD"])? == exported)
    }

    /// The output of `git status`.
    pub fn uncommitted(&self) -> Result<String> {
        self.read(&["status", "--porcelain", "--untracked-files=all"])
    }

    /// The commits on top of the pristine tree.
    pub fn commits(&self) -> Result<Vec<Commit>> {
        let range = format!("{PRISTINE}..HEAD");
        let merges = self.read(&["rev-list", "--merges", &range])?;
        ensure!(
            merges.is_empty(),
            "the series must be a line of commits, but {} has merges",
            self.dir.display()
        );
        let ids = self.read(&["rev-list", "--reverse", &range])?;
        ids.lines()
            .map(|id| Ok(commit(id, &self.read(&["log", "-1", "--format=%B", id])?)))
            .collect()
    }

    /// The diff of a commit, without the names of git objects.
    pub fn diff(&self, commit: &Commit) -> Result<String> {
        let diff = self.read(&[
            "-c",
            "core.attributesFile=/dev/null",
            "diff-tree",
            "--no-commit-id",
            "--patch",
            "--unified=3",
            "--diff-algorithm=myers",
            "--no-renames",
            "--no-color",
            "--no-ext-diff",
            "--no-textconv",
            "--src-prefix=a/",
            "--dst-prefix=b/",
            &commit.id,
        ])?;
        // Lines of content begin with `+`, `-` or a space.
        Ok(diff
            .lines()
            .filter(|line| !line.starts_with("index "))
            .flat_map(|line| [line, "\n"])
            .collect())
    }

    /// The files that a commit adds.
    ///
    /// # Errors
    /// The commit does anything else than add files.
    pub fn added(&self, commit: &Commit) -> Result<Vec<PathBuf>> {
        let changes = self.read(&[
            "diff-tree",
            "--no-commit-id",
            "-r",
            "--name-status",
            "--no-renames",
            &commit.id,
        ])?;
        changes
            .lines()
            .map(|line| {
                let (status, path) = line
                    .split_once('\t')
                    .context("git lists a status and a path")?;
                ensure!(
                    status == "A",
                    "the commit of {OVERLAY} changes {path}, which CPython has: make that a patch"
                );
                Ok(PathBuf::from(path))
            })
            .collect()
    }
}

fn commit(id: &str, message: &str) -> Commit {
    let name = message
        .lines()
        .rev()
        .find_map(|line| line.strip_prefix(TRAILER));
    let header: String = message
        .lines()
        .filter(|line| !line.starts_with(TRAILER))
        .flat_map(|line| [line.trim_end(), "\n"])
        .collect();
    let header = header.trim().to_owned();
    let name = name.map_or_else(
        || file_name(header.lines().next().unwrap_or_default()),
        |name| name.trim().to_owned(),
    );
    Commit {
        id: id.to_owned(),
        name,
        header,
    }
}

/// The file name for a new commit, made from its subject.
fn file_name(subject: &str) -> String {
    let words = subject
        .split(|c: char| !c.is_ascii_alphanumeric())
        .filter(|word| !word.is_empty());
    let words: Vec<_> = words.map(str::to_ascii_lowercase).collect();
    format!("{}.patch", words.join("-"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_trailer_names_the_file_and_is_no_part_of_the_header() {
        let commit = commit("1", "Do it\n\nBecause.\n\nPatch: it.patch\n");
        assert_eq!(
            (commit.name.as_str(), commit.header.as_str()),
            ("it.patch", "Do it\n\nBecause.")
        );
    }

    #[test]
    fn a_new_commit_is_named_after_its_subject() {
        assert_eq!(
            commit("1", "Ask _PyCDS first, then stock\n\nBecause.\n").name,
            "ask-pycds-first-then-stock.patch"
        );
    }
}
