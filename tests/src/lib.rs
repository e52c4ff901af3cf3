//! Runs the built interpreter on small programs, with and without an archive.

pub mod ancestor;
pub mod document;
pub mod environment;
pub mod files;
pub mod image;
pub mod measure;
pub mod programs;
pub mod progress;
pub mod random_programs;
pub mod report;
pub mod restored;
pub mod skips;
pub mod venv;
pub mod workload;

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::sync::OnceLock;
use std::thread;
use std::time::{Duration, Instant};

use nix::unistd::{Pid, getsid};
use tempfile::TempDir;

/// The arguments with which the interpreter takes an image of the modules in `app.lst`, beside `app.cds`.
pub const DUMP_IMAGE: [&str; 7] = ["-m", "cds", "dump", "-q", "--image", "app.lst", "app.cds"];

/// The interpreter under test: `$CPYTHON_CDS_PYTHON`, or `./python`.
pub fn python() -> PathBuf {
    let chosen = std::env::var_os("CPYTHON_CDS_PYTHON").map(PathBuf::from);
    let python = chosen.unwrap_or_else(|| repository().join("python"));
    assert!(
        python.exists(),
        "there is no {}: run `cargo xtask build-python`",
        python.display()
    );
    python
}

pub fn repository() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
}

/// The output and the exit status of a process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    pub stdout: String,
    pub stderr: String,
    /// The exit status, or the negative number of the signal.
    pub status: i32,
}

impl Outcome {
    /// Runs a command to its end.
    pub fn of(command: &mut Command) -> Self {
        Self::reading(command, Stdio::null())
    }

    /// Runs a command to its end with this standard input.
    pub fn reading(command: &mut Command, input: Stdio) -> Self {
        use std::os::unix::process::ExitStatusExt;
        let output = command
            .stdin(input)
            .output()
            .expect("the command can be run");
        let signal = output.status.signal().map(|signal| -signal);
        Self {
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
            status: output.status.code().or(signal).unwrap_or(-1),
        }
    }

    /// Panics with the output of the process unless it succeeded.
    #[track_caller]
    pub fn success(self) -> Self {
        assert_eq!(self.status, 0, "{}\n{}", self.stdout, self.stderr);
        self
    }
}

/// How a program is run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// `-X cds=off`
    Off,
    /// No option: only with the archive of the standard library.
    Standard,
    /// `-X cds=app.cds -X cds_strict`: the archive must be in use.
    Archive,
    /// The same, while the addresses that archives request are in use.
    Relocated,
}

impl Mode {
    pub const ALL: [Self; 4] = [Self::Off, Self::Standard, Self::Archive, Self::Relocated];
}

/// A directory with a program in it.
pub struct Project {
    directory: TempDir,
}

impl Project {
    /// Writes the files, by path relative to the directory.
    pub fn new(files: &[(&str, &str)]) -> Self {
        let directory = tempfile::tempdir().expect("a temporary directory can be made");
        let project = Self { directory };
        for (name, text) in files {
            project.write(name, text);
        }
        project
    }

    pub fn path(&self, name: impl AsRef<Path>) -> PathBuf {
        self.directory.path().join(name)
    }

