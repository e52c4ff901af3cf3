//! CPython's own build, always out of tree: configure, make, make install.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};
use walkdir::WalkDir;
use xshell::cmd;

use crate::digest::{self, Inputs};
use crate::extensions;
use crate::launcher;
use crate::mirror::{self, Extra};
use crate::progress::Phase;
use crate::runtime;
use crate::source;
use crate::stamp::{self, Stamp};
use crate::workspace::{self, Build, Profile};

/// In a non-PIE interpreter, the linker decides the addresses of all static objects, and archives refer to these
/// addresses. The flags are on make's command line, where they reach every sub-make. They must not reach sysconfig,
/// because extension modules must be compiled as for stock. sysconfig reads the Makefile, which does not contain the
/// flags, and completes it from the environment, so the variable must not be in the environment. (The shared modules of
/// the standard library are still PIC: their -fPIC comes later on the command line.)
/// The unwinder that the Rust library needs is linked statically, so that the interpreter needs no library that stock
/// does not need. The build id connects an archive with the interpreter that wrote it.
const MAKE_ARGUMENTS: [&str; 3] = [
    "EXTRA_CFLAGS=-fno-pie",
    "--eval=unexport EXTRA_CFLAGS",
    "LINKCC=$(PURIFY) $(CC) -no-pie -static-libgcc -Wl,--build-id=sha1",
];

/// The variables that configure and the compiler read.
const CONFIGURE_ENVIRONMENT: [&str; 11] = [
    "CC",
    "CFLAGS",
    "CPATH",
    "CPP",
    "CPPFLAGS",
    "LDFLAGS",
    "LDFLAGS_NODIST",
    "LIBRARY_PATH",
    "LIBS",
    "PKG_CONFIG",
    "PKG_CONFIG_PATH",
];

/// The script, and files that it fills in and make does not fill in again.
const CONFIGURE_FILES: [&str; 5] = [
    "configure",
    "pyconfig.h.in",
    "Misc/python-config.sh.in",
    "Misc/python-embed.pc.in",
    "Misc/python.pc.in",
];

/// The modules that exist only if configure finds their library.
const LIBRARY_MODULES: &str =
    "bz2, ctypes, curses, curses.panel, lzma, readline, sqlite3, ssl, _uuid, zlib";

/// Configures the build, unless it is already configured with the same flags and tools.
pub fn configure(build: &Build, again: bool) -> Result<()> {
    let objects = build.objects();
    let mut inputs = Inputs::new();
    for argument in configure_arguments(build) {
        inputs.add(argument);
    }
    for argument in MAKE_ARGUMENTS {
        inputs.add(argument);
    }
    for variable in CONFIGURE_ENVIRONMENT {
        inputs.add(env::var(variable).unwrap_or_default());
    }
    for file in CONFIGURE_FILES {
        inputs.add(digest::of_file(&build.source().join(file))?);
    }
    inputs.add(compiler_version()?);
    let inputs = inputs.finish();

    let stamp = Stamp::new(objects.join("configure.stamp"));
    if stamp.is(&inputs) && !again {
        return Ok(());
    }
    // Another compiler or flag changes every object, and make does not notice this.
    stamp::remove_dir(&objects)?;
    fs::create_dir_all(&objects).with_context(|| format!("cannot create {}", objects.display()))?;
    run_configure(build)?;
    stamp.set(&inputs)
}

/// Configures a build for another prefix, with the objects of `other`: make compiles the few again that contain the
/// prefix.
pub fn reconfigure(build: &Build, other: &Build) -> Result<()> {
    let objects = build.objects();
    stamp::remove_dir(&objects)?;
    let phase = Phase::start("copy the build");
    let shell = workspace::shell()?;
    let from = other.objects();
    let copy = cmd!(shell, "cp -a --reflink=auto {from} {objects}");
    phase.run(&mut copy.into(), &build.log("copy"))?;
    phase.done();
    // These files name the interpreter of the other prefix, and make has no rule for this dependency.
    stamp::remove_dir(&objects.join("build"))?;
    run_configure(build)
}

fn configure_arguments(build: &Build) -> Vec<String> {
    let mut arguments = vec![format!("--prefix={}", build.installation().display())];
    let of_profile: &[&str] = match build.profile {
        Profile::Dev => &[],
        Profile::Release => &["--enable-optimizations", "--with-lto"],
        // With -O3, a link takes two minutes, and there are four.
        Profile::ReleaseCheck => &[
            "--enable-optimizations",
            "--with-lto",
            "OPT=-DNDEBUG -O0 -Wall",
        ],
        // By default, --with-pydebug compiles with -O0, and the tests take twice as long.
        Profile::Debug => &["--with-pydebug", "OPT=-g -Og -Wall"],
        Profile::Sanitize => &[
            "--with-address-sanitizer",
            "--with-undefined-behavior-sanitizer",
        ],
    };
    arguments.extend(of_profile.iter().map(|argument| argument.to_string()));
    arguments.extend(build.configure.iter().cloned());
    arguments
}

