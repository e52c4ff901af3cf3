//! `cargo xtask test`: all checks and tests that must pass before a change is complete. CI runs this and nothing else.

use std::env;
use std::ffi::OsStr;
use std::fs;
use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use xshell::cmd;

use crate::build_python::{self, Choice};
use crate::cpython_tests::{self, Extent};
use crate::workspace::{Build, Profile, Workspace};
use crate::{deps, disk, interpreter, lint, mirror, package, patch, runtime, tidy};

#[derive(clap::Args)]
pub struct Args {
    #[command(flatten)]
    choice: Choice,
    /// Instead, run CPython's own test suite: with stock, with the standard archive, with everything archived, the same
    /// relocated, and restored from a startup image
    #[arg(long, value_enum, value_name = "EXTENT", num_args = 0..=1, default_missing_value = "full")]
    suite: Option<Extent>,
    /// Instead, run the test suites of seven packages, or of these: with stock, with the packages archived, and
    /// restored from a startup image
    #[arg(long, value_name = "NAME", num_args = 0.., conflicts_with = "suite")]
    packages: Option<Vec<String>>,
    /// Instead, run 55 console scripts and servers, or these, in five contexts: plain, archived, and with an image that
    /// renews itself
    #[arg(long, value_name = "NAME", num_args = 0.., conflicts_with_all = ["suite", "packages"])]
    programs: Option<Vec<String>>,
    /// Instead, compare a plain and a restored process: what a process learns about itself, and does with its memory
    #[arg(long, conflicts_with_all = ["suite", "packages", "programs"])]
    restored: bool,
    /// Instead, restore eight programs from their startup images this many times, two at once
    #[arg(long, value_name = "N", num_args = 0..=1, default_missing_value = "100000", conflicts_with_all = ["suite", "packages", "programs", "restored"])]
    restores: Option<u64>,
}

pub fn run(args: &Args) -> Result<()> {
    let workspace = Workspace::new();
    if let Some(extent) = args.suite {
        return cpython_tests::run(&workspace, &args.choice, extent);
    }
    if let Some(names) = &args.packages {
        return packages(&workspace, &args.choice, names);
    }
    if let Some(names) = &args.programs {
        let names = Vec::from_iter(names.iter().map(String::as_str));
        return program_of_tests(&workspace, &args.choice, "programs", &names);
    }
    if args.restored {
        return program_of_tests(&workspace, &args.choice, "restored", &[]);
    }
    if let Some(restores) = args.restores {
        return program_of_tests(&workspace, &args.choice, "storm", &[&restores.to_string()]);
    }
    if !workspace.cpython().exists() {
        disk::warn_if_full(workspace.root(), disk::FOR_ALL_TESTS);
    }
    // Tests may run xtask, so the lock is released before the tests.
    let build = {
        let _lock = workspace.lock()?;
        let build = step("build-python", || {
            build_python::build(&workspace, &args.choice, false)
        })?;
        deps::ensure_for_tests(&workspace, !args.choice.no_install_deps)?;
        step("tidy", || tidy::run(&workspace))?;
        step("patch check", || patch::check(&workspace))?;
        build
    };
    let cargo = |arguments: &[&str]| cargo(&workspace, &build, arguments);
    step("ruff and mypy", || lint::run(&workspace, &build))?;
    optional("rustfmt", "fmt", || cargo(&["fmt", "--all", "--check"]))?;
    optional("clippy", "clippy", || {
        let packages = [
            &["--workspace", "--all-targets"][..],
            // Parts of the launcher exist only in its own profile.
            &["--package", "launcher", "--profile", "launcher"],
        ];
        packages.iter().try_for_each(|packages| {
            cargo(&[&["clippy"], *packages, &["--", "-D", "warnings"]].concat())
        })
    })?;
    if build.profile.has_faults() {
        return step("cargo test", || checked(&workspace, &build));
    }
    cross_check(&workspace, &build)?;
    step("cargo test", || {
        counted(&mut cargo_command(
            &workspace,
            &build,
            &["test", "--workspace"],
        ))
    })?;
    step("programs of packages", || {
        run_program(&workspace, &build, "programs", &["--in-ci"])
    })?;
    step("package", || {
        let package = package::for_tests(&workspace, &args.choice)?;
        let mut tests = cargo_command(&workspace, &build, &["test", "--workspace"]);
        tests.args(["--test=package", "--", "--include-ignored"]);
        counted(tests.env("CPYTHON_CDS_PACKAGE", package))
    })?;
    step("CPython's tests", || {
        cpython_tests::run_archived(&workspace, &build)
    })?;
    let debug = {
        let _lock = workspace.lock()?;
        step("debug build", || {
            build_python::build_aside(&workspace, &args.choice, false, Profile::Debug)
        })?
    };
    step("cargo test, debug build", || checked(&workspace, &debug))?;
    let release = {
        let _lock = workspace.lock()?;
        step(
            "release build, with the profile of an empty program",
            || build_python::build_aside(&workspace, &args.choice, false, Profile::ReleaseCheck),
        )?
    };
    step("tests of the release build", || {
        let mut tests = cargo_command(&workspace, &release, &["test", "--workspace"]);
        tests.args(OF_RELEASES.map(|name| format!("--test={name}")));
        tests.env(
            "CPYTHON_CDS_PYTHON",
            interpreter::program(&release.installation())?,
        );
        counted(&mut tests)
    })
}

