//! A process that is restored from a startup image behaves like a plain process that has done the same imports.

use std::collections::BTreeSet;
use std::fs;
use std::process::Command;

use cpython_cds_tests::image::{IMPORTS, SHOW, assert_restored, assert_same, project, refusal};
use cpython_cds_tests::{DUMP_IMAGE, Outcome, Project, clean, python, skip};

#[test]
fn a_restored_process_looks_like_any_other() {
    let program = format!("{IMPORTS}{SHOW}");
    let project = project(&program);
    project.write("package/__main__.py", &program);
    assert_restored(&project, &["app.py"]);
    let set = |command: &mut Command| {
        command.env("FOO", "a value").env("PWD", project.path(""));
    };
    assert_same(&project, &["app.py", "one", "two words", "é"], set);
    assert_same(&project, &["-m", "app", "one"], set);
    assert_same(&project, &["-m", "package", "one"], set);
    assert_same(&project, &["-c", &program, "one"], set);
    assert_same(&project, &["./app.py"], set);
    // Without arguments, and from another directory.
    let elsewhere = tempfile::tempdir().unwrap();
    let run = |archive: &str| {
        let mut command = project.command(["-X"]);
        command.arg(archive).arg(project.path("app.py"));
        Outcome::of(command.current_dir(&elsewhere))
    };
    let archive = format!("cds={}", project.path("app.cds").display());
    assert_eq!(run(&archive), run("cds=off"));
}

#[test]
fn it_ends_as_any_other() {
    let project = project(&format!("{IMPORTS}exec(sys.argv[1])\n"));
    assert_restored(&project, &["app.py", "pass"]);
    let silent = |_: &mut Command| {};
    for code in [
        "sys.exit(5)",
        "sys.exit('a message')",
        "raise SystemExit",
        "1 / 0",
        "def f(): raise ValueError('x') from KeyError('y')\nf()",
        "os._exit(7)",
        "os.abort()",
        "os.kill(os.getpid(), 15)",
        "raise KeyboardInterrupt",
        "import atexit; atexit.register(print, 'at exit'); atexit.register(sys.exit, 3)",
        "print('not flushed', end='')",
        "sys.stdout.write('x' * 100_000)",
        "threading.Thread(target=lambda: (time.sleep(.1), print('thread'))).start(); print('main')",
        "threading.Thread(target=lambda: time.sleep(60), daemon=True).start()",
        "class C:\n def __del__(self): print('deleted', self.name)\nc = C(); c.name = 'main'\nsys.modules['late'] = type(sys)('late'); sys.modules['late'].c = C(); sys.modules['late'].c.name = 'late'",
        "class C:\n def __del__(self): print('deleted')\nsys.modules['json'] = type(sys)('json'); sys.modules['json'].c = C()",
        "class C:\n def __del__(self): print('deleted')\nsys.modules['late'] = type(sys)('late'); sys.modules['late'].c = C(); sys.modules['json'] = sys.modules.pop('json')",
        "class C:\n def __del__(self): print('cycle')\nc = C(); c.c = c; del c",
        "import weakref, csv; weakref.finalize(csv, print, 'finalized')",
        "import ctypes; ctypes.CDLL(None).printf(b'from C\\n')",
        "import concurrent.futures as f; e = f.ThreadPoolExecutor(2); print(list(e.map(abs, [-1, 2])))",
        "import multiprocessing as m; c = m.get_context('fork'); p = c.Process(target=print, args=('child',)); p.start(); p.join(); print(p.exitcode)",
    ] {
        assert_same(&project, &["app.py", code], silent);
        let full = ["-X", "cds=app.cds", "-X", "cds_full_exit", "app.py", code];
        let plain = ["-X", "cds=off", "app.py", code];
        assert_eq!(project.run(full), project.run(plain), "{code}");
    }
}

