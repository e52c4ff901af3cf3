//! `-X cds_auto=FILE`: a background process writes and renews the archive, and the program does not notice it.

use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use std::{fs, thread};

use cpython_cds_tests::{Outcome, Project, clean, python, settle};

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

/// A program that has already run, so that `.pyc` files no longer change its directories.
fn project() -> Project {
    let project = Project::new(PROGRAM);
    for script in ["app.py", "other.py"] {
        project.run([script]);
    }
    project
}

fn auto(project: &Project, script: &str) -> Outcome {
    project.run(["-X", "cds_auto=app.cds", "-X", "cds_stats", script])
}

/// Ways to end a program without finalizing the interpreter.
const ENDS: [&str; 5] = [
    "os._exit(3)",
    "os.kill(os.getpid(), signal.SIGTERM)",
    "os.kill(os.getpid(), signal.SIGKILL)",
    "os.execv('/bin/echo', ['echo', 'executed'])",
    "os.abort()",
];

/// A program with a module. Without an argument, the program ends in the given way.
fn project_that_ends(end: &str) -> Project {
    let program = format!(
        "import sys, os, signal, helper\nprint(helper.x, flush=True)\nif not sys.argv[1:]: {end}\n"
    );
    let project = Project::new(&[("app.py", &program), ("helper.py", "x = 'first'\n")]);
    project.run(["app.py", "normal"]);
    project
}

/// Asserts that all modules of the program come from the automatic archive.
#[track_caller]
fn assert_archived(project: &Project) {
    let stats = project.run([
        "-X",
        "cds_auto=app.cds",
        "-X",
        "cds_stats",
        "app.py",
        "normal",
    ]);
    assert!(
        stats.stderr.contains("app.cds in place") && stats.stderr.contains("from elsewhere: 0\n"),
        "{stats:?}"
    );
}

