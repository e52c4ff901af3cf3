//! An environment with the program in it, its images, and its runs.

use std::fs::{self, File};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail, ensure};
use tempfile::TempDir;

use super::Report;
use crate::environment::succeed;
use crate::report::Report as Statistics;
use crate::{Outcome, clean, python, repository};

/// Where a run leaves what it has found.
const OUTPUT: &str = "report.txt";

/// What an image is made of.
#[derive(Debug, Clone, Copy)]
pub struct Image {
    pub name: &'static str,
    /// The modules that are imported before the freeze, and that a plain run imports first.
    modules: &'static [&'static str],
    /// Whether the kernel may have to be asked for so much that there is no image.
    pub may_be_refused: bool,
}

impl Image {
    pub const ALL: [Self; 4] = [
        Self {
            name: "nothing imported",
            modules: &[],
            may_be_refused: false,
        },
        Self::MEMORY,
        Self {
            name: "all that the report needs",
            modules: &["inventory.kept", "inventory.everything"],
            may_be_refused: false,
        },
        Self {
            name: "memory with advice",
            modules: &["inventory.special"],
            may_be_refused: true,
        },
    ];

    /// Memory of all kinds is made before the freeze.
    pub const MEMORY: Self = Self {
        name: "memory of all kinds",
        modules: &["inventory.kept"],
        may_be_refused: false,
    };
}

/// How a process is started.
#[derive(Debug, Clone, Copy)]
pub struct Setting {
    pub name: &'static str,
    /// Options of the interpreter, which an image is taken with, too.
    options: &'static [&'static str],
    /// Arguments behind those of the program.
    arguments: &'static [&'static str],
    variables: Variables,
    streams: Streams,
    /// Signals that are ignored when it starts: names with commas between them.
    ignored: &'static str,
    /// Whether memory is tried out, which takes longest.
    is_full: bool,
}

impl Setting {
    /// As nohup(1) and the `&` of a shell start a program.
    pub const IGNORING: Self = Self {
        name: "ignored signals",
        ignored: "HUP,INT,QUIT",
        is_full: false,
        ..PLAIN
    };
}

#[derive(Debug, Clone, Copy)]
enum Variables {
    Few,
    /// The stack begins elsewhere.
    Many,
    None,
}

#[derive(Debug, Clone, Copy)]
enum Streams {
    /// Nothing to read, pipes to write to.
    Pipes,
    Files,
    Null,
}

const PLAIN: Setting = Setting {
    name: "as most are",
    options: &[],
    arguments: &[],
    variables: Variables::Few,
    streams: Streams::Pipes,
    ignored: "",
    is_full: true,
};

/// The first one is the one that says most.
pub const SETTINGS: [Setting; 7] = [
    PLAIN,
    Setting::IGNORING,
    Setting {
        name: "many variables",
        variables: Variables::Many,
        is_full: false,
        ..PLAIN
    },
    Setting {
        name: "no variables",
        variables: Variables::None,
        is_full: false,
        ..PLAIN
    },
    Setting {
        name: "files as streams",
        streams: Streams::Files,
        is_full: false,
        ..PLAIN
    },
    Setting {
        name: "/dev/null as streams",
        streams: Streams::Null,
        is_full: false,
        ..PLAIN
    },
    Setting {
        name: "isolated (-I)",
        options: &["-I"],
        is_full: false,
        ..PLAIN
    },
];

/// A virtual environment with the program.
pub struct Inventory {
    directory: TempDir,
}