    pub fn write(&self, name: &str, text: &str) {
        let path = self.path(name);
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent).expect("a directory can be made");
        }
        fs::write(path, text).expect("a file can be written");
    }

    /// The interpreter in this directory, with no settings except the arguments.
    pub fn command<I: IntoIterator<Item: AsRef<OsStr>>>(&self, arguments: I) -> Command {
        let mut command = Command::new(python());
        clean(&mut command);
        command.current_dir(self.directory.path()).args(arguments);
        command
    }

    /// The same; the interpreter also finds modules in the directory `lib`.
    pub fn command_with_lib<I: IntoIterator<Item: AsRef<OsStr>>>(&self, arguments: I) -> Command {
        let mut command = self.command(arguments);
        command.env("PYTHONPATH", self.path("lib"));
        command
    }

    /// Runs the interpreter.
    pub fn run<I: IntoIterator<Item: AsRef<OsStr>>>(&self, arguments: I) -> Outcome {
        Outcome::of(&mut self.command(arguments))
    }

    /// Runs the interpreter in a mode. All modes except `Off` and `Standard` need [`Self::dump`] before.
    pub fn run_in<I: IntoIterator<Item: AsRef<OsStr>>>(&self, mode: Mode, arguments: I) -> Outcome {
        let options: &[&str] = match mode {
            Mode::Off => &["-X", "cds=off"],
            Mode::Standard => &[],
            Mode::Archive | Mode::Relocated => &["-X", "cds=app.cds", "-X", "cds_strict"],
        };
        let mut command = self.command(options);
        if mode == Mode::Relocated {
            take_addresses(&mut command);
        }
        Outcome::of(command.args(arguments))
    }

    /// Traces a run and dumps the modules that it loaded to `app.cds`.
    pub fn dump<I: IntoIterator<Item: AsRef<OsStr>>>(&self, arguments: I) {
        let arguments = Vec::from_iter(arguments);
        // The first run writes .pyc files, which changes the directories that the dump describes.
        self.run(&arguments);
        let mut trace = self.command(["-X", "cds_trace=app.lst"]);
        Outcome::of(trace.args(arguments));
        self.dump_list();
    }

    /// Dumps the modules in `app.lst` to `app.cds`.
    pub fn dump_list(&self) {
        self.run(["-m", "cds", "dump", "--quiet", "app.lst", "app.cds"])
            .success();
    }

    /// Asserts that a program has the same outcome in all modes, and returns the outcome. All modules that it loads
    /// must come from the archive.
    #[track_caller]
    pub fn assert_same(&self, arguments: &[&str]) -> Outcome {
        self.dump(arguments);
        let expected = self.run_in(Mode::Off, arguments);
        for mode in Mode::ALL {
            assert_eq!(self.run_in(mode, arguments), expected, "{mode:?}");
        }
        let stats = ["-X", "cds_stats"].iter().chain(arguments);
        let report = self.run_in(Mode::Archive, stats).stderr;
        assert!(report.contains(", from elsewhere: 0\n"), "{report}");
        expected
    }
}

/// Waits for the background processes in which `cds_auto` writes archives and images of a project.
pub fn settle(project: &Project) {
    assert!(
        are_settled(&project.path("")),
        "a background process of cds_auto does not end"
    );
}

/// Waits for the background processes of archives in a directory, up to a minute. Returns whether they have ended.
pub fn are_settled(directory: &Path) -> bool {
    let directory = directory.display().to_string();
    let python = fs::canonicalize(python()).expect("it is there");
    let is_at_work = || {
        let processes = fs::read_dir("/proc").expect("there is /proc").flatten();
        // Only look at session leaders: reading about a process that is ending keeps its memory, and so its locks, for
        // a moment.
        let leaders = processes.filter(|process| {
            let id = process.file_name().to_string_lossy().parse();
            id.map(Pid::from_raw)
                .is_ok_and(|id| getsid(Some(id)) == Ok(id))
        });
        leaders.map(|process| process.path()).any(|process| {
            let line = fs::read(process.join("cmdline")).unwrap_or_default();
            let line = String::from_utf8_lossy(&line);
            // A process in execve(2) has no command line yet. A process that has ended has none either, but it has no
            // `exe` either.
            let is_beginning = || fs::read_link(process.join("exe")).is_ok_and(|exe| exe == python);
            line.contains("\0cds.auto\0") && line.contains(&directory)
                || line.is_empty() && is_beginning()
        })
    };
    let start = Instant::now();
    while is_at_work() {
        if start.elapsed() > Duration::from_secs(60) {
            return false;
        }
        thread::sleep(Duration::from_millis(20));
    }
    true
}

