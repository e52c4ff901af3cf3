//! A copy of an installation that can be moved, without what only developers of CPython need.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use rustix::fs::{AtFlags, CWD, Timespec, Timestamps, utimensat};
use walkdir::WalkDir;
use xshell::{Shell, cmd};

use crate::progress::Phase;
use crate::workspace::{self, Build, Workspace};
use crate::{interpreter, stamp, standard_archive};

/// Stands for the directory of the installation in text files. uv replaces it by the directory that it installs to.
const PREFIX: &str = "/install";

/// Parts of the standard library that only its own tests need, below `lib/python3.x`.
const TESTS: [&str; 2] = ["idlelib/idle_test", "test"];

/// The libraries of any system with glibc, and the dynamic linker.
const SYSTEM_LIBRARIES: [&str; 7] = [
    "ld-linux-x86-64.so.2",
    "libc.so.6",
    "libdl.so.2",
    "libm.so.6",
    "libpthread.so.0",
    "librt.so.1",
    "libutil.so.1",
];

/// The licences of the libraries that are built for a package. Without them, the libraries are the system's.
const LICENSES: &str = "target/libraries/licenses";

/// Makes the tree. All its files get the given time, in seconds since the epoch.
pub fn make(workspace: &Workspace, build: &Build, time: u64, tree: &Path) -> Result<()> {
    let phase = Phase::start("copy what a package needs");
    let (installation, log) = (build.installation(), build.log("package"));
    stamp::remove_dir(tree)?;
    let parent = tree.parent().context("the tree has a parent")?;
    fs::create_dir_all(parent).with_context(|| format!("cannot create {}", parent.display()))?;
    let shell = workspace::shell()?;
    cmd!(shell, "cp -a --reflink=auto {installation} {tree}")
        .quiet()
        .run()?;
    let library = interpreter::library(tree)?;
    remove_tests(&library)?;
    share_libpython(&shell, tree, &library)?;
    let program = interpreter::program(tree)?;
    cmd!(shell, "strip {program}").quiet().run()?;
    replace_prefix(tree, &installation)?;
    let name = program.file_name().context("the interpreter has a name")?;
    link(Path::new(name), &tree.join("bin/python"))?;
    add_licenses(workspace, &tree.join("licenses"))?;
    if workspace.root().join(LICENSES).is_dir() {
        needs_only_the_system(&shell, tree)?;
    }
    phase.done();

    let phase = Phase::start("compile the standard library");
    set_times(tree, time)?;
    // Some installers do not keep times. So a .pyc file has the hash of its source instead (PEP 552).
    let mut compile = interpreter::python_free(&program);
    compile.args(["-I", "-B", "-X", "cds=off", "-m", "compileall", "-q"]);
    compile.args(["--invalidation-mode", "checked-hash", "-s"]);
    compile.arg(tree).args(["-p", PREFIX]).arg(&library);
    phase.run(&mut compile, &log)?;
    set_times(tree, time)?;
    phase.done();
    standard_archive::make(workspace, tree, &log)?;
    set_times(tree, time)
}

/// Removes tests, the extension modules that only these use, and what compileall writes again.
fn remove_tests(library: &Path) -> Result<()> {
    for name in TESTS {
        stamp::remove_dir(&library.join(name))?;
    }
    let modules = library.join("lib-dynload");
    for entry in fs::read_dir(&modules).context("cannot read the extension modules")? {
        let path = entry.context("cannot read the extension modules")?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let (module, _) = name.split_once('.').unwrap_or((&name, ""));
        let is_for_tests = ["_test", "_xx", "xx"]
            .iter()
            .any(|start| module.starts_with(start));
        if is_for_tests || module.ends_with("_test") {
            stamp::remove_file(&path)?;
        }
    }
    for path in paths(library)? {
        if path.ends_with("__pycache__") {
            stamp::remove_dir(&path)?;
        }
    }
    Ok(())
}

/// The static library is installed twice. It keeps neither debug information nor code for link-time optimisation, which
/// only the same compiler can read.
fn share_libpython(shell: &Shell, tree: &Path, library: &Path) -> Result<()> {
    let version = library.file_name().unwrap_or_default().to_string_lossy();
    let name = format!("lib{version}.a");
    let shared = tree.join("lib").join(&name);
    cmd!(
        shell,
        "objcopy --strip-debug --wildcard --remove-section=.gnu.lto_* --remove-section=.gnu.debuglto_* {shared}"
    )
    .quiet()
    .run()?;
    for entry in fs::read_dir(library).context("cannot read the standard library")? {
        let path = entry.context("cannot read the standard library")?.path();
        let copy = path.join(&name);
        if copy.is_file() {
            stamp::remove_file(&copy)?;
            link(&Path::new("../..").join(&name), &copy)?;
        }
    }
    Ok(())
}

