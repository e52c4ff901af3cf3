//! The directories that a program may write to. They are restored before each run.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result};

use super::data::{self, Program};
use crate::environment::succeed;
use crate::files::{Files, Times};
use crate::venv::Venv;
use crate::{clean, repository};

pub struct Scratch {
    directory: PathBuf,
    venv: Venv,
    before: Files,
    times: Option<Times>,
}

/// The part of a program's directory that is restored: everything except its archives.
const WORLD: &str = "world";

impl Scratch {
    /// Creates the directories of a program, and removes old ones.
    pub fn new(program: &Program, venv: Venv) -> Result<Self> {
        let directory = repository()
            .join("target/workloads/programs")
            .join(program.name.replace(' ', "-"));
        if directory.exists() {
            fs::remove_dir_all(&directory)
                .with_context(|| format!("cannot remove {}", directory.display()))?;
        }
        for part in ["archives", "world/home", "world/tmp"] {
            let part = directory.join(part);
            fs::create_dir_all(&part)
                .with_context(|| format!("cannot create {}", part.display()))?;
        }
        let directory = fs::canonicalize(&directory)
            .with_context(|| format!("cannot find {}", directory.display()))?;
        let mut scratch = Self {
            directory,
            venv,
            before: Files::default(),
            times: None,
        };
        for elsewhere in [false, true] {
            scratch.furnish(program, &scratch.work(elsewhere))?;
        }
        scratch.before = Files::of(&scratch.world());
        Ok(scratch)
    }

    fn furnish(&self, program: &Program, work: &Path) -> Result<()> {
        fs::create_dir(work).with_context(|| format!("cannot create {}", work.display()))?;
        if let Some(files) = &program.files {
            Files::of(&data::directory().join("files").join(files)).restore(work);
        }
        uncover(work)?;
        for words in &program.setup {
            let is_python = words[0] == "python";
            let python = self.venv.python();
            let mut command = Command::new(if is_python {
                python.as_os_str()
            } else {
                words[0].as_ref()
            });
            clean(&mut command);
            command.args(&words[1..]).current_dir(work);
            succeed(command.env("HOME", self.home()))?;
        }
        Ok(())
    }

    pub fn venv(&self) -> &Venv {
        &self.venv
    }

    fn world(&self) -> PathBuf {
        self.directory.join(WORLD)
    }

    pub fn work(&self, elsewhere: bool) -> PathBuf {
        self.world()
            .join(if elsewhere { "elsewhere" } else { "work" })
    }

    pub fn home(&self) -> PathBuf {
        self.world().join("home")
    }

    pub fn temporary(&self) -> PathBuf {
        self.world().join("tmp")
    }

    /// The directory of the cache, for all contexts.
    pub fn cache(&self) -> PathBuf {
        self.archive("cache")
    }

    pub fn archive(&self, name: &str) -> PathBuf {
        self.directory.join("archives").join(name)
    }

    /// A copy of the memory map of a server.
    pub fn maps(&self) -> PathBuf {
        self.archive("maps.txt")
    }

    /// Restores all files except compiled code, which each program finds from its second run on.
    pub fn restore(&mut self) {
        self.before.restore(&self.world());
        self.times
            .get_or_insert_with(|| Times::of(&self.directory.join(WORLD)))
            .restore();
    }

    /// Takes the current times of the directories for the original ones at the next [`Self::restore`].
    pub fn forget_times(&mut self) {
        self.times = None;
    }

    /// The files that were written since the directories were made.
    pub fn written(&self) -> Files {
        Files::of(&self.world()).since(&self.before)
    }
}

/// The suffix of files that linters of this repository must not find.
const COVER: &str = "in";

fn uncover(work: &Path) -> Result<()> {
    for found in fs::read_dir(work)?.flatten() {
        let path = found.path();
        if path.extension().is_some_and(|ending| ending == COVER) {
            fs::rename(&path, path.with_extension(""))
                .with_context(|| format!("cannot rename {}", path.display()))?;
        }
    }
    Ok(())
}