/// Runs the script until all its modules come from the archive, which a background process writes.
fn run_until_archived(project: &Project, script: &str) -> Outcome {
    let start = Instant::now();
    loop {
        let outcome = auto(project, script);
        if outcome.stderr.contains("app.cds in place")
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
    let first = project.run(["-X", "cds_auto=app.cds", "app.py"]);
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
    let dump = ["-m", "cds", "dump", "-q", "--freshness", "hash", "app.cds"];
    project
        .run(dump.iter().chain(&["--script", "app.py"]))
        .success();
    project.write("helper.py", "x = 'second'\n");
    assert_eq!(run_until_archived(&project, "app.py").stdout, "second\n");
    let inspected = project.run(["-m", "cds", "inspect", "app.cds"]).success();
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

/// The program works as always, and one line says what is wrong and what to do.
#[test]
fn a_place_that_cannot_be_written_to_fails_no_run() {
    let project = project();
    let plain = project.run(["app.py"]);
    let here = project.path("");
    let here = here.display().to_string();
    let here = here.trim_end_matches('/');
    let other = "give another FILE to cds_auto";
    for (place, reason) in [
        (
            "none/app.cds",
            format!("there is no directory {here}/none; create it, or {other}"),
        ),
        (
            "app.py/app.cds",
            format!("{here}/app.py is not a directory; {other}"),
        ),
        (
            "/dev/null",
            format!("it exists and is not a regular file; {other}"),
        ),
        (
            "app.cds.image",
            format!("it is the name of an image; write cds_auto=app.cds,image, or {other}"),
        ),
        (
            "app.cds,img",
            format!("\",img\" is not a known ending; write cds_auto=app.cds,image, or {other}"),
        ),
    ] {
        let option = format!("cds_auto={place}");
        let outcome = project.run(["-X", &option, "app.py"]);
        assert_eq!(
            (&outcome.stdout, outcome.status),
            (&plain.stdout, plain.status)
        );
        let line = format!("cds: the archive {place} cannot be written: {reason}\n");
        assert_eq!(outcome.stderr, line);
    }
    project.run(["-X", "cds_auto=app.py", "app.py"]);
    settle(&project);
    let text = fs::read_to_string(project.path("app.py")).expect("it is there");
    assert!(
        text.starts_with("import"),
        "a program is no archive to be overwritten: {text}"
    );
}

/// A program without free file descriptors gets no message about the directory.
#[test]
fn a_program_without_descriptors_hears_nothing_of_its_record() {
    let project = project();
    let limited = "import resource, os, sys, helper\nresource.setrlimit(resource.RLIMIT_NOFILE, (3, 3))\nprint(helper.x)\n\
        try: import helper2\nexcept (ImportError, OSError) as error: print(error)\nprint(len(os.environ) > 0)\n";
    project.write("limited.py", limited);
    let early = limited
        .replace(", helper\n", "\n")
        .replace("print(helper.x)\n", "");
    project.write("early.py", &early);
    fs::create_dir(project.path("made")).expect("a directory can be made");
    for script in ["limited.py", "early.py"] {
        let plain = project.run([script]);
        let option = format!("cds_auto=made/{script}.cds");
        assert_eq!(project.run(["-X", &option, script]), plain);
        settle(&project);
        // The first program was recorded before it used up its descriptors. So the archive has the module for which
        // there is none.
        let expected = match (script, plain.stdout.split_once("[Errno 24]")) {
            ("limited.py", Some((head, _))) => format!("{head}True\n"),
            _ => plain.stdout,
        };
        let archived = project.run(["-X", &option, script]);
        assert_eq!(
            (archived.stdout, archived.stderr, archived.status),
            (expected, String::new(), 0)
        );
        settle(&project);
    }
}

/// A complete archive may lie in a directory without write access. A child that inherits the setting does not repeat
/// the message of its parent, even if there is a shell between them.
#[test]
fn a_place_that_cannot_be_written_to_is_told_once() {
    let project = project();
    run_until_archived(&project, "app.py");
    let moved = project.path("read_only");
    fs::create_dir(&moved).expect("a directory can be made");
    fs::rename(project.path("app.cds"), moved.join("app.cds")).expect("it can be moved");
    // Root can write to any directory. So one directory is missing here, and a file is in the place of another one.
    let script = "import subprocess, sys, os, multiprocessing\n\
        if sys.argv[1:]: sys.exit()\n\
        subprocess.run([sys.executable, __file__, 'child'])\n\
        subprocess.run(f'{sys.executable} {__file__} child; true', shell=True)\n\
        if not os.fork(): import helper; os._exit(0)\n\
        os.wait()\n";
    project.write("parent.py", script);
    let run = |archive: &str, script: &str| {
        let mut command = project.command([script]);
        Outcome::of(command.env("PYTHON_CDS_AUTO", archive)).stderr
    };
    let told = run("none/app.cds", "parent.py");
    assert_eq!(told.lines().count(), 1, "{told}");
    assert!(told.starts_with("cds: the archive none/app.cds cannot be written: "));
    assert_eq!(run("read_only/app.cds", "app.py"), "");
}

#[test]
fn an_archive_that_others_could_change_is_not_used() {
    let project = project();
    run_until_archived(&project, "app.py");
    let everybody = fs::Permissions::from_mode(0o666);
    fs::set_permissions(project.path("app.cds"), everybody).expect("the mode can be changed");
    let outcome = auto(&project, "app.py");
    assert!(
        !outcome.stderr.contains("app.cds in place"),
        "{}",
        outcome.stderr
    );
    assert_eq!(outcome.stdout, "first\n");
}

#[test]
fn many_at_once_leave_one_good_archive() {
    let project = project();
    let start = |_| -> Command {
        let mut command = project.command(["-X", "cds_auto=app.cds", "app.py"]);
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
    let strict = project.run(["-X", "cds=app.cds", "-X", "cds_strict", "app.py"]);
    assert_eq!((&*strict.stdout, &*strict.stderr), ("first\n", ""));
}

#[test]
fn an_archive_that_was_chosen_stays_as_it_is() {
    let project = project();
    for choice in ["cds=off", "cds=none.img"] {
        project.run(["-X", choice, "-X", "cds_auto=app.cds", "app.py"]);
    }
    run_until_archived(&project, "other.py");
    let stats = auto(&project, "app.py").stderr;
    assert!(stats.contains("helper: not in the archive\n"), "{stats}");
}

#[test]
fn two_runs_that_end_in_any_way_have_it_written() {
    for end in ENDS {
        let project = project_that_ends(end);
        let plain = project.run(["app.py"]);
        for _ in 0..2 {
            let run = project.run(["-X", "cds_auto=app.cds", "app.py"]);
            assert_eq!(run, plain, "{end}");
            settle(&project);
        }
        assert_archived(&project);
        assert_eq!(project.run(["-X", "cds_auto=app.cds", "app.py"]), plain);
    }
}

/// While a server runs, its record is not used. Other programs are recorded meanwhile. After it was killed, its record is
/// used.
#[test]
fn a_record_is_used_when_its_run_has_ended() {
    let project = project_that_ends("sys.stdin.read()");
    let start = |arguments: &[&str]| -> Child {
        let mut command = project.command(["-X", "cds_auto=app.cds"]);
        command.args(arguments).stdin(Stdio::piped());
        command.stdout(Stdio::piped());
        let mut child = command.spawn().expect("the interpreter can be run");
        let mut line = [0; 6];
        let stdout = child.stdout.as_mut().expect("a pipe");
        stdout.read_exact(&mut line).expect("it says something");
        assert_eq!(&line, b"first\n");
        child
    };
    let mut servers = [start(&["app.py"]), start(&["app.py"])];
    project.write("other.py", "import helper2, os\nos._exit(0)\n");
    project.write("helper2.py", "");
    project.run(["-X", "cds_auto=app.cds", "other.py"]);
    let begun = Instant::now();
    let inspected = loop {
        let inspected = project.run(["-m", "cds", "inspect", "--json", "app.cds"]);
        if inspected.status == 0 || begun.elapsed() > Duration::from_secs(60) {
            break inspected.stdout;
        }
        thread::sleep(Duration::from_millis(20));
    };
    assert!(inspected.contains("\"helper2\"") && !inspected.contains("\"helper\""));
    for server in &mut servers {
        server.kill().expect("it runs");
        server.wait().expect("it is ours");
    }
    settle(&project);
    assert_archived(&project);
}

#[test]
fn many_that_are_killed_at_once_leave_nothing_but_one_archive() {
    let project = project_that_ends("os.kill(os.getpid(), signal.SIGKILL)");
    for index in 0..12 {
        project.write(&format!("lib{index}.py"), "");
    }
    let program = fs::read_to_string(project.path("app.py")).expect("it is there");
    let imports = "import importlib, os\nfor name in os.getenv('NAMES', '').split(): importlib.import_module(name)\n";
    project.write("app.py", &format!("{imports}{program}"));
    for round in 0..2 {
        let start = |index: i32| {
            let mut command = project.command(["-X", "cds_auto=app.cds", "app.py"]);
            command.env("NAMES", format!("lib{} lib{}", index, round * 6 + index));
            command.stdout(Stdio::null());
            command.spawn().expect("the interpreter can be run")
        };
        for mut child in (0..6).map(start).collect::<Vec<_>>() {
            assert_eq!(child.wait().expect("it ends").code(), None);
        }
    }
    project.run(["-X", "cds_auto=app.cds", "app.py"]);
    settle(&project);
    let names: Vec<String> = (0..12).map(|index| format!("lib{index}")).collect();
    let mut last = project.command([
        "-X",
        "cds_auto=app.cds",
        "-X",
        "cds_stats",
        "app.py",
        "normal",
    ]);
    let last = Outcome::of(last.env("NAMES", names.join(" ")));
    assert!(last.stderr.contains("from elsewhere: 0\n"), "{last:?}");
    let mut left: Vec<_> = fs::read_dir(project.path(""))
        .unwrap()
        .flatten()
        .map(|entry| entry.file_name())
        .collect();
    left.retain(|name| name.as_encoded_bytes().starts_with(b"app"));
    left.sort();
    assert_eq!(left, ["app.cds", "app.py"]);
}

/// Programs close file descriptors that they have not opened, wait for any child, and fork.
#[test]
fn a_program_does_not_notice_its_record() {
    let project = project_that_ends("os._exit(0)");
    project.write(
        "app.py",
        "import os, sys\nimport helper\nos.closerange(3, 100)\nfile = open('own.txt', 'w')\nprint(file.fileno())\n\
         import helper2\nfile.write('text')\nfile.close()\nprint(open('own.txt').read(), sorted(os.listdir('/proc/self/fd')))\n\
         print([name for name in sys.modules if name.startswith('cds')])\n\
         try: os.waitpid(-1, 0)\n\
         except ChildProcessError: print('no child', flush=True)\n\
         if os.fork():\n    print(os.waitstatus_to_exitcode(os.wait()[1]), flush=True)\n    os._exit(0)\n\
         import helper3\nos.kill(os.getpid(), 9)\n",
    );
    project.write("helper2.py", "");
    project.write("helper3.py", "");
    let plain = project.run(["app.py"]);
    assert!(plain.stdout.ends_with("no child\n-9\n"), "{plain:?}");
    for _ in 0..3 {
        assert_eq!(project.run(["-X", "cds_auto=app.cds", "app.py"]), plain);
        settle(&project);
    }
    let inspected = project.run(["-m", "cds", "inspect", "--json", "app.cds"]);
    let stdout = inspected.success().stdout;
    for name in ["helper", "helper2", "helper3"] {
        assert!(stdout.contains(&format!("\"{name}\"")), "{name}: {stdout}");
    }
}

/// With a complete archive, a start has no record, and starts no process.
#[test]
fn a_start_with_a_current_archive_leaves_no_record() {
    let project = project();
    run_until_archived(&project, "app.py");
    settle(&project);
    let mut traced = Command::new("strace");
    clean(&mut traced);
    traced
        .current_dir(project.path(""))
        .args(["-f", "-qq", "-o", "calls.txt"])
        .arg(python())
        .args(["-X", "cds_auto=app.cds", "app.py"]);
    Outcome::of(&mut traced);
    let calls = fs::read_to_string(project.path("calls.txt")).expect("strace has written it");
    for call in ["clone(", "vfork(", "flock(", "memfd_create("] {
        assert!(!calls.contains(call), "{call}");
    }
}