/// Scripts find the interpreter in their own directory, and other files of text name [`PREFIX`].
fn replace_prefix(tree: &Path, installation: &Path) -> Result<()> {
    let old = installation.display().to_string();
    for path in paths(tree)?
        .into_iter()
        .filter(|path| path.is_file() && !path.is_symlink())
    {
        let bytes = fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
        let Ok(text) = String::from_utf8(bytes) else {
            continue;
        };
        let new = match text.strip_prefix(&format!("#!{old}/bin/")) {
            Some(rest) if path.starts_with(tree.join("bin")) => {
                let (program, script) = rest.split_once('\n').context("a script has a line")?;
                // A shell and Python read the same lines: for Python they are a string.
                format!(
                    "#!/bin/sh\n\'\'\'exec\' \"$(dirname -- \"$(realpath -- \"$0\")\")/{program}\" \"$0\" \"$@\"\n\
                     \' \'\'\'\n{script}"
                )
            }
            _ if text.contains(&old) => text.replace(&old, PREFIX),
            _ => continue,
        };
        fs::write(&path, new).with_context(|| format!("cannot write {}", path.display()))?;
    }
    Ok(())
}

fn add_licenses(workspace: &Workspace, to: &Path) -> Result<()> {
    fs::create_dir_all(to).with_context(|| format!("cannot create {}", to.display()))?;
    let (root, carried) = (workspace.root(), workspace.root().join(LICENSES));
    let mut licenses = vec![
        (root.join("LICENSE"), "cpython-cds.txt".into()),
        (root.join("runtime/NOTICES"), "rust-crates.txt".into()),
    ];
    if carried.is_dir() {
        let files = fs::read_dir(&carried).context("cannot read the licences")?;
        for file in files {
            let file = file.context("cannot read the licences")?;
            licenses.push((file.path(), file.file_name()));
        }
    }
    for (from, name) in licenses {
        fs::copy(&from, to.join(name))
            .with_context(|| format!("cannot copy {}", from.display()))?;
    }
    Ok(())
}

/// # Errors
/// A program or a module needs a library that the package does not carry.
fn needs_only_the_system(shell: &Shell, tree: &Path) -> Result<()> {
    let mut files = vec![interpreter::program(tree)?];
    let modules = paths(&interpreter::library(tree)?.join("lib-dynload"))?;
    files.extend(modules.into_iter().filter(|path| path.is_file()));
    let output = cmd!(shell, "readelf --dynamic --wide {files...}")
        .quiet()
        .read()?;
    let needed = output.lines().filter_map(|line| {
        let (_, library) = line.split_once("(NEEDED)")?;
        Some(library.split_once('[')?.1.trim_end_matches(']'))
    });
    let others: BTreeSet<_> = needed
        .filter(|library| !SYSTEM_LIBRARIES.contains(library))
        .collect();
    ensure!(
        others.is_empty(),
        "the package needs libraries that it does not carry: {}",
        Vec::from_iter(others).join(", ")
    );
    Ok(())
}

/// An archive of the tree then has the times that the files have when they are unpacked.
fn set_times(tree: &Path, seconds: u64) -> Result<()> {
    let time = Timespec {
        tv_sec: i64::try_from(seconds).context("the time is too large")?,
        tv_nsec: 0,
    };
    let times = Timestamps {
        last_access: time,
        last_modification: time,
    };
    for path in paths(tree)? {
        utimensat(CWD, &path, &times, AtFlags::SYMLINK_NOFOLLOW)
            .with_context(|| format!("cannot set the time of {}", path.display()))?;
    }
    Ok(())
}

/// The directory and everything in it, sorted; a directory comes after its contents.
fn paths(directory: &Path) -> Result<Vec<PathBuf>> {
    let entries = WalkDir::new(directory)
        .sort_by_file_name()
        .contents_first(true);
    let path = |entry: walkdir::Result<walkdir::DirEntry>| Ok(entry?.into_path());
    let paths: walkdir::Result<Vec<_>> = entries.into_iter().map(path).collect();
    paths.with_context(|| format!("cannot read {}", directory.display()))
}

fn link(target: &Path, path: &Path) -> Result<()> {
    symlink(target, path).with_context(|| format!("cannot create the link {}", path.display()))
}
