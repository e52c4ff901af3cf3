//! CPython's own test suite, with stock and with archives, in several ways: a test that fails with an archive must also
//! fail with stock.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail, ensure};
use xshell::cmd;

use crate::build_python::{self, Choice};
use crate::interpreter;
use crate::progress::Phase;
use crate::stamp;
use crate::workspace::{Build, Workspace};

/// Which files of the suite are run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Extent {
    /// About 70 files about features that archives can affect
    Representative,
    /// All files, with the resources that need no network: hours
    Full,
}

/// Imports, code objects, start and end of an interpreter, threads, subinterpreters, strings, tracing.
const REPRESENTATIVE: &[&str] = &[
    "test_atexit",
    "test_builtin",
    "test_bytes",
    "test_capi",
    "test_cmd_line",
    "test_cmd_line_script",
    "test_code",
    "test_code_module",
    "test_compile",
    "test_compileall",
    "test_dict",
    "test_dis",
    "test_doctest",
    "test_dynamicclassattribute",
    "test_embed",
    "test_ensurepip",
    "test_exceptions",
    "test_faulthandler",
    "test_fork1",
    "test_frame",
    "test_frozen",
    "test_funcattrs",
    "test_gc",
    "test_generators",
    "test_import",
    "test_importlib",
    "test_inspect",
    "test_interpreters",
    "test_marshal",
    "test_modulefinder",
    "test_monitoring",
    "test_multiprocessing_fork",
    "test_opcache",
    "test_pdb",
    "test_pickle",
    "test_pkgutil",
    "test_py_compile",
    "test_pyclbr",
    "test_re",
    "test_regrtest",
    "test_reprlib",
    "test_runpy",
    "test_set",
    "test_site",
    "test_string",
    "test_subprocess",
    "test_super",
    "test_support",
    "test_sys",
    "test_sys_setprofile",
    "test_sys_settrace",
    "test_sysconfig",
    "test_threadedtempfile",
    "test_threading",
    "test_trace",
    "test_traceback",
    "test_tracemalloc",
    "test_type_cache",
    "test_types",
    "test_typing",
    "test_unicode_identifiers",
    "test_unittest",
    "test_utf8_mode",
    "test_venv",
    "test_warnings",
    "test_weakref",
    "test_zipimport",
];

