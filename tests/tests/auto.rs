//! `-X cds_auto=FILE`: the archive writes and renews itself, and the program notices nothing of it.

use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};
use std::{fs, thread};

use cpython_cds_tests::{Outcome, Project};

const PROGRAM: &[(&str, &str)] = &[
    (
        "app.py",
        "import sys, helper\nprint(helper.x)\nsys.exit(3)\n",
    ),
    ("other.py", "import helper2\n"),
    ("helper.py", "x = 'first'\n"),
    (
        "helper2.py",
        "import re\npattern = re.compile('zq[a-z]+(?P<tail>.)')\n",
    ),
];

/// A program that has run before, so that its directories do not change any more.
fn project() -> Project {
    let project = Project::new(PROGRAM);
    for script in ["app.py", "other.py"] {
        project.run([script]);
    }
    project
}

fn auto(project: &Project, script: &str) -> Outcome {
    project.run(["-X", "cds_auto=app.img", "-X", "cds_stats", script])
}

/// Runs the script until all that it loads comes from an archive: another process is at work on it.
fn run_until_archived(project: &Project, script: &str) -> Outcome {
    let start = Instant::now();
    loop {
        let outcome = auto(project, script);
        if outcome.stderr.contains("app.img in place")
            && outcome.stderr.contains("from elsewhere: 0\n")
        {
            return outcome;
        }
        assert!(
            start.elapsed() < Duration::from_secs(60),
            "it is not written: {}",
            outcome.stderr
        );
        thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn the_first_run_writes_it_and_the_next_ones_use_it() {
    let project = project();
    let plain = project.run(["app.py"]);
    let first = project.run(["-X", "cds_auto=app.img", "app.py"]);
    assert_eq!(first, plain);
    let archived = run_until_archived(&project, "app.py");
    assert_eq!(
        (archived.stdout, archived.status),
        (plain.stdout, plain.status)
    );
}

#[test]
fn an_edited_source_renews_it() {
    let project = project();
    run_until_archived(&project, "app.py");
    project.write("helper.py", "x = 'edited since'\n");
    let stale = auto(&project, "app.py");
    assert_eq!(stale.stdout, "edited since\n");
    assert!(
        stale.stderr.contains("helper: source changed\n"),
        "{}",
        stale.stderr
    );
    assert_eq!(
        run_until_archived(&project, "app.py").stdout,
        "edited since\n"
    );
}

#[test]
fn its_freshness_policy_stays() {
    let project = project();
    let dump = ["-m", "cds", "dump", "-q", "--freshness", "hash", "app.img"];
    project
        .run(dump.iter().chain(&["--script", "app.py"]))
        .success();
    project.write("helper.py", "x = 'second'\n");
    assert_eq!(run_until_archived(&project, "app.py").stdout, "second\n");
    let inspected = project.run(["-m", "cds", "inspect", "app.img"]).success();
    assert!(
        inspected.stdout.contains("sources are known by  hash\n"),
        "{}",
        inspected.stdout
    );
}

#[test]
fn what_other_runs_need_stays_in_it() {
    let project = project();
    run_until_archived(&project, "app.py");
    run_until_archived(&project, "other.py");
    let again = auto(&project, "app.py");
    assert!(
        again.stderr.contains("from elsewhere: 0\n"),
        "{}",
        again.stderr
    );
}

#[test]
fn what_cannot_be_archived_does_not_renew_it_again() {
    let project = project();
    project.write("broken.py", "def\n");
    project.write(
        "app.py",
        "import helper\ntry:\n    import broken\nexcept SyntaxError:\n    print('broken')\n",
    );
    let start = Instant::now();
    loop {
        let outcome = auto(&project, "app.py");
        assert_eq!(outcome.stdout, "broken\n");
        if outcome.stderr.contains("broken: cannot be archived\n") {
            break;
        }
        assert!(
            start.elapsed() < Duration::from_secs(60),
            "{}",
            outcome.stderr
        );
        thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn a_place_that_cannot_be_written_to_fails_no_run() {
    let project = project();
    let plain = project.run(["app.py"]);
    for place in ["none/app.img", "app.py", "/dev/null", "/proc/app.img"] {
        let option = format!("cds_auto={place}");
        assert_eq!(project.run(["-X", &option, "app.py"]), plain, "{place}");
    }
    let text = fs::read_to_string(project.path("app.py")).expect("it is there");
    assert!(
        text.starts_with("import"),
        "a program is no archive to be overwritten: {text}"
    );
}

#[test]
fn an_archive_that_others_could_change_is_not_used() {
    let project = project();
    run_until_archived(&project, "app.py");
    let everybody = fs::Permissions::from_mode(0o666);
    fs::set_permissions(project.path("app.img"), everybody).expect("the mode can be changed");
    let outcome = auto(&project, "app.py");
    assert!(
        !outcome.stderr.contains("app.img in place"),
        "{}",
        outcome.stderr
    );
    assert_eq!(outcome.stdout, "first\n");
}

#[test]
fn many_at_once_leave_one_good_archive() {
    let project = project();
    let start = |_| -> Command {
        let mut command = project.command(["-X", "cds_auto=app.img", "app.py"]);
        command.stdout(Stdio::null());
        command
    };
    let mut children: Vec<_> = (0..16)
        .map(start)
        .map(|mut command| command.spawn().expect("the interpreter can be run"))
        .collect();
    for child in &mut children {
        assert_eq!(child.wait().expect("it ends").code(), Some(3));
    }
    run_until_archived(&project, "app.py");
    let strict = project.run(["-X", "cds=app.img", "-X", "cds_strict", "app.py"]);
    assert_eq!((&*strict.stdout, &*strict.stderr), ("first\n", ""));
}

#[test]
fn an_archive_that_was_chosen_stays_as_it_is() {
    let project = project();
    for choice in ["cds=off", "cds=none.img"] {
        project.run(["-X", choice, "-X", "cds_auto=app.img", "app.py"]);
    }
    run_until_archived(&project, "other.py");
    let stats = auto(&project, "app.py").stderr;
    assert!(stats.contains("helper: not in the archive\n"), "{stats}");
}