fn run_configure(build: &Build) -> Result<()> {
    let phase = Phase::start(format!("configure {} ({})", build.version(), build.name()));
    let mut configure = python_free(Path::new("sh"));
    // The path is relative, because the compiler writes it into the interpreter.
    let source = build.source();
    let source = source.file_name().context("the source tree has a name")?;
    let script = Path::new("..").join(source).join("configure");
    configure.current_dir(build.objects()).arg(script).arg("-q");
    configure.args(configure_arguments(build));
    phase.run(&mut configure, &build.log("configure"))?;
    phase.done();
    Ok(())
}

fn compiler_version() -> Result<Vec<u8>> {
    let compiler = env::var("CC").unwrap_or("gcc".to_owned());
    let mut words = compiler.split_whitespace();
    let program = words.next().unwrap_or("gcc");
    let shell = workspace::shell()?;
    let version = cmd!(shell, "{program} {words...} --version").quiet();
    Ok(version
        .output()
        .map_or_else(|_| vec![], |output| output.stdout))
}

/// The options of interpreters with sanitizers, unless the environment has others. CPython does not free all memory
/// before the process ends, its tests request more memory than exists, and it has its own signal handlers. Tests also
/// preload libraries.
pub const SANITIZER_OPTIONS: (&str, &str) = (
    "ASAN_OPTIONS",
    "detect_leaks=0:allocator_may_return_null=1:handle_segv=0:verify_asan_link_order=0",
);

/// A command that gets none of the user's settings for Python.
pub fn python_free(program: &Path) -> Command {
    let mut command = Command::new(program);
    let (name, options) = SANITIZER_OPTIONS;
    if env::var_os(name).is_none() {
        command.env(name, options);
    }
    for (name, _) in env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("PYTHON"))
    {
        command.env_remove(name);
    }
    command
}

fn make(objects: &Path, jobs: usize) -> Command {
    make_by(python_free(Path::new("make")), objects, jobs)
}

fn make_by(mut command: Command, objects: &Path, jobs: usize) -> Command {
    command.current_dir(objects).env_remove("MAKEFLAGS");
    command.arg(format!("-j{jobs}")).args(MAKE_ARGUMENTS);
    command
}

/// Builds the interpreter. make decides what must be built.
pub fn compile(build: &Build, jobs: usize) -> Result<()> {
    let objects = build.objects();
    if build.profile.is_optimised() {
        train(build, jobs)?;
    }
    place_objects(build)?;
    let title = if build.profile.is_optimised() {
        "compile with the profile"
    } else {
        "compile"
    };
    let phase = Phase::start(title);
    phase.run(make(&objects, jobs).arg("all"), &build.log("make"))?;
    phase.done();
    if extensions::link(build)? {
        let phase = Phase::start("link again");
        phase.run(make(&objects, jobs).arg("all"), &build.log("make-again"))?;
        phase.done();
    }
    Ok(())
}

/// Puts the objects that make does not build where make expects them.
fn place_objects(build: &Build) -> Result<()> {
    runtime::place(build)?;
    launcher::place(build)?;
    extensions::place(build)
}

/// Makes the profile for the optimised build.
///
/// This runs the three stages of `make profile-opt` separately. The first and the last stage remove every object file,
/// also the runtime, which must be put back each time. A profile is valid for the source that it was made from. A
/// change of the runtime keeps it valid, because the runtime is not profiled.
fn train(build: &Build, jobs: usize) -> Result<()> {
    let source = source::identity(build)?;
    let objects = build.objects();
    let stamp = Stamp::new(objects.join("profile.stamp"));
    if stamp.is(&source) && objects.join("profile-run-stamp").exists() {
        return Ok(());
    }
    stamp.clear()?;
    let instrumented = Stamp::new(objects.join("profile-gen.stamp"));
    if !instrumented.is(&source) || !objects.join("profile-gen-stamp").exists() {
        let phase = Phase::start("compile for profiling");
        instrumented.clear()?;
        phase.run(make(&objects, jobs).arg("clean"), &build.log("clean"))?;
        phase.run(
            make(&objects, jobs).arg("profile-clean-stamp"),
            &build.log("profile-clean"),
        )?;
        place_objects(build)?;
        phase.run(
            make(&objects, jobs).arg("profile-gen-stamp"),
            &build.log("profile-gen"),
        )?;
        instrumented.set(&source)?;
        phase.done();
    }
    let phase = Phase::start("run the profiling workload");
    // The workload is a part of CPython's test suite. It sends itself SIGINT, which background jobs ignore.
    let mut env = python_free(Path::new("env"));
    env.args(["--default-signal=INT", "make"]);
    let mut workload = make_by(env, &objects, jobs);
    if build.profile == Profile::ReleaseCheck {
        workload.arg("PROFILE_TASK=-c pass");
    }
    phase.run(workload.arg("profile-run-stamp"), &build.log("profile-run"))?;
    phase.done();
    stamp.set(&source)
}

