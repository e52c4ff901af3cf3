//! Options and variables, and the messages when an archive cannot be used.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use cpython_cds_tests::skip;
use cpython_cds_tests::{
    Mode, Outcome, Project, change_fact, clean, is_reachable_by_others, python,
};

const PROGRAM: &[(&str, &str)] = &[
    (
        "app.py",
        "import top, _cds_archive\nprint(top.f(1), len(_cds_archive.status()))\n",
    ),
    ("top.py", "def f(x): return x + 1\n"),
];

fn project() -> Project {
    let project = Project::new(PROGRAM);
    project.dump(["app.py"]);
    project
}

/// Runs with `-X cds=app.cds`, which must be refused, with and without `-X cds_strict`. Returns the message.
#[track_caller]
fn refusal(project: &Project) -> String {
    let lenient = project.run(["-X", "cds=app.cds", "app.py"]);
    assert_eq!(lenient.stdout, "2 1\n", "{}", lenient.stderr);
    assert_eq!(lenient.status, 0);
    let strict = project.run(["-X", "cds=app.cds", "-X", "cds_strict", "app.py"]);
    assert_eq!((strict.status, strict.stdout.as_str()), (1, ""));
    assert_eq!(strict.stderr, lenient.stderr);
    lenient.stderr
}

#[test]
fn what_cannot_be_used_is_named_with_the_reason() {
    let project = project();
    let archive = project.path("app.cds");
    let good = fs::read(&archive).unwrap();
    let mut said = String::new();
    let mut check = |what: &str, change: &dyn Fn()| {
        let _ = fs::remove_dir(&archive);
        let _ = fs::remove_file(&archive);
        change();
        said.push_str(&format!("{what}:\n  {}", refusal(&project)));
    };
    let write = |bytes: &[u8]| fs::write(&archive, bytes).unwrap();
    check("missing", &|| {});
    check("a directory", &|| fs::create_dir(&archive).unwrap());
    check("a fifo", &|| {
        Outcome::of(std::process::Command::new("mkfifo").arg(&archive)).success();
    });
    check("empty", &|| write(b""));
    check("ten bytes", &|| write(b"0123456789"));
    check("text", &|| {
        write("a trace list, say\n".repeat(1000).as_bytes())
    });
    check("truncated", &|| write(&good[..good.len() / 2]));
    check("extended", &|| write(&[&good[..], b"x"].concat()));
    check("other format", &|| {
        let mut bytes = good.clone();
        bytes[8] = 200;
        write(&bytes);
    });
    check("flipped in the header", &|| {
        let mut bytes = good.clone();
        bytes[50] ^= 1;
        write(&bytes);
    });
    check("writable by others", &|| {
        write(&good);
        fs::set_permissions(&archive, fs::Permissions::from_mode(0o666)).unwrap();
    });
    insta::assert_snapshot!(said);
}

/// An archive that was made for another interpreter, or with other options: each mismatch is named with both values.
#[test]
fn what_an_archive_was_made_for_is_named() {
    let project = project();
    let archive = project.path("app.cds");
    let good = fs::read(&archive).unwrap();
    let mut said = String::new();
    for fact in [
        "python version",
        "optimization level",
        "column numbers in code",
        "interpreter build",
        "standard library archive",
    ] {
        change_fact(&archive, fact);
        said.push_str(&refusal(&project));
        fs::write(&archive, &good).unwrap();
    }
    for options in [
        &["-O"][..],
        &["-OO"],
        &["-X", "no_debug_ranges"],
        &["-X", "pycache_prefix=elsewhere"],
    ] {
        let outcome = project.run(options.iter().chain(&["-X", "cds=app.cds", "app.py"]));
        assert_eq!(
            (outcome.status, outcome.stdout.as_str()),
            (0, "2 0\n"),
            "{options:?}"
        );
        said.push_str(&outcome.stderr);
    }
    insta::with_settings!({filters => vec![
        (r"[0-9a-f]{32,40}", "[hash]"),
        (r"\d\.13\.\d+", "[version]"),
    ]}, { insta::assert_snapshot!(said); });
}