/// The exit status of a program that checks something: success if the result is true. Prints an error.
pub fn exit_code(result: anyhow::Result<bool>) -> ExitCode {
    match result {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Whether another user than root can run the interpreter, which may lie in root's home.
pub fn is_reachable_by_others() -> bool {
    let mut test = Command::new("setpriv");
    test.args(["--reuid=65534", "--regid=65534", "--clear-groups", "--"]);
    // setpriv(1) searches `env` with the rights of root; `env` starts `test` without them.
    test.args(["env", "test", "-x"]).arg(python());
    test.status().is_ok_and(|status| status.success())
}

/// Removes all variables that affect Python.
pub fn clean(command: &mut Command) {
    command.env_clear();
    command.env("HOME", home());
    for name in ["PATH", "TMPDIR", "ASAN_OPTIONS", "UBSAN_OPTIONS"] {
        if let Some(value) = std::env::var_os(name) {
            command.env(name, value);
        }
    }
    command.env("LANG", "C.UTF-8");
    // By default, debug builds do not use frozen modules.
    command.env("PYTHON_FROZEN_MODULES", "on");
}

/// An empty home: that of the user who tests may have a directory of modules (`site.USER_SITE`).
fn home() -> &'static Path {
    static HOME: OnceLock<PathBuf> = OnceLock::new();
    HOME.get_or_init(|| {
        let home = repository().join("target/workloads/home");
        fs::create_dir_all(&home).expect("a directory can be made");
        home.canonicalize().expect("it was made")
    })
}

/// Makes a command run while the addresses that archives request are in use.
pub fn take_addresses(command: &mut Command) {
    command.env("LD_PRELOAD", address_taker());
}

/// Changes the header of an archive without changing its length, and corrects its checksum (docs/archive-format.md).
pub fn change_header(archive: &Path, change: impl FnOnce(&mut [u8])) {
    let mut bytes = fs::read(archive).expect("the archive can be read");
    let length = u32::from_le_bytes(bytes[12..16].try_into().expect("four bytes")) as usize;
    let header = &mut bytes[..length];
    change(header);
    header[16..24].fill(0);
    let checksum = archive_format::content_hash(header);
    header[16..24].copy_from_slice(&checksum.to_le_bytes());
    fs::write(archive, bytes).expect("the archive can be written");
}

/// Changes the first character of a fact's value.
pub fn change_fact(archive: &Path, fact: &str) {
    change_header(archive, |header| {
        let key = format!("{fact}=");
        let mut places = header.windows(key.len());
        let place = places.position(|window| window == key.as_bytes());
        let place = place.expect("there is such a fact") + key.len();
        header[place] = if header[place] == b'7' { b'8' } else { b'7' };
    });
}

/// A shared library that maps a page at each address that archives request when it is loaded.
fn address_taker() -> &'static Path {
    const SOURCE: &str = include_str!("address_taker.c");
    static LIBRARY: OnceLock<(TempDir, PathBuf)> = OnceLock::new();
    let (_, library) = LIBRARY.get_or_init(|| {
        let directory = tempfile::tempdir().expect("a temporary directory can be made");
        let library = compile(&directory, "taker", SOURCE, &["-shared", "-fPIC"]);
        (directory, library)
    });
    library
}

/// Compiles a C file in a directory and returns the result's path.
pub fn compile(directory: &TempDir, name: &str, source: &str, options: &[&str]) -> PathBuf {
    let (input, output) = (
        directory.path().join(format!("{name}.c")),
        directory.path().join(format!("{name}.so")),
    );
    fs::write(&input, source).expect("a file can be written");
    let mut compiler = Command::new("cc");
    compiler
        .args(["-D_GNU_SOURCE", "-o"])
        .arg(&output)
        .arg(&input)
        .args(options);
    Outcome::of(&mut compiler).success();
    output
}
