//! System calls fail, one after the other: strace(1) injects the errors.

use std::collections::BTreeMap;
use std::fs;
use std::process::Command;

use cpython_cds_tests::{Outcome, Project, clean, python};

fn project() -> Project {
    let project = Project::new(&[
        (
            "app.py",
            "import json, shop\nprint(shop.total(), json.dumps([1]))\n",
        ),
        ("shop.py", "def total(): return 3\n"),
    ]);
    project.dump(["app.py"]);
    project
}

/// The interpreter under strace. If `paths` is not empty, only calls for these files are traced.
fn strace(project: &Project, paths: &[&str], fault: &str) -> Command {
    let mut command = Command::new("strace");
    clean(&mut command);
    command
        .current_dir(project.path(""))
        .args(["-qq", "-f", "-o", "calls.txt"]);
    for path in paths {
        command.arg("-P").arg(path);
        command.arg("-P").arg(project.path(path));
    }
    command.args(["-e", fault]).arg(python());
    command
}

/// The number of calls in the last run, by name.
fn calls(project: &Project) -> BTreeMap<String, usize> {
    let mut counts = BTreeMap::new();
    for line in fs::read_to_string(project.path("calls.txt"))
        .unwrap()
        .lines()
    {
        // 1234 open("app.cds", ...) = 3
        let call = line.split_once('(').map(|(start, _)| start);
        if let Some(name) = call.and_then(|start| start.split_whitespace().last()) {
            *counts.entry(name.to_owned()).or_default() += 1;
        }
    }
    counts
}

/// A filter of system calls that was made for stock CPython may kill a process for any other call.
#[test]
fn the_archive_of_the_standard_library_needs_no_other_calls() {
    let project = project();
    let names = |arguments: &[&str]| {
        let mut command = strace(&project, &[], "trace=all");
        Outcome::of(
            command
                .args(arguments)
                .args(["-c", "import json, ssl, subprocess, shop"]),
        )
        .success();
        calls(&project).into_keys().collect::<Vec<_>>()
    };
    let (with, without) = (names(&[]), names(&["-X", "cds=off"]));
    let more: Vec<_> = with.iter().filter(|name| !without.contains(name)).collect();
    assert_eq!(more, [] as [&String; 0]);
}

/// If opening, examining, reading, mapping or closing an archive fails, a line says what failed, and the program runs.
#[test]
fn each_call_for_an_archive_may_fail() {
    let project = project();
    let run = |fault: &str| {
        let mut command = strace(&project, &["app.cds"], fault);
        Outcome::of(command.args(["-X", "cds=app.cds", "app.py"])).success()
    };
    let expected = run("trace=all").stdout;
    let calls = calls(&project);
    assert!(calls.len() >= 5, "{calls:?}");
    let (mut refused, mut harmless) = (0, 0);
    for error in ["EIO", "ENOMEM", "EACCES"] {
        for (name, count) in &calls {
            for when in 1..=*count {
                let outcome = run(&format!("inject={name}:error={error}:when={when}"));
                let made = fs::read_to_string(project.path("calls.txt")).unwrap();
                assert!(made.contains("(INJECTED)"), "{name} {when}: {made}");
                assert_eq!(outcome.stdout, expected, "{name} {when}: {outcome:?}");
                let lines = outcome
                    .stderr
                    .lines()
                    .filter(|line| line.starts_with("cds: "));
                match lines.collect::<Vec<_>>()[..] {
                    [line] => {
                        assert!(
                            line.starts_with("cds: app.cds is not used: cannot "),
                            "{line}"
                        );
                        refused += 1;
                    }
                    // Calls that only save time, or only release something, may fail without a message.
                    [] => harmless += 1,
                    _ => panic!("{outcome:?}"),
                }
            }
        }
    }
    assert!(refused > harmless, "{refused} refused, {harmless} harmless");
}

/// If a system call of a dump fails, the dump keeps the existing archive and reports the failure.
#[test]
fn each_call_for_a_dump_may_fail() {
    let project = project();
    let mut failed = 0;
    let dump = [
        "-X", "cds=off", "-m", "cds", "dump", "-q", "app.lst", "app.cds",
    ];
    Outcome::of(strace(&project, &[], "trace=all").args(dump)).success();
    let counts = calls(&project);
    for (name, error) in [
        ("write", "ENOSPC"),
        ("fsync", "EIO"),
        ("renameat", "EPERM"),
        ("utimensat", "EPERM"),
        ("openat", "EMFILE"),
        ("mmap", "ENOMEM"),
    ] {
        // The last calls of each name are those that write the archive.
        let count = *counts
            .get(name)
            .unwrap_or_else(|| panic!("no {name}: {counts:?}"));
        for when in count.saturating_sub(3).max(1)..=count {
            let before = fs::read(project.path("app.cds")).unwrap();
            let fault = format!("inject={name}:error={error}:when={when}");
            let outcome = Outcome::of(strace(&project, &[], &fault).args(dump));
            match outcome.status {
                0 => {}
                1 => {
                    failed += 1;
                    assert!(outcome.stderr.contains("error: "), "{outcome:?}");
                    assert_eq!(
                        fs::read(project.path("app.cds")).unwrap(),
                        before,
                        "{outcome:?}"
                    );
                }
                _ => panic!("{name} {when}: {outcome:?}"),
            }
            let verify = project.run(["-m", "cds", "verify", "app.cds"]);
            assert_eq!(verify.status, 0, "{name} {when}: {verify:?}");
        }
    }
    assert!(failed >= 4, "{failed}");
    let left = fs::read_dir(project.path(""))
        .unwrap()
        .map(|entry| entry.unwrap().file_name());
    let left: Vec<_> = left
        .filter(|name| name.to_string_lossy().starts_with(".cds-"))
        .collect();
    assert!(left.is_empty(), "{left:?}");
}
