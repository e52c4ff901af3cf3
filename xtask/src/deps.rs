//! The programs, headers and libraries that building and testing the interpreter need.
//!
//! Each need is probed by use: a program is run, a header is compiled, libclang is searched where bindgen searches.
//! So a system without dpkg, or with libraries from another source, passes too. Debian's package names are only used
//! to install what is missing.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Output;

use anyhow::{Context, Result, bail};
use xshell::{Shell, cmd};

use crate::progress::Phase;
use crate::workspace::Workspace;

struct Need {
    what: &'static str,
    package: &'static str,
    probe: Probe,
}

enum Probe {
    Program(&'static str),
    /// Lines of C that must compile.
    Header(&'static str),
    Libclang,
    /// A file that must exist.
    File(&'static str),
    /// A shared library that the dynamic linker must find.
    Library(&'static str),
}

impl Need {
    fn header(&self) -> Option<&'static str> {
        match self.probe {
            Probe::Header(lines) => Some(lines),
            _ => None,
        }
    }
}

const fn program(name: &'static str, package: &'static str) -> Need {
    Need {
        what: name,
        package,
        probe: Probe::Program(name),
    }
}

const fn header(what: &'static str, package: &'static str, lines: &'static str) -> Need {
    Need {
        what,
        package,
        probe: Probe::Header(lines),
    }
}

const fn library(what: &'static str, package: &'static str, name: &'static str) -> Need {
    Need {
        what,
        package,
        probe: Probe::Library(name),
    }
}

/// The compiler comes first: without it, no header can be probed.
const NEEDS: &[Need] = &[
    program("cc", "gcc"),
    program("make", "make"),
    program("git", "git"),
    program("ld", "binutils"),
    program("nm", "binutils"),
    program("objcopy", "binutils"),
    Need {
        what: "libclang with its headers",
        package: "libclang-dev",
        probe: Probe::Libclang,
    },
    header("the C library's headers", "libc6-dev", "#include <stdio.h>"),
    header(
        "headers of OpenSSL",
        "libssl-dev",
        "#include <openssl/ssl.h>",
    ),
    header("headers of zlib", "zlib1g-dev", "#include <zlib.h>"),
    header("headers of libffi", "libffi-dev", "#include <ffi.h>"),
    header(
        "headers of SQLite",
        "libsqlite3-dev",
        "#include <sqlite3.h>",
    ),
    header("headers of bzip2", "libbz2-dev", "#include <bzlib.h>"),
    header("headers of liblzma", "liblzma-dev", "#include <lzma.h>"),
    header(
        "headers of readline or libedit",
        "libreadline-dev",
        "#include <stdio.h>\n#if __has_include(<editline/readline.h>)\n#include <editline/readline.h>\n#else\n\
         #include <readline/readline.h>\n#endif",
    ),
    header("headers of libuuid", "uuid-dev", "#include <uuid/uuid.h>"),
    header(
        "headers of ncurses",
        "libncurses-dev",
        "#include <curses.h>\n#include <panel.h>",
    ),
];

/// The tests make system calls fail, make certificates, examine processes from outside, use other allocators, and
/// compile for another architecture.
const NEEDS_OF_TESTS: &[Need] = &[
    program("strace", "strace"),
    program("openssl", "openssl"),
    program("ps", "procps"),
    library("jemalloc", "libjemalloc2", "libjemalloc.so.2"),
    library("mimalloc", "libmimalloc2.0", "libmimalloc.so.2"),
    program("aarch64-linux-gnu-gcc", "gcc-aarch64-linux-gnu"),
    Need {
        what: "the C library's headers for aarch64",
        package: "libc6-dev-arm64-cross",
        probe: Probe::File("/usr/aarch64-linux-gnu/include/stdio.h"),
    },
];

/// A package is built in a tree of Debian 11.
const NEEDS_OF_PACKAGES: &[Need] = &[
    program("debootstrap", "debootstrap"),
    program("unshare", "util-linux"),
    program("gzip", "gzip"),
];

/// Installs the missing packages that a build needs. Returns whether it installed any: a build that was configured
/// without them must be configured again.
///
/// # Errors
/// The packages cannot be installed; the error names the command that installs them.
pub fn ensure(workspace: &Workspace, install: bool) -> Result<bool> {
    ensure_all(NEEDS, workspace, install)
}

/// The same for the additional needs of the tests.
pub fn ensure_for_tests(workspace: &Workspace, install: bool) -> Result<()> {
    ensure_all(NEEDS_OF_TESTS, workspace, install).map(drop)
}

/// The same for the additional needs of `cargo xtask package`.
pub fn ensure_for_packages(workspace: &Workspace, install: bool) -> Result<()> {
    ensure_all(NEEDS_OF_PACKAGES, workspace, install).map(drop)
}

fn ensure_all(needs: &'static [Need], workspace: &Workspace, install: bool) -> Result<bool> {
    let shell = workspace.shell()?;
    let missing = missing(&shell, needs);
    if missing.is_empty() {
        return Ok(false);
    }
    let names: Vec<_> = missing.iter().map(|need| need.what).collect();
    let mut packages: Vec<_> = missing.iter().map(|need| need.package).collect();
    packages.dedup();
    let is_debian = Path::new("/etc/debian_version").exists() && runs(&shell, "apt-get");
    if !is_debian {
        bail!(
            "missing: {}\nInstall them with the system's package manager (Debian calls the packages {}).",
            names.join(", "),
            packages.join(" ")
        );
    }
    let is_root = rustix::process::geteuid().is_root();
    if !install || !is_root {
        let sudo = if is_root { "" } else { "sudo " };
        bail!(
            "missing: {}\nRun this command, then try again:\n    \
             {sudo}apt-get update && {sudo}apt-get install -y --no-install-recommends {}",
            names.join(", "),
            packages.join(" ")
        );
    }
    eprintln!(
        "  missing: {}; installing {}",
        names.join(", "),
        packages.join(" ")
    );
    apt_install(workspace, &shell, &packages)?;
    let missing = self::missing(&shell, needs);
    if !missing.is_empty() {
        let names: Vec<_> = missing.iter().map(|need| need.what).collect();
        bail!(
            "{} still missing after apt-get installed {}",
            names.join(", "),
            packages.join(" ")
        );
    }
    Ok(true)
}

fn apt_install(workspace: &Workspace, shell: &Shell, packages: &[&str]) -> Result<()> {
    let log = |step: &str| {
        workspace
            .cpython()
            .join("logs")
            .join(format!("apt-{step}.log"))
    };
    let install = || {
        let command = cmd!(
            shell,
            "apt-get install -q -y --no-install-recommends {packages...}"
        )
        .env("DEBIAN_FRONTEND", "noninteractive");
        let phase = Phase::start("apt-get install");
        let result = phase.run(&mut command.into(), &log("install"));
        phase.end(result)
    };
    // A new container has no package lists. The lists of an old container name files that no longer exist.
    if install().is_ok() {
        return Ok(());
    }
    let phase = Phase::start("apt-get update");
    let command = cmd!(shell, "apt-get update -q");
    let updated = phase.run(&mut command.into(), &log("update"));
    // The update also fails if an archive of a third party is unreachable. The packages may not need this archive.
    let _ = phase.end(updated);
    install().context("the packages cannot be installed")
}

fn missing(shell: &Shell, needs: &'static [Need]) -> Vec<&'static Need> {
    // In the usual case nothing is missing, and one run of the compiler shows this.
    let all = needs.iter().filter_map(Need::header).collect::<Vec<_>>();
    let all_compile = compiles(shell, &all);
    let is_met = |need: &Need| match need.probe {
        Probe::Program(name) => runs(shell, name),
        Probe::Libclang => libclang(shell).is_some(),
        Probe::File(path) => Path::new(path).exists(),
        Probe::Library(name) => can_be_preloaded(shell, name),
        Probe::Header(lines) => all_compile || compiles(shell, &[lines]),
    };
    needs.iter().filter(|need| !is_met(need)).collect()
}

fn runs(shell: &Shell, program: &str) -> bool {
    let program = if program == "cc" {
        compiler()
    } else {
        program.to_owned()
    };
    let probe = cmd!(shell, "{program} --version").quiet().ignore_status();
    // The program `openssl` of OpenSSL 3.0 does not know `--version`.
    let is_good = |output: Output| output.status.success() || program == "openssl";
    probe.output().is_ok_and(is_good)
}

/// The dynamic linker writes to stderr if it does not find a library.
fn can_be_preloaded(shell: &Shell, library: &str) -> bool {
    let program = cmd!(shell, "true").quiet().ignore_status();
    let output = program.env("LD_PRELOAD", library).output();
    output.is_ok_and(|output| output.status.success() && output.stderr.is_empty())
}

/// The compiler that configure will use.
fn compiler() -> String {
    env::var("CC")
        .ok()
        .and_then(|cc| cc.split_whitespace().next().map(str::to_owned))
        .unwrap_or("gcc".to_owned())
}

fn compiles(shell: &Shell, lines: &[&str]) -> bool {
    let compiler = compiler();
    let flags = env::var("CPPFLAGS").unwrap_or_default();
    let flags = flags.split_whitespace();
    cmd!(shell, "{compiler} {flags...} -x c -fsyntax-only -")
        .quiet()
        .ignore_stderr()
        .stdin(lines.join("\n") + "\n")
        .run()
        .is_ok()
}

/// A libclang with the headers of its compiler (`stddef.h`): without them, bindgen cannot read other headers.
fn libclang(shell: &Shell) -> Option<PathBuf> {
    let mut dirs: Vec<PathBuf> = env::var_os("LIBCLANG_PATH")
        .map(PathBuf::from)
        .into_iter()
        .collect();
    let llvm_config = cmd!(shell, "llvm-config --libdir").quiet().ignore_stderr();
    dirs.extend(llvm_config.read().map(PathBuf::from));
    for parent in ["/usr/lib", "/usr/local"] {
        dirs.extend(
            subdirectories(Path::new(parent))
                .into_iter()
                .map(|llvm| llvm.join("lib")),
        );
    }
    dirs.extend(subdirectories(Path::new("/usr/lib")));
    dirs.extend(
        [
            "/usr/lib64",
            "/usr/lib",
            "/usr/local/lib64",
            "/usr/local/lib",
        ]
        .map(PathBuf::from),
    );
    dirs.iter()
        .filter_map(|dir| libclang_in(dir))
        .find(|library| has_own_headers(library))
}

fn subdirectories(dir: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(dir) else {
        return Vec::new();
    };
    entries
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.is_dir())
        .collect()
}

fn libclang_in(path: &Path) -> Option<PathBuf> {
    if path.is_file() {
        return Some(path.to_owned());
    }
    let names = fs::read_dir(path)
        .ok()?
        .filter_map(|entry| Some(entry.ok()?.path()));
    names.into_iter().find(|path| {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        name == "libclang.so"
            || name.starts_with("libclang.so.")
            || name.starts_with("libclang-") && name.contains(".so")
    })
}

fn has_own_headers(library: &Path) -> bool {
    let Ok(library) = library.canonicalize() else {
        return false;
    };
    let beside = library.parent().map(|dir| dir.join("clang"));
    let resources = beside
        .into_iter()
        .chain(["/usr/lib/clang", "/usr/lib64/clang"].map(PathBuf::from));
    resources
        .flat_map(|dir| subdirectories(&dir))
        .any(|version| version.join("include/stddef.h").is_file())
}
