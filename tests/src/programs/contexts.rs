//! The contexts in which a program is run.

use std::process::Command;
use std::sync::LazyLock;

use super::data::{self, Program};
use super::scratch::Scratch;
use crate::{Outcome, clean, python};

/// A program that runs for more seconds hangs and is killed.
const PATIENCE: &str = "120";

/// Has the directory of the cache in all ways, so that programs find the same variables.
const CACHE: &str = "PYTHON_CDS_CACHE";

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Context {
    Pipe,
    Terminal,
    NoEnvironment,
    AnotherDirectory,
    AnotherLocale,
}

impl Context {
    pub const ALL: [Self; 5] = [
        Self::Pipe,
        Self::Terminal,
        Self::NoEnvironment,
        Self::AnotherDirectory,
        Self::AnotherLocale,
    ];

    pub fn name(self) -> &'static str {
        match self {
            Self::Pipe => "pipe",
            Self::Terminal => "terminal",
            Self::NoEnvironment => "env -i",
            Self::AnotherDirectory => "another directory",
            Self::AnotherLocale => "another locale",
        }
    }

    /// Whether the context is possible here. Without the variable HOME, a program would write to the home of the user,
    /// so a directory has to be mounted there.
    pub fn is_possible(self) -> bool {
        static CAN_MOUNT: LazyLock<bool> = LazyLock::new(|| {
            let mut command = Command::new("unshare");
            let mount = "mount --bind / ~";
            command.args(["--mount", "sh", "-c", mount]);
            let can_mount = Outcome::of(&mut command).status == 0;
            if !can_mount {
                println!(
                    "skipped: {}: nothing can be mounted",
                    Context::NoEnvironment.name()
                );
            }
            can_mount
        });
        self != Self::NoEnvironment || *CAN_MOUNT
    }

    /// The command that runs a program with options of the interpreter.
    pub fn command(self, program: &Program, scratch: &Scratch, options: &[String]) -> Command {
        let mut words = Vec::new();
        let mut add = |part: &[&str]| words.extend(part.iter().map(|&word| word.to_owned()));
        let helper = |name: &str| data::directory().join(name).display().to_string();
        let python = python().display().to_string();
        let helped = [&*python, "-I", "-S", "-X", "cds=off"];
        let home = scratch.home().display().to_string();
        let cache = scratch.cache().display().to_string();
        add(&["timeout", "--foreground", "-s", "KILL", PATIENCE]);
        if self == Self::NoEnvironment {
            let mount = "mount --bind \"$0\" ~ && exec env -i \"$@\"";
            add(&["unshare", "--mount", "sh", "-c", mount, &home]);
            add(&[&format!("{CACHE}={cache}")]);
        }
        if self == Self::Terminal {
            add(&helped);
            add(&[&helper("at_terminal.py")]);
        }
        let port = program.port.unwrap_or_default().to_string();
        if let Some(server) = &program.server {
            add(&helped);
            add(&[&helper("ask_server.py"), &port, &server.signal]);
            add(&[
                &server.paths.join(","),
                &scratch.maps().display().to_string(),
            ]);
        }
        if program.asks {
            add(&helped);
            add(&[&helper("be_asked.py"), &port]);
        }
        add(&[&scratch.venv().python().display().to_string()]);
        words.extend(options.iter().cloned());
        words.extend(program.arguments(scratch.venv()));
        let mut command = Command::new(&words[0]);
        clean(&mut command);
        command
            .args(&words[1..])
            .current_dir(scratch.work(self == Self::AnotherDirectory))
            .env("HOME", &home)
            .env("TMPDIR", scratch.temporary())
            .env(CACHE, &cache)
            .envs(&program.variables);
        // Scripts find other scripts of their environment, as in an activated environment.
        let path = std::env::var("PATH").unwrap_or_default();
        let bin = scratch.venv().directory().join("bin");
        command.env("PATH", format!("{}:{path}", bin.display()));
        if self == Self::Terminal {
            command.env("TERM", "xterm-256color");
        }
        if self == Self::AnotherLocale {
            command.env("LC_ALL", "C");
        }
        command
    }
}
