//! Dumps that are interrupted: afterwards there is the old archive or the new one, and never a partial one.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::process::{Child, Stdio};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use cpython_cds_tests::{Mode, Outcome, Project};

/// The number of processes, and the starts of a program in each; `CDS_STORM` sets them, for example to `64x100`.
fn storm() -> (usize, usize) {
    let wanted = std::env::var("CDS_STORM").unwrap_or_else(|_| "8x12".to_owned());
    let (processes, starts) = wanted.split_once('x').expect("CDS_STORM is like 64x100");
    (processes.parse().unwrap(), starts.parse().unwrap())
}

fn project() -> Project {
    let project = Project::new(&[
        (
            "app.py",
            "import json, shop.cart\nprint(shop.cart.total(), json.dumps([1]))\n",
        ),
        ("shop/__init__.py", ""),
        ("shop/cart.py", "def total(): return 3\n"),
    ]);
    fs::create_dir(project.path("archives")).unwrap();
    project
        .run(["-X", "cds_trace=archives/app.lst", "app.py"])
        .success();
    dump(&project, &[]).success();
    project
}

fn dump(project: &Project, options: &[&str]) -> Outcome {
    let base = [
        "-m",
        "cds",
        "dump",
        "-q",
        "archives/app.lst",
        "archives/app.cds",
    ];
    project.run(base.iter().chain(options))
}

#[track_caller]
fn assert_works(project: &Project) {
    let options = [
        "-X",
        "cds=archives/app.cds",
        "-X",
        "cds_strict",
        "-X",
        "cds_stats",
        "app.py",
    ];
    let outcome = project.run(options).success();
    assert_eq!(outcome.stdout, "3 [1]\n");
    assert!(
        outcome.stderr.contains("from elsewhere: 0\n"),
        "{}",
        outcome.stderr
    );
}

/// Names in the directory of archives.
fn files(project: &Project) -> Vec<String> {
    let entries = fs::read_dir(project.path("archives")).unwrap();
    let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<_> = names.collect();
    names.sort();
    names
}

#[test]
fn a_full_disk_leaves_the_old_archive() {
    let project = project();
    let before = fs::read(project.path("archives/app.cds")).unwrap();
    let mut command = project.command(["-m", "cds", "dump", "-q"]);
    command.args(["archives/app.lst", "archives/app.cds"]);
    // A limit on the file size has the same effect as a full disk. Python ignores the signal (SIGXFSZ).
    let limit = rustix::process::Rlimit {
        current: Some(8192),
        maximum: Some(8192),
    };
    let set = move || {
        Ok(rustix::process::setrlimit(
            rustix::process::Resource::Fsize,
            limit,
        )?)
    };
    // SAFETY: the closure only calls setrlimit(), which is async-signal-safe (signal-safety(7)).
    unsafe { command.pre_exec(set) };
    let outcome = Outcome::of(&mut command);
    assert_eq!(
        (outcome.status, outcome.stdout.as_str()),
        (1, ""),
        "{outcome:?}"
    );
    assert!(
        outcome
            .stderr
            .starts_with("cds dump: error: cannot write archives/app.cds: File too large"),
        "{}",
        outcome.stderr
    );
    assert_eq!(fs::read(project.path("archives/app.cds")).unwrap(), before);
    assert_eq!(files(&project), ["app.cds", "app.lst"]);
    assert_works(&project);
}

#[test]
fn a_directory_that_cannot_be_written_to_is_told() {
    let project = project();
    if rustix::process::geteuid().is_root() {
        // Root may write to all other directories.
        let outcome = project.run([
            "-m",
            "cds",
            "dump",
            "-q",
            "archives/app.lst",
            "/proc/app.cds",
        ]);
        assert_eq!(outcome.status, 1, "{outcome:?}");
        assert!(
            outcome
                .stderr
                .starts_with("cds dump: error: cannot write /proc/app.cds"),
            "{outcome:?}"
        );
        return;
    }
    let archives = project.path("archives");
    fs::set_permissions(&archives, fs::Permissions::from_mode(0o555)).unwrap();
    let outcome = dump(&project, &[]);
    fs::set_permissions(&archives, fs::Permissions::from_mode(0o755)).unwrap();
    assert_eq!(outcome.status, 1, "{outcome:?}");
    assert!(
        outcome
            .stderr
            .contains("no permission to create files in archives"),
        "{outcome:?}"
    );
    assert_works(&project);
}