/// How the interpreter under test is run.
struct Way {
    name: &'static str,
    program: PathBuf,
    environment: Vec<(&'static str, String)>,
    /// Options of the process in which all tests run, one after the other. If empty, regrtest uses two processes.
    options: Vec<String>,
}

/// The result of a run.
struct Findings {
    failed: BTreeSet<String>,
    /// The last lines: how many tests ran, failed and were skipped.
    summary: String,
}

/// Runs the suite in all ways, and compares the results.
pub fn run(workspace: &Workspace, choice: &Choice, extent: Extent) -> Result<()> {
    let (build, stock) = {
        let _lock = workspace.lock()?;
        let build = build_python::build(workspace, choice, false)?;
        let stock = build_python::build(workspace, choice, true)?;
        (build, stock)
    };
    let directory = logs(workspace)?;
    let mut ways = ways(workspace, &build, &stock, &directory)?;
    ways.push(match extent {
        Extent::Representative => restored(&build, &directory)?,
        Extent::Full => each_restored(&build, &directory)?,
    });
    let mut expected = BTreeSet::new();
    let mut worse = Vec::new();
    for (index, way) in ways.iter().enumerate() {
        let arguments = match extent {
            Extent::Representative => REPRESENTATIVE,
            Extent::Full => &["-u", "all,-network,-urlfetch,-gui,-audio,-largefile"],
        };
        let findings = run_way(way, arguments, &directory)?;
        eprintln!("  {}: {}", way.name, findings.summary);
        if index == 0 {
            expected = findings.failed;
        } else {
            worse.extend(
                findings
                    .failed
                    .difference(&expected)
                    .map(|test| format!("{test} ({})", way.name)),
            );
        }
    }
    for test in &expected {
        eprintln!("  fails with stock too: {test}");
    }
    if worse.is_empty() {
        return Ok(());
    }
    bail!(
        "these fail, and not with stock: {}; the logs are in {}",
        worse.join(", "),
        directory.display()
    )
}

/// Runs a representative part with everything archived. A test that fails must also fail without any archive.
pub fn run_archived(workspace: &Workspace, build: &Build) -> Result<()> {
    let directory = logs(workspace)?;
    let program = interpreter::program(&build.installation())?;
    let way = |name, value: String| Way {
        name,
        program: program.clone(),
        environment: vec![("PYTHON_CDS", value)],
        options: vec![],
    };
    let archive = archive_everything(&program, &directory)?;
    let archived = way("everything archived", archive.display().to_string());
    let findings = run_way(&archived, REPRESENTATIVE, &directory)?;
    eprintln!("  {}", findings.summary);
    if findings.failed.is_empty() {
        return Ok(());
    }
    let failed: Vec<&str> = findings.failed.iter().map(String::as_str).collect();
    let expected = run_way(&way("no archive", "off".to_owned()), &failed, &directory)?.failed;
    for test in &expected {
        eprintln!("  fails without archives too: {test}");
    }
    let worse: Vec<&str> = failed
        .into_iter()
        .filter(|&test| !expected.contains(test))
        .collect();
    ensure!(
        worse.is_empty(),
        "these fail only with archives: {}; the logs are in {}",
        worse.join(", "),
        directory.display()
    );
    Ok(())
}

fn logs(workspace: &Workspace) -> Result<PathBuf> {
    let directory = workspace.root().join("target/cpython-tests");
    fs::create_dir_all(&directory)
        .with_context(|| format!("cannot create {}", directory.display()))?;
    Ok(directory)
}

/// An archive of the standard library and its tests that needs no other archive.
fn archive_everything(program: &Path, directory: &Path) -> Result<PathBuf> {
    let archive = directory.join("everything.img");
    stamp::remove_file(&archive)?;
    let phase = Phase::start("archive the library and its tests");
    let mut dump = interpreter::python_free(program);
    dump.args(["-X", "cds=off", "-m", "cds", "dump", "--quiet"]);
    dump.args(["--stdlib", "--package", "test,idlelib,ensurepip"]);
    phase.run(dump.arg(&archive), &directory.join("dump.log"))?;
    phase.done();
    Ok(archive)
}

fn ways(workspace: &Workspace, build: &Build, stock: &Build, directory: &Path) -> Result<Vec<Way>> {
    let program = interpreter::program(&build.installation())?;
    let archive = archive_everything(&program, directory)?;
    let way = |name, program: &Path, environment| Way {
        name,
        program: program.to_owned(),
        environment,
        options: vec![],
    };
    let taker = directory.join("address_taker.so");
    let source = workspace.root().join("tests/src/address_taker.c");
    let shell = workspace.shell()?;
    cmd!(shell, "cc -D_GNU_SOURCE -shared -fPIC -o {taker} {source}")
        .quiet()
        .run()?;
    let everything = ("PYTHON_CDS", archive.display().to_string());
    Ok(vec![
        way(
            "stock",
            &interpreter::program(&stock.installation())?,
            vec![],
        ),
        way("standard archive", &program, vec![]),
        way("everything archived", &program, vec![everything.clone()]),
        way(
            "everything archived and relocated",
            &program,
            vec![everything, ("LD_PRELOAD", taker.display().to_string())],
        ),
    ])
}

/// One file after the other in a process that was restored from a startup image.
fn restored(build: &Build, directory: &Path) -> Result<Way> {
    let program = interpreter::program(&build.installation())?;
    let archive = take_image(&program, directory, &[], &[])?;
    Ok(Way {
        name: "restored from a startup image",
        program,
        environment: vec![],
        options: vec!["-X".to_owned(), format!("cds={}", archive.display())],
    })
}

/// Each file in its own restored process: the image is taken with the options and variables with which regrtest starts
/// its workers.
fn each_restored(build: &Build, directory: &Path) -> Result<Way> {
    // regrtest sets this variable, if it is not set.
    const VARIABLE: (&str, &str) = ("PYTHONREGRTEST_UNICODE_GUARD", "\u{e9}");
    let program = interpreter::program(&build.installation())?;
    let archive = take_image(&program, directory, &["-u"], &[VARIABLE])?;
    Ok(Way {
        name: "each file restored from a startup image",
        program,
        environment: vec![
            ("PYTHON_CDS", archive.display().to_string()),
            (VARIABLE.0, VARIABLE.1.to_owned()),
        ],
        options: vec![],
    })
}

fn take_image(
    program: &Path,
    directory: &Path,
    options: &[&str],
    variables: &[(&str, &str)],
) -> Result<PathBuf> {
    let (list, archive) = (directory.join("image.lst"), directory.join("image.img"));
    fs::write(&list, "json\n").with_context(|| format!("cannot write {}", list.display()))?;
    let phase = Phase::start("take a startup image");
    let mut dump = interpreter::python_free(program);
    dump.envs(variables.iter().copied()).args(options);
    dump.args(["-m", "cds", "dump", "--quiet", "--image"]);
    phase.run(dump.arg(&list).arg(&archive), &directory.join("dump.log"))?;
    phase.done();
    Ok(archive)
}

fn run_way(way: &Way, arguments: &[&str], directory: &Path) -> Result<Findings> {
    let log = directory.join(format!("{}.log", way.name.replace(' ', "-")));
    let scratch = tempfile::tempdir().context("cannot create a temporary directory")?;
    // Background jobs of a shell ignore SIGINT. Tests that send SIGINT to themselves would then never end.
    let mut command: Command = interpreter::python_free(Path::new("env"));
    command
        .arg("--default-signal=INT,QUIT")
        .arg(&way.program)
        .current_dir(scratch.path())
        .envs(way.environment.iter().map(|(name, value)| (name, value)))
        .args(&way.options)
        .args(["-m", "test", "--timeout", "900"])
        .args(way.options.is_empty().then_some("-j2"))
        .arg("--tempdir")
        .arg(scratch.path())
        .args(arguments);
    let phase = Phase::start(format!("test suite, {}", way.name));
    let output = File::create(&log).with_context(|| format!("cannot create {}", log.display()))?;
    let errors = output.try_clone().context("cannot share the log")?;
    // The status is ignored: the log says which tests fail.
    command
        .stdin(Stdio::null())
        .stdout(output)
        .stderr(errors)
        .status()
        .with_context(|| format!("cannot run {}", way.program.display()))?;
    phase.done();
    let text =
        fs::read_to_string(&log).with_context(|| format!("cannot read {}", log.display()))?;
    findings(&text).with_context(|| format!("the suite did not finish: {}", log.display()))
}

/// Reads the end of regrtest's report.
fn findings(text: &str) -> Option<Findings> {
    let mut failed = BTreeSet::new();
    let mut is_list = false;
    for line in text.lines() {
        if line.ends_with(" failed:")
            || line.contains(" run no tests:")
            || line.contains(" skipped")
        {
            is_list = line.ends_with(" failed:");
        } else if is_list && line.starts_with("    ") {
            failed.extend(line.split_whitespace().map(str::to_owned));
        } else {
            is_list = false;
        }
    }
    let tests = text.lines().find(|line| line.starts_with("Total tests:"))?;
    let files = text
        .lines()
        .find(|line| line.starts_with("Total test files:"))?;
    Some(Findings {
        failed,
        summary: format!("{tests}; {files}"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_a_report_is_understood() {
        let report = "\
0:01:00 load avg: 1.0 [3/3/1] test_b failed

== Tests result: FAILURE ==

2 tests failed:
    test_b test_c

3 tests skipped:
    test_x test_y test_z

1 test OK.

Total duration: 1 min
Total tests: run=44 failures=2 skipped=3
Total test files: run=3/6 failed=2 skipped=3
Result: FAILURE
";
        let found = findings(report).expect("a whole report");
        assert_eq!(Vec::from_iter(found.failed), ["test_b", "test_c"]);
        assert!(found.summary.starts_with("Total tests: run=44"));
        assert!(findings("0:00:01 [1/3] test_a\n").is_none());
    }
}
