//! The ways in which a program is run.

use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use anyhow::{Context as _, Result};

use super::contexts::Context;
use super::scratch::Scratch;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    Plain,
    Archive,
    Image,
}

impl Way {
    pub fn name(self) -> &'static str {
        match self {
            Self::Plain => "plain",
            Self::Archive => "archive",
            Self::Image => "image",
        }
    }
}

/// The files that the interpreter writes in the runs of one way.
pub struct Files {
    archive: PathBuf,
    pub stats: PathBuf,
    /// All compared output of the last run, for people who need more than the difference.
    pub seen: PathBuf,
}

impl Files {
    pub fn new(scratch: &Scratch, context: Context, way: Way) -> Self {
        let name = format!("{}-{}", context.name().replace(' ', "-"), way.name());
        let file = |ending: &str| scratch.archive(&format!("{name}.{ending}"));
        Self {
            archive: file("cds"),
            stats: file("json"),
            seen: file("txt"),
        }
    }
}

/// The options of the interpreter for a way.
pub fn options(scratch: &Scratch, context: Context, way: Way) -> Vec<String> {
    let archive = Files::new(scratch, context, way).archive;
    let option = match way {
        Way::Plain => "cds=off".to_owned(),
        Way::Archive => format!("cds_auto={}", archive.display()),
        Way::Image => "cds=auto".to_owned(),
    };
    vec![format!("-X{option}")]
}

/// Starts a command without input. Its output can be read.
pub fn started(command: &mut Command) -> Result<Child> {
    command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("cannot run {command:?}"))
}
