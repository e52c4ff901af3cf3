//! `cargo xtask kept` finds the values that modules keep, and the catalogue is correct for the standard library.

use std::process::Command;

use cpython_cds_tests::{Outcome, Project, clean, compile, python, repository};
use tempfile::tempdir;

/// Compares runs that import modules of the project's directory `lib`.
fn compare(project: &Project, arguments: &[&str]) -> Outcome {
    let directory = tempdir().unwrap();
    let settings = directory.path().join("settings");
    let settings = format!("-DSETTINGS=\"{}\"", settings.display());
    let source = include_str!("../../xtask/kept/other_run.c");
    let library = compile(
        &directory,
        "other_run",
        source,
        &["-shared", "-fPIC", &settings],
    );
    let mut command = Command::new("setarch");
    clean(&mut command);
    command
        .env("PYTHONPATH", project.path("lib"))
        .arg("--addr-no-randomize")
        .arg(python())
        .arg(repository().join("xtask/kept/compare.py"))
        .arg("--library")
        .arg(library)
        .arg("--directory")
        .arg(directory.path())
        .args(arguments);
    Outcome::of(&mut command).success()
}

/// The report about modules, which get the names `keeper0` and so on.
fn said<'a>(modules: impl Iterator<Item = &'a str>) -> String {
    let project = Project::new(&[]);
    let mut names = Vec::new();
    for (number, module) in modules.enumerate() {
        project.write(&format!("lib/keeper{number}.py"), module);
        names.push(format!("keeper{number}"));
    }
    compare(&project, &Vec::from_iter(names.iter().map(String::as_str))).stdout
}

#[test]
fn what_is_kept_is_found() {
    // Modules, what they look at, and where they keep the value.
    let keeping = [
        ("import time\nstart = time.time()\n", "the clock", "start"),
        (
            "import time\nyears = {'first': [time.gmtime().tm_year]}\n",
            "the clock",
            "years['first'][0]",
        ),
        (
            "import os\ntoken = os.urandom(8).hex()\n",
            "random bytes",
            "token",
        ),
        (
            "import os\nclass Owner:\n    __slots__ = ('process',)\nowner = Owner()\nowner.process = os.getpid()\n",
            "the process id",
            "owner.process",
        ),
        (
            "import os\ndef made(process):\n    return lambda: process\nask = made(os.getpid())\n",
            "the process id",
            "ask.<process>.<0>",
        ),
        (
            "import random\ngenerator = random.Random()\n",
            "random bytes",
            "generator",
        ),
        (
            "import os\ndef name(where=os.uname().nodename): pass\n",
            "the name of the system or the host",
            "name.__defaults__[0]",
        ),
        (
            "import resource\nmost = resource.getrlimit(resource.RLIMIT_NOFILE)[0]\n",
            "the set of resource limits",
            "most",
        ),
    ];
    let said = said(keeping.iter().map(|(module, _, _)| *module));
    for (number, (module, what, path)) in keeping.iter().enumerate() {
        let head = format!("keeper{number}: {what}\n  keeper{number}.{path}: ");
        let (_, found) = said
            .split_once(&head)
            .unwrap_or_else(|| panic!("{module}: {said}"));
        let (_, verdict) = found.split_once("\n  keeps ").unwrap();
        assert!(
            verdict.starts_with("what is not renewed\n"),
            "{module}: {said}"
        );
    }
}

#[test]
fn what_is_not_kept_is_not_found() {
    let looking = [
        "import time\ntime.time()\n",
        "import os\nhalf = len(os.urandom(8)) // 2\n",
    ];
    let expected = "\
keeper0: the clock
  keeps nothing
  suggestion: (\"keeper0\", _CLOCK): \"not kept\",
keeper1: random bytes
  keeps nothing
  suggestion: (\"keeper1\", _RANDOM): \"not kept\",
";
    assert_eq!(said(looking.into_iter()), expected);
    let nothing = "looks at nothing that differs from run to run\n";
    assert_eq!(said(["import json, re\n"].into_iter()), nothing);
}

#[test]
fn the_catalogue_is_right_about_the_standard_library() {
    let project = Project::new(&[]);
    let said = compare(&project, &["--catalogue=standard"]).stdout;
    for line in [
        "logging: the clock: renewed\n",
        "multiprocessing.process: random bytes: renewed\n",
        "random: random bytes: renewed\n",
        "multiprocessing.heap: the process id: renewed\n",
    ] {
        assert!(said.contains(line), "{said}");
    }
}