/// A link in one's own directory is followed, but not a link in a directory like `/tmp`.
#[test]
fn a_link_that_anybody_may_have_made_is_not_followed() {
    let project = project();
    let run = |archive: &str| {
        let option = format!("cds={archive}");
        project.run(["-X", &option, "app.py"]).success()
    };
    for (directory, mode, expected) in [
        ("own", 0o755, ("2 2\n", "")),
        (
            "open",
            0o1777,
            (
                "2 1\n",
                "cds: open/link.img is not used: it is a symbolic link in a directory that any user can write to: use the path of the file\n",
            ),
        ),
    ] {
        fs::create_dir(project.path(directory)).unwrap();
        fs::set_permissions(project.path(directory), fs::Permissions::from_mode(mode)).unwrap();
        let link = format!("{directory}/link.img");
        std::os::unix::fs::symlink("../app.cds", project.path(&link)).unwrap();
        let outcome = run(&link);
        assert_eq!((outcome.stdout.as_str(), outcome.stderr.as_str()), expected);
    }
    let directly = run("open/../app.cds");
    assert_eq!(directly.stdout, "2 2\n");
}

#[test]
fn strict_verifies_all_sections() {
    let project = project();
    let archive = project.path("app.cds");
    let good = fs::read(&archive).unwrap();
    // Sections begin at page boundaries. One bit in each page is flipped.
    let mut said = std::collections::BTreeSet::new();
    for page in 1..good.len() / 4096 {
        let mut bytes = good.clone();
        bytes[page * 4096] ^= 1;
        fs::write(&archive, bytes).unwrap();
        let outcome = project.run(["-X", "cds=app.cds", "-X", "cds_strict", "app.py"]);
        assert_eq!(outcome.status, 1, "{outcome:?}");
        said.insert(outcome.stderr);
    }
    insta::assert_snapshot!(String::from_iter(said));
}

#[test]
fn the_environment_says_the_same_unless_it_is_ignored() {
    let project = project();
    let run = |options: &[&str], value: &str| {
        let mut command = project.command(options);
        Outcome::of(
            command
                .arg("app.py")
                .env("PYTHON_CDS", value)
                .env("PYTHONPATH", "."),
        )
        .success()
    };
    assert_eq!(run(&[], "app.cds").stdout, "2 2\n");
    assert_eq!(run(&[], "off").stdout, "2 0\n");
    assert_eq!(run(&[], "").stdout, "2 1\n");
    assert_eq!(run(&["-E"], "app.cds").stdout, "2 1\n");
    assert_eq!(run(&["-X", "cds=off"], "app.cds").stdout, "2 0\n");
    assert_eq!(run(&["-X", "cds=app.cds"], "off").stdout, "2 2\n");
    assert_eq!(
        project
            .run(["-X", "cds=off", "-c", "import sys; print(sys._xoptions)"])
            .stdout,
        "{'cds': 'off'}\n"
    );
}

/// A set-user-ID program takes no name of a file from the user who starts it.
#[test]
fn the_environment_is_ignored_by_a_program_with_more_rights() {
    let project = project();
    if !rustix::process::geteuid().is_root() {
        skip!("only root can make such a program for somebody else");
    }
    if !is_reachable_by_others() {
        skip!("others cannot reach this directory");
    }
    // The copied interpreter finds no archive of the standard library.
    let dump = [
        "-X", "cds=off", "-m", "cds", "dump", "-q", "app.lst", "app.cds",
    ];
    project.run(dump).success();
    let program = project.path("privileged");
    // Another process writes the file: a child of a test that runs at the same time would inherit the descriptor, and a
    // program that is open for writing cannot be run.
    let mut copy = std::process::Command::new("cp");
    Outcome::of(copy.arg("--dereference").arg(python()).arg(&program)).success();
    std::os::unix::fs::chown(&program, Some(65534), None).unwrap();
    let run = |mode| {
        fs::set_permissions(&program, fs::Permissions::from_mode(mode)).unwrap();
        let ask = "import _cds_archive; print(len(_cds_archive.status()))";
        let mut command = std::process::Command::new(&program);
        clean(&mut command);
        command
            .args(["-c", ask])
            .env("PYTHON_CDS", project.path("app.cds"));
        command.env(
            "PYTHONHOME",
            python().canonicalize().unwrap().ancestors().nth(2).unwrap(),
        );
        Outcome::of(&mut command).success().stdout
    };
    assert_eq!(run(0o755), "1\n");
    assert_eq!(run(0o4755), "0\n");
}

