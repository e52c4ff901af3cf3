//! `cargo xtask kept` finds what modules keep, and the catalogue is right about those of the standard library.

use std::process::Command;

use cpython_cds_tests::{Outcome, Project, clean, compile, python, repository};
use tempfile::tempdir;

/// Compares runs, with the modules of the project's directory `lib`.
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

/// What is said of a module `keeper`.
fn said(module: &str) -> String {
    let project = Project::new(&[("lib/keeper.py", module)]);
    compare(&project, &["keeper"]).stdout
}

#[test]
fn what_is_kept_is_found() {
    // Modules, what they look at, and where they keep it.
    let keeping = [
        (
            "import time\nstart = time.time()\n",
            "the clock",
            "keeper.start",
        ),
        (
            "import time\nyears = {'first': [time.gmtime().tm_year]}\n",
            "the clock",
            "keeper.years['first'][0]",
        ),
        (
            "import os\ntoken = os.urandom(8).hex()\n",
            "random bytes",
            "keeper.token",
        ),
        (
            "import os\nclass Owner:\n    __slots__ = ('process',)\nowner = Owner()\nowner.process = os.getpid()\n",
            "the process id",
            "keeper.owner.process",
        ),
        (
            "import os\ndef made(process):\n    return lambda: process\nask = made(os.getpid())\n",
            "the process id",
            "keeper.ask.<process>.<0>",
        ),
        (
            "import random\ngenerator = random.Random()\n",
            "random bytes",
            "keeper.generator",
        ),
        (
            "import os\ndef name(where=os.uname().nodename): pass\n",
            "the name of the system or the host",
            "keeper.name.__defaults__[0]",
        ),
        (
            "import resource\nmost = resource.getrlimit(resource.RLIMIT_NOFILE)[0]\n",
            "its limits",
            "keeper.most",
        ),
    ];
    for (module, what, path) in keeping {
        let said = said(module);
        let (_, found) = said
            .split_once(&format!("keeper: {what}\n"))
            .unwrap_or_else(|| panic!("{module}: {said}"));
        assert!(
            found.starts_with(&format!("  {path}: ")),
            "{module}: {said}"
        );
        assert!(
            found.contains("  keeps what is not renewed\n"),
            "{module}: {said}"
        );
    }
}

#[test]
fn what_is_not_kept_is_not_found() {
    let looking = [
        (
            "import time\ntime.time()\n",
            "the clock",
            "(\"keeper\", _CLOCK): \"not kept\",",
        ),
        (
            "import os\nhalf = len(os.urandom(8)) // 2\n",
            "random bytes",
            "(\"keeper\", _RANDOM): \"not kept\",",
        ),
    ];
    for (module, what, suggestion) in looking {
        let expected = format!("keeper: {what}\n  keeps nothing\n  suggestion: {suggestion}\n");
        assert_eq!(said(module), expected);
    }
    let nothing = "looks at nothing that differs from run to run\n";
    assert_eq!(said("import json, re\n"), nothing);
}

#[test]
fn the_catalogue_is_right_about_the_standard_library() {
    let project = Project::new(&[]);
    let said = compare(&project, &["--catalogue=standard"]).stdout;
    for line in [
        "logging: the clock: renewed\n",
        "multiprocessing.process: random bytes: renewed\n",
        "random: random bytes: renewed\n",
        "_strptime: the clock: not kept\n",
    ] {
        assert!(said.contains(line), "{said}");
    }
}