/// Signals that are ignored at the start of a process stay ignored (nohup, a shell's `&`).
#[test]
fn ignored_signals_stay_ignored() {
    let project = project(&format!(
        "{IMPORTS}for n in (1, 2, 3): print(signal.getsignal(n))\nos.kill(os.getpid(), 2); print('alive')\n"
    ));
    let run = |option: &str| {
        let mut command = Command::new("sh");
        clean(&mut command);
        let python = python();
        let line = format!(
            "trap '' HUP INT QUIT; exec {} -X {option} app.py",
            python.display()
        );
        Outcome::of(command.current_dir(project.path("")).args(["-c", &line]))
    };
    // An image that is taken in such a process is like other images.
    let take = format!(
        "trap '' HUP INT QUIT; exec {} -m cds dump -q --image app.lst app.cds",
        python().display()
    );
    let mut shell = Command::new("sh");
    clean(&mut shell);
    Outcome::of(shell.current_dir(project.path("")).args(["-c", &take])).success();
    assert_restored(&project, &["-c", "pass"]);
    let restored = run("cds=app.cds");
    assert!(restored.stdout.ends_with("alive\n"), "{restored:?}");
    assert_eq!(restored, run("cds=off"));
}

/// Two processes of one image have different random values.
#[test]
fn randomness_is_fresh() {
    let project = project(&format!(
        "{IMPORTS}print(random.random(), ssl.RAND_bytes(8), uuid.uuid4(), uuid.uuid1(), multiprocessing.current_process().authkey,
              os.path.basename(tempfile.mktemp()), os.urandom(8), random.SystemRandom().random(), sep='\\n')\n"
    ));
    let mut seen = BTreeSet::new();
    for _ in 0..6 {
        let outcome = project.run(["-X", "cds=app.cds", "app.py"]).success();
        for line in outcome.stdout.lines() {
            assert!(seen.insert(line.to_owned()), "{line} comes twice");
        }
    }
    assert_restored(&project, &["app.py"]);
}

/// In containers, process ids repeat. OpenSSL only notices a fork by another process id.
#[test]
fn randomness_is_fresh_with_the_same_process_id() {
    let program = "import os, ssl\nssl.RAND_bytes(4)\nprint(os.getpid(), ssl.RAND_bytes(8))\n";
    let project = Project::new(&[
        ("app.py", program),
        (
            "lib/noted.py",
            "import os, ssl\nssl.RAND_bytes(4)\nopen('pid', 'w').write(str(os.getpid()))\n",
        ),
        ("app.lst", "noted\n"),
    ]);
    let script = format!(
        "export PYTHONPATH=$PWD/lib
{python} -m cds dump -q --image app.lst app.cds
for i in 1 2 3 4; do
    echo $(($(cat pid) - 1)) > /proc/sys/kernel/ns_last_pid
    {python} -X cds=app.cds -X cds_stats=stats.txt app.py
done",
        python = python().display()
    );
    let namespace = |script: &str| {
        let mut command = Command::new("unshare");
        clean(&mut command);
        command.args(["-Urpf", "--mount-proc", "sh", "-euc", script]);
        Outcome::of(command.current_dir(project.path("")))
    };
    if namespace("echo 50 > /proc/sys/kernel/ns_last_pid").status != 0 {
        skip!("process ids cannot be chosen here");
    }
    let outcome = namespace(&script).success();
    let stats = fs::read_to_string(project.path("stats.txt")).unwrap();
    assert_eq!(refusal(&stats), None);
    let lines: BTreeSet<&str> = outcome.stdout.lines().collect();
    let ids: BTreeSet<&str> = lines
        .iter()
        .filter_map(|line| line.split(' ').next())
        .collect();
    assert_eq!((lines.len(), ids.len()), (4, 1), "{outcome:?}");
}

#[test]
fn hooks_are_called() {
    let project = Project::new(&[
        ("app.py", "import hooked\nprint(hooked.events)\n"),
        (
            "lib/hooked.py",
            "from cds import register_after_restore, register_before_snapshot
events = []
register_before_snapshot(events.append, 'before 1')
register_before_snapshot(events.append, 'before 2')
register_after_restore(events.append, 'after 1')
register_after_restore(lambda *, text: events.append(text), text='after 2')
",
        ),
    ]);
    project.write("app.lst", "hooked\n");
    let lib = project.path("lib");
    let mut dump = project.command(DUMP_IMAGE);
    Outcome::of(dump.env("PYTHONPATH", &lib)).success();
    let mut run = project.command(["-X", "cds=app.cds", "app.py"]);
    let outcome = Outcome::of(run.env("PYTHONPATH", &lib)).success();
    assert_eq!(
        outcome.stdout,
        "['before 2', 'before 1', 'after 1', 'after 2']\n"
    );
}

