//! How a start checks that a source file is the one that was dumped: `dump --freshness`.

use std::fs::{self, File};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;
use std::process::Command;
use std::time::{Duration, SystemTime};

use cpython_cds_tests::{Outcome, Project, clean, is_reachable_by_others, python, skip};

const PROGRAM: &[(&str, &str)] = &[
    (
        "app.py",
        "import sys, shop.cart\nprint(shop.cart.total())\n",
    ),
    ("shop/__init__.py", ""),
    ("shop/cart.py", "def total():\n    return 'before'\n"),
];

fn project(freshness: &str) -> Project {
    let project = Project::new(PROGRAM);
    fs::create_dir(project.path("archives")).unwrap();
    project
        .run(["-X", "cds_trace=archives/app.lst", "app.py"])
        .success();
    let dump = ["-m", "cds", "dump", "-q", "--freshness", freshness];
    project
        .run(dump.iter().chain(&["archives/app.lst", "archives/app.cds"]))
        .success();
    project
}

/// Runs the program. Returns its output and the modules that did not come from the archive.
fn run(project: &Project) -> (String, Vec<String>) {
    let stats = "cds_stats=archives/stats.json";
    let options = [
        "-X",
        "cds=archives/app.cds",
        "-X",
        "cds_strict",
        "-X",
        stats,
        "app.py",
    ];
    let outcome = project.run(options).success();
    let report =
        cpython_cds_tests::report::Report::read(&project.path("archives/stats.json")).unwrap();
    let missed = report
        .modules
        .elsewhere
        .into_iter()
        .map(|missed| missed.name);
    (outcome.stdout, missed.collect())
}

fn set_modified(path: &Path, time: SystemTime) {
    File::open(path).unwrap().set_modified(time).unwrap();
}

/// Sets the modification times of all files below a directory to those that `change` returns for the old ones.
fn restamp(directory: &Path, change: &impl Fn(SystemTime) -> SystemTime) {
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            restamp(&path, change);
        } else {
            set_modified(&path, change(path.metadata().unwrap().modified().unwrap()));
        }
    }
    set_modified(
        directory,
        change(directory.metadata().unwrap().modified().unwrap()),
    );
}

fn whole_seconds(time: SystemTime) -> SystemTime {
    let since = time.duration_since(SystemTime::UNIX_EPOCH).unwrap();
    SystemTime::UNIX_EPOCH + Duration::from_secs(since.as_secs())
}

#[test]
fn by_modification_time_a_copy_in_whole_seconds_is_the_same_and_an_edit_is_not() {
    let project = project("mtime");
    assert_eq!(run(&project), ("before\n".into(), vec![]));
    // Layers of container images keep times in whole seconds.
    restamp(&project.path("shop"), &whole_seconds);
    assert_eq!(
        project
            .path("shop/cart.py")
            .metadata()
            .unwrap()
            .mtime_nsec(),
        0
    );
    assert_eq!(run(&project), ("before\n".into(), vec![]));
    restamp(&project.path("shop"), &|time| time - Duration::from_secs(1));
    let missed = vec!["shop".to_owned(), "shop.cart".to_owned()];
    assert_eq!(run(&project), ("before\n".into(), missed));
    project.write("shop/cart.py", "def total():\n    return 'edited'\n");
    assert_eq!(run(&project).0, "edited\n");
}

#[test]
fn by_hash_only_contents_count() {
    let project = project("hash");
    restamp(&project.path("shop"), &|time| {
        time - Duration::from_secs(12345)
    });
    assert_eq!(run(&project), ("before\n".into(), vec![]));
    // An edit that keeps the size and the time.
    let cart = project.path("shop/cart.py");
    let time = cart.metadata().unwrap().modified().unwrap();
    project.write("shop/cart.py", "def total():\n    return 'edited'\n");
    set_modified(&cart, time);
    assert_eq!(
        run(&project),
        ("edited\n".into(), vec!["shop.cart".to_owned()])
    );
    let verify = project.run(["-m", "cds", "verify", "archives/app.cds"]);
    assert!(
        verify.stdout.contains("  shop.cart: source changed: "),
        "{verify:?}"
    );
    // A new package is found, although the archive has an index of its directory.
    project.write(
        "shop/cart/__init__.py",
        "def total():\n    return 'shadowing'\n",
    );
    assert_eq!(run(&project).0, "shadowing\n");
}

#[test]
fn unchecked_the_archive_is_believed() {
    let project = project("unchecked");
    restamp(&project.path("shop"), &|time| {
        time - Duration::from_secs(12345)
    });
    assert_eq!(run(&project), ("before\n".into(), vec![]));
    project.write(
        "shop/cart.py",
        "def total():\n    return 'edited, and longer'\n",
    );
    assert_eq!(run(&project), ("before\n".into(), vec![]));
    let verify = project.run(["-m", "cds", "verify", "archives/app.cds"]);
    assert_eq!(
        verify.status, 1,
        "verify looks at the sources all the same: {verify:?}"
    );
    // A module that is not in the archive is searched for as usual.
    project.write(
        "app.py",
        "import shop.cart, late\nprint(shop.cart.total(), late.x)\n",
    );
    project.write("late.py", "x = 1\n");
    assert_eq!(
        run(&project),
        ("before 1\n".into(), vec!["late".to_owned()])
    );
}

/// As in a container image: the files belong to root, have times in whole seconds, and are read-only for the user who
/// runs the program.
#[test]
fn a_program_runs_from_a_read_only_directory_as_somebody_else() {
    let is_root = rustix::process::geteuid().is_root();
    if is_root && !is_reachable_by_others() {
        skip!("others cannot reach this directory");
    }
    let project = project("unchecked");
    restamp(&project.path(""), &|time| {
        whole_seconds(time) - Duration::from_secs(60)
    });
    fs::set_permissions(project.path(""), fs::Permissions::from_mode(0o555)).unwrap();
    let mut command = if is_root {
        // Like `docker run --user nobody`.
        let mut command = Command::new("setpriv");
        command.args(["--reuid=65534", "--regid=65534", "--clear-groups", "--"]);
        command.arg(fs::canonicalize(python()).unwrap());
        command
    } else {
        Command::new(python())
    };
    clean(&mut command);
    let code = "import app, os, sys; print(os.access('.', os.W_OK), file=sys.stderr)";
    command
        .current_dir(project.path(""))
        .args(["-X", "cds=archives/app.cds"]);
    command.args(["-X", "cds_strict", "-X", "cds_stats", "-B", "-c", code]);
    let outcome = Outcome::of(&mut command);
    fs::set_permissions(project.path(""), fs::Permissions::from_mode(0o755)).unwrap();
    let outcome = outcome.success();
    assert_eq!(outcome.stdout, "before\n");
    assert!(outcome.stderr.starts_with("False\n"), "{}", outcome.stderr);
    // `-c` imports `app`, which ran as `__main__` when it was traced.
    let expected = "from elsewhere: 1\ncds:   app: not in the archive\n";
    assert!(outcome.stderr.contains(expected), "{}", outcome.stderr);
}