/// Tests of features that other options of the compiler and the linker could break.
const OF_RELEASES: [&str; 4] = ["image_exit", "launcher", "objects", "startup"];

/// Checks that the crates of the interpreter also compile for the other architecture.
fn cross_check(workspace: &Workspace, build: &Build) -> Result<()> {
    let target = "aarch64-unknown-linux-gnu";
    let shell = workspace.shell()?;
    let add = cmd!(shell, "rustup target add {target}").quiet();
    if add.ignore_stderr().run().is_err() {
        eprintln!(
            "== check for {target}: skipped, the toolchain lacks it (rustup target add {target})\n"
        );
        return Ok(());
    }
    step(&format!("check for {target}"), || {
        let mut arguments = vec!["check", "--target", target];
        let packages = [
            "archive-format",
            "startup-image",
            "launcher",
            "cpython-cds-runtime",
        ];
        for package in packages {
            arguments.extend(["--package", package]);
        }
        let mut command = cargo_command(workspace, build, &arguments);
        command.env("RUSTFLAGS", "-D warnings");
        finish(&mut command)
    })
}

/// Runs the tests of the interpreter with a build that checks more, also the tests that need its fault points.
fn checked(workspace: &Workspace, build: &Build) -> Result<()> {
    let (files, tests) = unsuitable(build.profile);
    // Not `--package`: cargo would then build the dependencies again, with fewer features.
    let mut arguments = vec!["test".to_owned(), "--workspace".to_owned()];
    let directory = workspace.root().join("tests/tests");
    for file in mirror::files(&directory)? {
        let name = file.file_stem().unwrap_or_default().to_string_lossy();
        let is_unsuitable = files.iter().any(|start| name.starts_with(start));
        if file.extension().is_some_and(|ending| ending == "rs") && !is_unsuitable {
            arguments.push(format!("--test={name}"));
        }
    }
    arguments.extend(["--", "--include-ignored"].map(str::to_owned));
    arguments.extend(tests.iter().map(|test| format!("--skip={test}")));
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let mut command = cargo_command(workspace, build, &arguments);
    command.env(
        "CPYTHON_CDS_PYTHON",
        interpreter::program(&build.installation())?,
    );
    counted(&mut command)
}

/// Tests that do not work with a profile: files by prefixes of their names, and tests by parts of their names.
fn unsuitable(profile: Profile) -> (&'static [&'static str], &'static [&'static str]) {
    match profile {
        Profile::Dev | Profile::Release | Profile::ReleaseCheck => (&[], &[]),
        Profile::Debug => (
            // `image_memory_fuzz` and `random_programs` take minutes with an allocator that checks each block. With
            // this allocator, `image_report` finds more differences than its list allows: new objects in the image's
            // arenas. `kept` works only with malloc. The commands of `documentation` do not depend on the profile.
            // `command_line` tests tools, whose panics `faults` tests, too, and takes a minute. `package` needs a package.
            &[
                "command_line",
                "documentation",
                "image_memory_fuzz",
                "image_report",
                "kept",
                "package",
                "random_programs",
            ],
            &[
                // Its output contains addresses.
                "real_programs",
                // Its output contains random names of files, in warnings that only a debug build gives.
                "what_libraries_do_at_the_end",
                // They repeat many times what other tests do.
                "a_day_of_starts",
                "random_changes",
                "tests_of_cpython_pass",
            ],
        ),
        // AddressSanitizer needs memory that these tests limit, uses more address space than an image can contain, and
        // replaces malloc.
        Profile::Sanitize => (
            &[
                "auto_image",
                "cache",
                "image_",
                "kept",
                "package",
                "program_image",
                "restored_process",
                "startup_image",
                "random_programs",
            ],
            &[
                "real_programs",
                "with_little",
                "with_few",
                "under_any_limits",
                "each_call_for_a_dump",
                "the_commands_of_the_readme",
                // AddressSanitizer needs /proc, and a set-user-ID process does not get its options.
                "without_proc",
                "by_a_program_with_more_rights",
            ],
        ),
    }
}