#[test]
fn statistics_name_what_did_not_come_from_the_archive() {
    let project = project();
    project.write("app.py", "import top, late\n");
    project.write("late.py", "");
    project.write("top.py", "def f(x): return x + 2\n");
    let report = project
        .run(["-X", "cds=app.cds", "-X", "cds_stats", "app.py"])
        .success()
        .stderr;
    let missed: Vec<&str> = report
        .lines()
        .filter(|line| line.starts_with("cds:   ") && line.contains("top") | line.contains("late"))
        .collect();
    assert_eq!(
        missed,
        [
            "cds:   late: not in the archive",
            "cds:   top: source changed"
        ]
    );
    let kinds = ["constants 0 of", "text 0 of", "tables 0 of"];
    assert!(kinds.iter().all(|kind| report.contains(kind)), "{report}");
    assert_eq!(
        project
            .run(["-X", "cds=off", "-X", "cds_stats", "-c", ""])
            .stderr,
        "cds: no archive in use\n"
    );
}

#[test]
fn a_trace_has_one_name_a_line_whoever_writes_it() {
    let project = Project::new(&[
        ("app.py", "import top, json, package.module\n"),
        ("top.py", ""),
        ("package/__init__.py", ""),
        ("package/module.py", ""),
        (
            "many.py",
            "import subprocess, sys\nfor p in [subprocess.Popen([sys.executable, '-X', 'cds_trace=many.lst', 'app.py']) for _ in range(64)]: p.wait()\n",
        ),
    ]);
    project.run(["-X", "cds_trace=app.lst", "app.py"]).success();
    let text = fs::read_to_string(project.path("app.lst")).unwrap();
    let lines: Vec<&str> = text.lines().collect();
    assert!(
        lines.contains(&"json") && lines.contains(&"os") && lines.contains(&"encodings"),
        "{text}"
    );
    for (name, file) in [
        ("top", "top.py"),
        ("package", "package/__init__.py"),
        ("package.module", "package/module.py"),
    ] {
        let line = format!("{name}  # {}", project.path(file).display());
        assert!(lines.contains(&line.as_str()), "{text}");
    }
    project.run(["many.py"]).success();
    let all = fs::read_to_string(project.path("many.lst")).unwrap();
    assert_eq!(all.lines().count(), 64 * lines.len());
    assert!(
        all.lines().all(|line| lines.contains(&line)),
        "no line is torn"
    );
}

#[test]
fn equal_inputs_give_equal_bytes() {
    let project = project();
    // The archive is not beside the program, because a new file changes the directory.
    fs::create_dir(project.path("out")).unwrap();
    let mut archives = Vec::new();
    for seed in ["0", "1", "random"] {
        let mut command = project.command(["-m", "cds", "dump", "-q", "app.lst", "out/app.cds"]);
        Outcome::of(command.env("PYTHONHASHSEED", seed)).success();
        archives.push(fs::read(project.path("out/app.cds")).unwrap());
    }
    assert!(archives.iter().all(|bytes| *bytes == archives[0]));
}

#[test]
fn an_archive_is_replaced_under_a_running_program() {
    let project = project();
    project.write("wait.py", "import sys, top, subprocess\nsubprocess.run([sys.executable, '-m', 'cds', 'dump', '-q', 'app.lst', 'app.cds'], check=True)\nimport html, csv\nprint(top.f(1), html.escape('<'))\n");
    for _ in 0..3 {
        assert_eq!(
            project.run_in(Mode::Archive, ["wait.py"]).success().stdout,
            "2 &lt;\n"
        );
    }
    let leftovers = fs::read_dir(project.path("")).unwrap().filter(|e| {
        e.as_ref()
            .unwrap()
            .file_name()
            .to_string_lossy()
            .starts_with(".cds-")
    });
    assert_eq!(leftovers.count(), 0);
}

#[test]
fn the_package_passes_its_own_tests() {
    let project = Project::new(&[]);
    let tests = cpython_cds_tests::repository().join("runtime/python");
    let mut command = project.command([
        "-W", "error", "-m", "unittest", "discover", "-q", "-t", ".", "-s", "tests",
    ]);
    Outcome::of(command.current_dir(tests)).success();
}

#[test]
fn the_help_of_the_interpreter_knows_them() {
    let project = Project::new(&[]);
    let lines = |option: &str, wanted: &str| {
        let help = project.run([option]).success().stdout;
        let lines = help.lines().filter(|line| line.contains(wanted));
        lines.map(|line| format!("{line}\n")).collect::<String>()
    };
    insta::assert_snapshot!(lines("--help-xoptions", "-X cds"));
    insta::assert_snapshot!(lines("--help-env", "PYTHON_CDS"));
}
