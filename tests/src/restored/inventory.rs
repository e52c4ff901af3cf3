//! A virtual environment with the program, and the program's images and runs.

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

/// The file to which a run writes its report.
const OUTPUT: &str = "report.txt";

/// An image and its contents.
#[derive(Debug, Clone, Copy)]
pub struct Image {
    pub name: &'static str,
    /// The modules that are imported before the image is taken. A plain run imports them first.
    modules: &'static [&'static str],
    /// Whether the kernel may refuse so many requests of these modules that no image can be taken.
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

    /// Memory of all kinds is allocated before the image is taken.
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
    /// Options of the interpreter. The image is taken with the same options.
    options: &'static [&'static str],
    /// Further arguments of the program.
    arguments: &'static [&'static str],
    variables: Variables,
    streams: Streams,
    /// Signals that are ignored when the process starts: names, separated by commas.
    ignored: &'static str,
    /// Whether the program also tests memory, which takes the most time.
    is_full: bool,
}

impl Setting {
    /// Signals are ignored, as nohup(1) and `&` in a shell do.
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
    /// So many that the stack begins at another address.
    Many,
    None,
}

#[derive(Debug, Clone, Copy)]
enum Streams {
    /// Pipes. Standard input is empty.
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

/// The settings. The first one covers the most.
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

    /// Takes an image for a setting, or returns the reason if no image can be taken.
    pub fn take(&self, image: &Image, setting: &Setting) -> Result<Result<(), String>> {
        // The first run writes `.pyc` files, which changes directories that the image depends on.
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
        // A copy of the archive without an image.
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

    /// Runs the program with the archive only.
    pub fn archived(&self, image: &Image, setting: &Setting) -> Result<Report> {
        Ok(self.run("cds=arc", image, setting)?.0)
    }

    /// Runs the program from the image, or returns the reason if it was not restored.
    pub fn restored(&self, image: &Image, setting: &Setting) -> Result<Result<Report, String>> {
        let (report, statistics) = self.run("cds=img", image, setting)?;
        Ok(match statistics.startup_image {
            Some(_) => Ok(report),
            None => Err(statistics.startup_image_refused.unwrap_or_default()),
        })
    }

    /// The options that differ between runs have the same length, so that all runs have the same addresses.
    fn run(&self, choice: &str, image: &Image, setting: &Setting) -> Result<(Report, Statistics)> {
        let mut command = self.command(setting);
        command.args(["-X", choice, "-X", "cds_stats=stats.json"]);
        command.args(["report.py", OUTPUT]);
        command.arg(if setting.is_full { "all" } else { "quick" });
        command.args(image.modules).args(setting.arguments);
        let said = self.redirect(&mut command, setting.streams)?;
        let mut child = command.spawn().context("cannot run the program")?;
        // The program only writes to the pipes if it fails, so they cannot fill up.
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

    /// Redirects the standard streams. Returns the file that gets stderr, if there is one.
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

/// The directory with the programs that run restored, and with the list of allowed differences.
pub fn programs() -> PathBuf {
    repository().join("tests/restored")
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    fs::copy(from, to)
        .with_context(|| format!("cannot copy {} to {}", from.display(), to.display()))?;
    fs::set_permissions(to, fs::Permissions::from_mode(0o600))
        .with_context(|| format!("cannot change the mode of {}", to.display()))
}