/// The dump is killed at different times: early, while it reads modules, while it writes the file.
/// A package is built again and compared with the one that was published.
#[test]
fn two_dumps_of_the_standard_library_are_equal() {
    let project = project();
    let dump = ["-P", "-s", "-m", "cds", "dump", "-q", "--stdlib", "all.cds"];
    let dumped = || {
        let mut command = project.command(["-X", "cds=off"]);
        command.args(dump).env("PYTHONHASHSEED", "0");
        Outcome::of(&mut command).success();
        fs::read(project.path("all.cds")).unwrap()
    };
    assert!(dumped() == dumped());
}

#[test]
fn a_killed_dump_leaves_the_old_archive_or_the_new_one() {
    let project = project();
    for milliseconds in (0..120).step_by(6) {
        let mut command = project.command(["-m", "cds", "dump", "-q"]);
        command.args(["archives/app.lst", "archives/app.cds"]);
        let mut child: Child = command.stdin(Stdio::null()).spawn().unwrap();
        thread::sleep(Duration::from_millis(milliseconds));
        child.kill().unwrap();
        child.wait().unwrap();
        assert_works(&project);
    }
    // A temporary file with another name may be left behind.
    let left = files(&project);
    assert!(
        left.iter()
            .all(|name| ["app.cds", "app.lst"].contains(&&**name) || name.starts_with(".cds-")),
        "{left:?}"
    );
}

#[test]
fn dumps_at_the_same_time_give_a_whole_archive() {
    let project = project();
    let commands = (0..6).map(|_| {
        let mut command = project.command(["-m", "cds", "dump", "-q"]);
        command.args(["archives/app.lst", "archives/app.cds"]);
        command.spawn().unwrap()
    });
    for mut child in commands.collect::<Vec<Child>>() {
        assert!(child.wait().unwrap().success());
    }
    assert_eq!(files(&project), ["app.cds", "app.lst"]);
    assert_works(&project);
}

/// Programs start continuously while the archive is written repeatedly.
#[test]
fn starts_while_the_archive_is_replaced() {
    let project = project();
    let (processes, starts) = storm();
    let expected = project.run_in(Mode::Off, ["app.py"]).success();
    let (is_over, dumps) = (AtomicBool::new(false), AtomicUsize::new(0));
    thread::scope(|scope| {
        scope.spawn(|| {
            while !is_over.load(Ordering::Relaxed) {
                let outcome = dump(&project, &[]);
                is_over.fetch_or(outcome.status != 0, Ordering::Relaxed);
                outcome.success();
                dumps.fetch_add(1, Ordering::Relaxed);
            }
        });
        let starters: Vec<_> = (0..processes)
            .map(|_| {
                scope.spawn(|| {
                    let mut done = 0;
                    while (done < starts || dumps.load(Ordering::Relaxed) < 4)
                        && !is_over.load(Ordering::Relaxed)
                    {
                        let outcome = project.run(["-X", "cds=archives/app.cds", "app.py"]);
                        assert_eq!(outcome, expected);
                        done += 1;
                    }
                })
            })
            .collect();
        let results: Vec<_> = starters.into_iter().map(|starter| starter.join()).collect();
        is_over.store(true, Ordering::Relaxed);
        assert!(results.iter().all(Result::is_ok), "a start went wrong");
    });
}

/// An archive is removed while a program has mapped it: the mapping stays valid.
#[test]
fn a_removed_archive_stays_for_those_that_use_it() {
    let project = project();
    let code = "\
import os, sys
os.remove('archives/app.cds')
import json, shop.cart
print(shop.cart.total(), json.dumps([1]))
";
    let outcome = project
        .run(["-X", "cds=archives/app.cds", "-X", "cds_stats", "-c", code])
        .success();
    assert_eq!(outcome.stdout, "3 [1]\n");
    assert!(
        outcome.stderr.contains("from elsewhere: 0\n"),
        "{}",
        outcome.stderr
    );
}