/// An image without the imports of a program still saves the start of the interpreter.
#[test]
fn an_interpreter_that_has_imported_nothing_is_restored() {
    let project = Project::new(&[
        ("empty.lst", "# nothing\n"),
        ("builtin.lst", "_json\nsys\n"),
    ]);
    for lists in [
        &[][..],
        &["empty.lst"],
        &["/dev/null"],
        &["builtin.lst"],
        &["empty.lst", "/dev/null"],
    ] {
        let dump = ["-m", "cds", "dump", "-q", "--image"];
        project.run([&dump, lists, &["app.cds"]].concat()).success();
        assert_restored(&project, &["-c", "pass"]);
        let names = "import sys; print(sys.argv, 'csv' in sys.modules, sys.stdin.read())";
        assert_same(&project, &["-c", names, "one"], |_| {});
        fs::remove_file(project.path("app.cds.image")).unwrap();
        fs::remove_file(project.path("app.cds")).unwrap();
    }
    // Without an image, the archive would be empty.
    let outcome = project.run(["-m", "cds", "dump", "empty.lst", "app.cds"]);
    assert_eq!(
        (outcome.status, &*outcome.stderr),
        (
            1,
            "cds dump: error: nothing to archive: name at least one module that has a source file\n"
        )
    );
}

/// An image has the options and variables of the interpreter that runs the dump.
#[test]
fn a_process_with_options_is_restored_from_an_image_with_these() {
    let project = Project::new(&[
        ("app.lst", "argparse\njson\n"),
        (
            "app.py",
            "import argparse, json, sys\nassert True\nprint(sys.flags, sorted(sys._xoptions.keys() - {'cds', 'cds_stats'}), sys.warnoptions, sys.path)\n",
        ),
    ]);
    let run = |options: &[&str], variable: (&str, &str), arguments: &[&str]| {
        let mut command = project.command([options, arguments].concat());
        Outcome::of(command.env(variable.0, variable.1))
    };
    for (options, variable) in [
        (&["-O"][..], ("A", "1")),
        (&["-OO", "-B"], ("A", "1")),
        (&["-uqW", "error"], ("A", "1")),
        (&["-Wdefault::ImportWarning", "-W", "once"], ("A", "1")),
        (&["-X", "utf8", "-Xno_debug_ranges", "-P"], ("A", "1")),
        (&["-X", "dev"], ("A", "1")),
        (&["-Is"], ("A", "1")),
        (&["-E", "-S"], ("PYTHONOPTIMIZE", "1")),
        (&[], ("PYTHONOPTIMIZE", "2")),
        (&[], ("PYTHONNOUSERSITE", "1")),
        (&[], ("PYTHONSAFEPATH", "1")),
        (&[], ("PYTHONDONTWRITEBYTECODE", "1")),
        (&[], ("PYTHONPYCACHEPREFIX", "/nowhere")),
        (&[], ("PYTHONWARNINGS", "error")),
        (&["-b"], ("PYTHONUNBUFFERED", "1")),
    ] {
        run(options, variable, &DUMP_IMAGE).success();
        let stats = ["-X", "cds=app.cds", "-X", "cds_stats=stats.txt", "app.py"];
        let restored = run(options, variable, &stats);
        let stats = fs::read_to_string(project.path("stats.txt")).unwrap();
        assert_eq!(refusal(&stats), None, "{options:?} {variable:?}");
        let plain = run(options, variable, &["-X", "cds=off", "app.py"]);
        assert_eq!(restored, plain, "{options:?} {variable:?}");
        assert_eq!(restored.status, 0, "{restored:?}");
    }
}

/// Restores an image many times, because address space layout randomization gives each new process other addresses.
/// `CDS_RESTORES` is the number of restores.
#[test]
fn many_processes_are_restored_two_at_once() {
    let wanted = std::env::var("CDS_RESTORES").map_or(100, |number| number.parse().unwrap());
    let projects: Vec<Project> = [IMPORTS, "import json\n"]
        .iter()
        .map(|imports| {
            project(&format!(
                "{imports}import sys\nprint(len(sys.modules) > 40, 'cds.image.startup' in sys.modules)\n"
            ))
        })
        .collect();
    std::thread::scope(|scope| {
        for project in &projects {
            scope.spawn(|| {
                for _ in 0..wanted {
                    let outcome = project.run(["-X", "cds=app.cds", "app.py"]);
                    assert_eq!(
                        (outcome.status, &*outcome.stdout, &*outcome.stderr),
                        (0, "True True\n", "")
                    );
                }
            });
        }
    });
}