impl Inventory {
    pub fn new() -> Result<Self> {
        let directory = tempfile::tempdir().context("cannot make a temporary directory")?;
        let inventory = Self { directory };
        let mut venv = Command::new(python());
        clean(&mut venv);
        succeed(
            venv.args(["-m", "venv", "--without-pip"])
                .arg(inventory.path("venv")),
        )?;
        let packages = inventory.path("venv/lib/python3.13/site-packages");
        copy_package("inventory", &packages)?;
        let program = programs().join("report.py");
        copy(&program, &inventory.path("report.py"))?;
        fs::write(inventory.path("input.txt"), "a line\nanother\n")
            .context("cannot write the input")?;
        Ok(inventory)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Takes an image for a setting, and says why if there can be none.
    pub fn take(&self, image: &Image, setting: &Setting) -> Result<Result<(), String>> {
        // A first run writes the `.pyc` files, and so changes directories that an image depends on.
        self.plain(image, setting)?;
        for name in ["img", "img.image", "arc"] {
            match fs::remove_file(self.path(name)) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                    return Err(error).with_context(|| format!("cannot remove {name}"));
                }
                _ => {}
            }
        }
        let list: String = image
            .modules
            .iter()
            .map(|name| format!("{name}\n"))
            .collect();
        fs::write(self.path("app.lst"), list).context("cannot write a list")?;
        let mut dump = self.command(setting);
        dump.args(["-m", "cds", "dump", "-q", "--image", "app.lst", "img"]);
        let outcome = Outcome::of(&mut dump);
        let is_taken = self.path("img.image").exists();
        ensure!(
            is_taken || image.may_be_refused,
            "no image can be taken of {}: {outcome:?}",
            image.name
        );
        if !is_taken {
            return Ok(Err(outcome.stderr.trim().to_owned()));
        }
        // The archive by itself.
        copy(&self.path("img"), &self.path("arc"))?;
        Ok(Ok(()))
    }

    /// Runs the program without an archive.
    pub fn plain(&self, image: &Image, setting: &Setting) -> Result<Report> {
        let report = self.run("cds=off", image, setting)?.0;
        if let Some(key) = report.keys().find(|key| key.ends_with(".failure")) {
            bail!("{key}: {}", report.value(key).unwrap_or_default());
        }
        Ok(report)
    }

    /// Runs it with the archive only.
    pub fn archived(&self, image: &Image, setting: &Setting) -> Result<Report> {
        Ok(self.run("cds=arc", image, setting)?.0)
    }

    /// Runs it restored, or says why it was not.
    pub fn restored(&self, image: &Image, setting: &Setting) -> Result<Result<Report, String>> {
        let (report, statistics) = self.run("cds=img", image, setting)?;
        Ok(match statistics.startup_image {
            Some(_) => Ok(report),
            None => Err(statistics.startup_image_refused.unwrap_or_default()),
        })
    }

    /// The options by which runs differ have the same length, so that everything lies where it lies in the others.
    fn run(&self, choice: &str, image: &Image, setting: &Setting) -> Result<(Report, Statistics)> {
        let mut command = self.command(setting);
        command.args(["-X", choice, "-X", "cds_stats=stats.json"]);
        command.args(["report.py", OUTPUT]);
        command.arg(if setting.is_full { "all" } else { "quick" });
        command.args(image.modules).args(setting.arguments);
        let said = self.redirect(&mut command, setting.streams)?;
        let mut child = command.spawn().context("cannot run the program")?;
        // Nothing is written to them but by what goes wrong.
        let status = child.wait().context("cannot wait for the program")?;
        ensure!(
            status.success(),
            "{}, {}, {choice}: {status}\n{}",
            image.name,
            setting.name,
            said.map_or(String::new(), |path| fs::read_to_string(path)
                .unwrap_or_default())
        );
        let report = Report::take(&self.path(OUTPUT))?;
        Ok((report, Statistics::read(&self.path("stats.json"))?))
    }

    /// Returns a file that has what the program says on stderr, if there is one.
    fn redirect(&self, command: &mut Command, streams: Streams) -> Result<Option<PathBuf>> {
        let create =
            |name| File::create(self.path(name)).with_context(|| format!("cannot create {name}"));
        match streams {
            Streams::Null => {
                command
                    .stdin(Stdio::null())
                    .stdout(Stdio::null())
                    .stderr(Stdio::null());
                Ok(None)
            }
            Streams::Files => {
                let input = File::open(self.path("input.txt")).context("cannot open the input")?;
                command
                    .stdin(input)
                    .stdout(create("stdout.txt")?)
                    .stderr(create("stderr.txt")?);
                Ok(Some(self.path("stderr.txt")))
            }
            Streams::Pipes => {
                command
                    .stdin(Stdio::piped())
                    .stdout(Stdio::piped())
                    .stderr(create("stderr.txt")?);
                Ok(Some(self.path("stderr.txt")))
            }
        }
    }

    fn command(&self, setting: &Setting) -> Command {
        let python = self.path("venv/bin/python");
        let mut command = if setting.ignored.is_empty() {
            Command::new(python)
        } else {
            let mut command = Command::new("env");
            command.arg(format!("--ignore-signal={}", setting.ignored));
            command.arg(python);
            command
        };
        clean(&mut command);
        match setting.variables {
            Variables::Few => {
                command.env("FOO", "a value");
            }
            Variables::Many => {
                command.envs((0..50).map(|n| (format!("VARIABLE_{n}"), "x".repeat(n * 7))));
            }
            Variables::None => {
                command.env_clear();
            }
        }
        command
            .current_dir(self.directory.path())
            .args(setting.options);
        command
    }
}

/// Copies a package of tests/restored to a directory.
pub fn copy_package(name: &str, directory: &Path) -> Result<()> {
    let (from, to) = (programs().join(name), directory.join(name));
    fs::create_dir_all(&to).with_context(|| format!("cannot create {}", to.display()))?;
    let files = fs::read_dir(&from).with_context(|| format!("cannot list {}", from.display()))?;
    for file in files.flatten().map(|entry| entry.path()) {
        if file.extension().is_some_and(|ending| ending == "py") {
            copy(&file, &to.join(file.file_name().unwrap_or_default()))?;
        }
    }
    Ok(())
}

/// Where the programs are that run restored, and the list of what may differ.
pub fn programs() -> PathBuf {
    repository().join("tests/restored")
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    fs::copy(from, to)
        .with_context(|| format!("cannot copy {} to {}", from.display(), to.display()))?;
    fs::set_permissions(to, fs::Permissions::from_mode(0o600))
        .with_context(|| format!("cannot change the mode of {}", to.display()))
}