/// Installs the interpreter to the configured prefix, from where it is run.
///
/// It is not run from the build directory, for this reason: a virtual environment searches the standard library from
/// the directory of the interpreter that made it. For the link `./python`, this is the repository's root. From there,
/// the search ends at the configured prefix, so the installation must be there. An installation also has pip, the
/// headers, and the start time that users get.
///
/// The first time, this runs `make install`. Later, it copies only the files that make has linked again and the modules
/// that differ: to compile the whole standard library again would take a minute.
pub fn install(build: &Build, jobs: usize) -> Result<()> {
    let (objects, installation) = (build.objects(), build.installation());
    let layout = digest::of_file(&objects.join("Makefile"))?;
    let layout_stamp = Stamp::new(objects.join("install-layout.stamp"));
    let products = products(build)?;
    let products_stamp = Stamp::new(objects.join("install-products.stamp"));
    if !layout_stamp.is(&layout) || program(&installation).is_err() {
        let phase = Phase::start("install");
        layout_stamp.clear()?;
        products_stamp.clear()?;
        phase.run(make(&objects, jobs).arg("install"), &build.log("install"))?;
        check_modules(&installation)?;
        products_stamp.set(&products)?;
        layout_stamp.set(&layout)?;
        phase.done();
    } else if !products_stamp.is(&products) {
        let phase = Phase::start("install what has changed");
        products_stamp.clear()?;
        let targets = [
            "altbininstall",
            "inclinstall",
            "libainstall",
            "sharedinstall",
        ];
        phase.run(make(&objects, jobs).args(targets), &build.log("install"))?;
        products_stamp.set(&products)?;
        phase.done();
    }
    update_library(build)
}

/// What `make` builds, without the standard library: the interpreter, its library, its modules and its headers.
fn products(build: &Build) -> Result<String> {
    let mut inputs = Inputs::new();
    inputs.add(source::identity(build)?);
    let objects = build.objects();
    let mut files = vec![objects.join("python"), objects.join("pyconfig.h")];
    for entry in WalkDir::new(objects.join("Modules"))
        .max_depth(1)
        .sort_by_file_name()
    {
        let path = entry.context("cannot read the built modules")?.into_path();
        if path.extension().is_some_and(|extension| extension == "so") {
            files.push(path);
        }
    }
    for file in files {
        inputs.add_times(&file)?;
    }
    Ok(inputs.finish())
}

/// Updates the installed standard library, file by file.
fn update_library(build: &Build) -> Result<()> {
    let (modules, installed) = (build.source().join("Lib"), library(&build.installation())?);
    for file in mirror::files(&modules)? {
        let target = installed.join(&file);
        // `make install` does not install some directories.
        if target.parent().is_some_and(Path::is_dir) {
            mirror::update(&modules.join(&file), &target)?;
        }
    }
    for package in source::PACKAGES {
        let from = modules.join(package);
        if from.is_dir() {
            mirror::mirror(&from, &installed.join(package), Extra::Remove)?;
        }
    }
    Ok(())
}

/// The directory of the standard library of an installation.
pub fn library(installation: &Path) -> Result<PathBuf> {
    let program = program(installation)?;
    let name = program.file_name().context("the interpreter has a name")?;
    // The name of the program may have flags after its version (PEP 3149), the name of the directory has none.
    let name = name.to_string_lossy();
    Ok(installation.join("lib").join(name.trim_end_matches('d')))
}

/// The interpreter of an installation: `bin/python3.13`.
pub fn program(installation: &Path) -> Result<PathBuf> {
    let path = installation.join("bin/python3");
    let name =
        fs::read_link(&path).with_context(|| format!("cannot read the link {}", path.display()))?;
    Ok(installation.join("bin").join(name))
}

/// If configure does not find the library of a module, make builds without the module and only prints a message.
fn check_modules(installation: &Path) -> Result<()> {
    let output = python_free(&program(installation)?)
        .args(["-I", "-c", &format!("import {LIBRARY_MODULES}")])
        .output()
        .context("cannot run the new interpreter")?;
    if !output.status.success() {
        bail!(
            "the new interpreter is incomplete:\n{}",
            String::from_utf8_lossy(&output.stderr).trim_end()
        );
    }
    Ok(())
}
