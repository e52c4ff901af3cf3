//! Cases in which code-data-share 0.1.0 fails and this interpreter works. Both are tested if the wheel can be
//! installed.

use std::fs;
use std::path::Path;
use std::process::Command;

use cpython_cds_tests::ancestor::Ancestor;
use cpython_cds_tests::{Outcome, Project};

/// A program, and the change to its files or its archive after the dump.
struct Row {
    what: &'static str,
    arguments: &'static [&'static str],
    change: fn(&Path, &Path),
}

const FILES: [(&str, &str); 6] = [
    (
        "app.py",
        "import sys, m, pkg.sub, renamed, odd\n\
         try: print([] in m.SET)\n\
         except TypeError as error: print(error)\n\
         print(m.VALUE, m.contains([]), m.asserts(), m.__file__, pkg.sub.__file__, renamed.value, odd.value)\n\
         import importlib\n\
         del sys.modules['m']\n\
         import m as again\n\
         print(again.VALUE, importlib.reload(again).VALUE, sys.modules['m'] is again)\n",
    ),
    (
        "m.py",
        "VALUE = 'first'\nSET = frozenset({1, 2, 3})\n\
         def contains(x):\n    try: return x in {1, 2, 3}\n    except TypeError: return 'TypeError'\n\
         def asserts():\n    try:\n        assert False\n    except AssertionError: return 'asserts run'\n    return 'asserts do not run'\n",
    ),
    ("pkg/__init__.py", ""),
    ("pkg/sub.py", "import json\n"),
    (
        "pkg/__main__.py",
        "import sys, pkg.sub\nprint(__name__, __spec__.name, sys.argv[1:])\n",
    ),
    (
        "renamed.py",
        "import sys, types\nvalue = 'renamed'\nother = types.ModuleType('other')\nother.value = 'other'\nsys.modules[__name__] = other\n",
    ),
];
const ODD: &str = "value = 'odd'\n__path__ = 'not a list'\n";

const APP: &[&str] = &["app.py"];

const ROWS: &[Row] = &[
    Row {
        what: "nothing",
        arguments: APP,
        change: |_, _| {},
    },
    Row {
        what: "the archive is missing",
        arguments: APP,
        change: |_, archive| fs::remove_file(archive).unwrap(),
    },
    Row {
        what: "the archive is empty",
        arguments: APP,
        change: |_, archive| fs::write(archive, b"").unwrap(),
    },
    Row {
        what: "the archive has ten bytes",
        arguments: APP,
        change: |_, archive| fs::write(archive, b"0123456789").unwrap(),
    },
    Row {
        what: "the archive is random",
        arguments: APP,
        change: |_, archive| {
            fs::write(
                archive,
                (0..60_000_u32)
                    .map(|n| ((n * n) >> 3) as u8)
                    .collect::<Vec<_>>(),
            )
            .unwrap()
        },
    },
    Row {
        what: "the archive is truncated to half",
        arguments: APP,
        change: |_, archive| {
            let bytes = fs::read(archive).unwrap();
            fs::write(archive, &bytes[..bytes.len() / 2]).unwrap();
        },
    },
    Row {
        what: "64 bytes of the archive are flipped",
        arguments: APP,
        change: |_, archive| {
            let mut bytes = fs::read(archive).unwrap();
            let count = bytes.len();
            for index in 0..64 {
                bytes[(index * 7919 + 4096) % count] ^= 0x55;
            }
            fs::write(archive, bytes).unwrap();
        },
    },
    Row {
        what: "a source is edited",
        arguments: APP,
        change: |directory, _| {
            let text = fs::read_to_string(directory.join("m.py")).unwrap();
            fs::write(directory.join("m.py"), text.replace("first", "second")).unwrap();
        },
    },
    Row {
        what: "the tree is copied elsewhere",
        arguments: &["copy/app.py"],
        change: |directory, _| {
            let mut copy = Command::new("sh");
            copy.current_dir(directory)
                .args(["-c", "mkdir copy; cp -a *.py pkg copy"]);
            Outcome::of(&mut copy).success();
        },
    },
    Row {
        what: "-O",
        arguments: &["-O", "app.py"],
        change: |_, _| {},
    },
    Row {
        what: "-m pkg",
        arguments: &["-m", "pkg", "one"],
        change: |_, _| {},
    },
    Row {
        what: "-m json.tool",
        arguments: &["-m", "json.tool", "data.json"],
        change: |_, _| {},
    },
];

/// A new directory with the program.
fn project() -> Project {
    let project = Project::new(&FILES);
    project.write("odd.py", ODD);
    project.write("data.json", "{\"a\": 1}");
    fs::create_dir(project.path("archives")).unwrap();
    project
}

/// The outcomes of a run with an archive and of a run without, for one interpreter.
fn both(
    project: &Project,
    row: &Row,
    trace: Command,
    dump: Command,
    shared: Command,
    plain: Command,
) -> (Outcome, Outcome) {
    let run = |mut command: Command, arguments: &[&str]| {
        // .pyc files do not notice an edit within the same second.
        command
            .env("PYTHONDONTWRITEBYTECODE", "1")
            .current_dir(project.path(""));
        Outcome::of(command.args(arguments))
    };
    let traced: &[&str] = if row.arguments[0] == "-m" {
        row.arguments
    } else {
        APP
    };
    run(trace, traced);
    let lists = ["archives/app.lst", "archives/app.cds"];
    run(dump, &lists);
    (row.change)(&project.path(""), &project.path("archives/app.cds"));
    (run(shared, row.arguments), run(plain, row.arguments))
}

#[test]
fn a_program_does_what_it_does_without_an_archive() {
    let ancestor = Ancestor::new()
        .inspect_err(|reason| eprintln!("without code-data-share: {reason:#}"))
        .ok();
    let mut worse = Vec::new();
    for row in ROWS {
        let here = project();
        let command = |options: &[&str]| here.command(options);
        let (shared, plain) = both(
            &here,
            row,
            command(&["-X", "cds_trace=archives/app.lst"]),
            command(&["-m", "cds", "dump", "-q"]),
            command(&["-X", "cds=archives/app.cds"]),
            command(&["-X", "cds=off"]),
        );
        assert_eq!(
            (shared.status, &shared.stdout),
            (plain.status, &plain.stdout),
            "{}: {shared:?}",
            row.what
        );
        assert!(
            shared.stderr.lines().count() <= 1,
            "{}: {shared:?}",
            row.what
        );
        assert_eq!(plain.status, 0, "{}: {plain:?}", row.what);
        let Some(ancestor) = &ancestor else { continue };
        let there = project();
        let command = |mode: &str| {
            let mut command = ancestor.command();
            command.env("PYCDSMODE", mode);
            command.env("PYCDSLIST", there.path("archives/app.lst"));
            command.env("PYCDSARCHIVE", there.path("archives/app.cds"));
            command
        };
        let mut dump = ancestor.command();
        dump.args(["-m", "cds.dump"]);
        let (shared, plain) = both(
            &there,
            row,
            command("TRACE"),
            dump,
            command("SHARE"),
            ancestor.plain_command(),
        );
        if (shared.status, &shared.stdout) != (plain.status, &plain.stdout)
            || shared.stderr.lines().count() > 1
        {
            worse.push(format!("{}: status {}", row.what, shared.status));
        }
    }
    println!("worse with code-data-share: {worse:#?}");
    assert!(ancestor.is_none() || worse.len() >= 5, "{worse:?}");
}