/// Runs the suites of packages, which the crate of the tests contains.
fn packages(workspace: &Workspace, choice: &Choice, names: &[String]) -> Result<()> {
    let stock = {
        let _lock = workspace.lock()?;
        let stock = build_python::build(workspace, choice, true)?;
        interpreter::program(&stock.installation())?
    };
    let stock = stock.to_string_lossy();
    let mut arguments = vec![&*stock];
    arguments.extend(names.iter().map(String::as_str));
    program_of_tests(workspace, choice, "suites", &arguments)
}

/// Builds the interpreter and runs a program of the crate of the tests on it.
fn program_of_tests(
    workspace: &Workspace,
    choice: &Choice,
    name: &str,
    arguments: &[&str],
) -> Result<()> {
    let build = {
        let _lock = workspace.lock()?;
        build_python::build(workspace, choice, false)?
    };
    run_program(workspace, &build, name, arguments)
}

/// Runs a program of the crate of the tests.
fn run_program(workspace: &Workspace, build: &Build, name: &str, arguments: &[&str]) -> Result<()> {
    let program = [
        "run",
        "--quiet",
        "--package",
        "cpython-cds-tests",
        "--bin",
        name,
        "--",
    ];
    cargo(workspace, build, &[&program, arguments].concat())
}

fn step<T>(title: &str, work: impl FnOnce() -> Result<T>) -> Result<T> {
    eprintln!("== {title}");
    let start = Instant::now();
    let result = work().with_context(|| format!("{title} failed"))?;
    eprintln!("== {title}: ok ({:.1} s)\n", start.elapsed().as_secs_f64());
    Ok(result)
}

/// A step that needs a component which a minimal Rust toolchain does not have. Without the component, the step is
/// skipped.
fn optional(component: &str, subcommand: &str, work: impl FnOnce() -> Result<()>) -> Result<()> {
    let probe = Workspace::new()
        .cargo()
        .args([subcommand, "--version"])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    if probe.is_ok_and(|status| status.success()) {
        return step(&format!("cargo {subcommand}"), work);
    }
    let lack = format!("the toolchain lacks cargo {subcommand} (rustup component add {component})");
    ensure!(
        !forbids_skips(),
        "nothing may be left out (CDS_NO_SKIPS): {lack}"
    );
    eprintln!("== cargo {subcommand}: left out, {lack}\n");
    Ok(())
}

/// Whether no test may be skipped. The tests use the same variable (tests/src/skips.rs).
fn forbids_skips() -> bool {
    env::var_os("CDS_NO_SKIPS").is_some_and(|value| value == "1")
}

/// Runs tests, and counts what they have skipped.
fn counted(command: &mut Command) -> Result<()> {
    let notes = tempfile::NamedTempFile::new().context("cannot create a file for notes")?;
    finish(command.env("CDS_SKIPS", notes.path()))?;
    let text = fs::read_to_string(notes.path()).context("cannot read the notes of the tests")?;
    eprintln!(
        "== left out by tests, for what this machine lacks: {}",
        text.lines().count()
    );
    for line in text.lines() {
        eprintln!("   {line}");
    }
    Ok(())
}

fn cargo(workspace: &Workspace, build: &Build, arguments: &[&str]) -> Result<()> {
    finish(&mut cargo_command(workspace, build, arguments))
}

fn cargo_command(workspace: &Workspace, build: &Build, arguments: &[&str]) -> Command {
    let mut command = workspace.cargo();
    command.args(arguments).envs(runtime::environment(build));
    let (name, options) = interpreter::SANITIZER_OPTIONS;
    if build.profile == Profile::Sanitize && env::var_os(name).is_none() {
        command.env(name, options);
    }
    command
}

fn finish(command: &mut Command) -> Result<()> {
    let status = command.status().context("cannot run cargo")?;
    let arguments: Vec<_> = command.get_args().map(OsStr::to_string_lossy).collect();
    ensure!(status.success(), "cargo {} ({status})", arguments.join(" "));
    Ok(())
}
