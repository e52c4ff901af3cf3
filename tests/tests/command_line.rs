//! `python -m cds`: the output and the exit status of its commands.

use std::fs;
use std::process::Command;

use cpython_cds_tests::{Outcome, Project, change_fact};

const PROGRAM: &[(&str, &str)] = &[
    (
        "app.py",
        "import sys, shop.cart, shop.prices\nprint('total', shop.cart.total(['tea', 'milk']), sys.argv[1:])\n",
    ),
    ("shop/__init__.py", "\"\"\"A shop.\"\"\"\n"),
    (
        "shop/cart.py",
        "from shop.prices import PRICES\n\ndef total(items):\n    \"\"\"What the items cost.\"\"\"\n    return sum(PRICES[item] for item in items if item not in {'air', 'light'})\n",
    ),
    (
        "shop/prices.py",
        "PRICES = {'tea': 2.5, 'milk': 1.25, 'gold': 2 ** 100, 'nothing': None, 'i': 1j}\nNAMES = ('tea', 'milk')\nTAG = b'\\x00price'\nGREETING = 'Grüß Gott'\n",
    ),
];

fn project() -> Project {
    let project = Project::new(PROGRAM);
    project.dump(["app.py"]);
    project
}

fn cds(project: &Project, arguments: &[&str]) -> Outcome {
    project.run(["-m", "cds"].iter().chain(arguments))
}

/// Compares text with the snapshot, without the parts that depend on the machine or on the directory of the project.
macro_rules! assert_screen {
    ($project:expr, $text:expr) => {{
        let root = regex_escaped(&fs::canonicalize($project.path("")).unwrap().to_string_lossy());
        let python = regex_escaped(&cpython_cds_tests::python().to_string_lossy());
        insta::with_settings!({filters => vec![
            (root.as_str(), "[project]"),
            (python.as_str(), "[python]"),
            (r"/[^ ']*/lib/python3\.13", "[stdlib]"),
            (r"0x[0-9a-f]{6,}", "[address]"),
            (r"\b[0-9a-f]{12}\b", "[hash]"),
            (r"Python 3\.13\.\d+", "Python [version]"),
            (r" *\d+(\.\d)? (B|KiB|MiB)\b", " [size]"),
            (r"\d+ directories", "[n] directories"),
        ]}, { insta::assert_snapshot!($text); });
    }};
}

fn regex_escaped(text: &str) -> String {
    text.chars()
        .flat_map(|c| {
            (!c.is_alphanumeric() && c != '/')
                .then_some('\\')
                .into_iter()
                .chain([c])
        })
        .collect::<String>()
        .trim_end_matches('/')
        .to_owned()
}

#[test]
fn every_command_teaches_how_it_is_used() {
    let project = Project::new(&[]);
    let mut said = String::new();
    for command in ["", "dump", "inspect", "verify", "diff", "stats", "merge"] {
        let arguments: Vec<&str> = [command, "--help"]
            .into_iter()
            .filter(|a| !a.is_empty())
            .collect();
        let help = cds(&project, &arguments).success();
        assert_eq!(help.stderr, "");
        said.push_str(&format!("== {command}\n{}\n", help.stdout));
    }
    insta::assert_snapshot!(said);
}

#[test]
fn wrong_usage_is_status_2() {
    let project = project();
    for arguments in [
        &["frobnicate"][..],
        &[],
        &["dump"],
        &["dump", "app.cds"],
        &["dump", "app.cds", "--script"],
        &["dump", "--freshness", "often", "app.lst", "app.cds"],
        &["inspect"],
        &["inspect", "--json", "--svg", "x.svg", "app.cds"],
        &["verify"],
        &["diff", "app.cds"],
        &["stats"],
        &["merge"],
    ] {
        let outcome = cds(&project, arguments);
        assert_eq!(
            (outcome.status, outcome.stdout.as_str()),
            (2, ""),
            "{arguments:?}: {outcome:?}"
        );
        assert!(
            outcome.stderr.contains("usage: python -m cds"),
            "{}",
            outcome.stderr
        );
    }
}

#[test]
fn dump_traces_a_program_by_itself() {
    let project = Project::new(PROGRAM);
    let outcome = cds(
        &project,
        &["dump", "app.cds", "--script", "app.py", "--port", "80"],
    )
    .success();
    assert_eq!(outcome.stderr, "");
    assert_screen!(project, outcome.stdout);
    let used = project.run([
        "-X",
        "cds=app.cds",
        "-X",
        "cds_strict",
        "-X",
        "cds_stats",
        "app.py",
    ]);
    assert!(
        used.stderr.contains("from elsewhere: 0\n"),
        "{}",
        used.stderr
    );
}

#[test]
fn dump_tells_that_the_program_failed_and_archives_what_it_loaded() {
    let project = Project::new(PROGRAM);
    for (code, said) in [
        (
            "import shop.cart, sys; sys.exit(3)",
            "the program ended with status 3; the modules that it loaded before are archived",
        ),
        (
            "import shop.cart, os; os.abort()",
            "the program was killed by SIGABRT; the modules that it loaded before are archived",
        ),
    ] {
        let outcome = cds(&project, &["dump", "-q", "app.cds", "--script", "-c", code]).success();
        assert_eq!(outcome.stderr, format!("cds dump: warning: {said}\n"));
        let names = cds(&project, &["inspect", "--json", "app.cds"])
            .success()
            .stdout;
        assert!(names.contains("shop.cart"), "{names}");
    }
}

#[test]
fn dump_imports_modules_only_if_told_to() {
    let project = Project::new(&[
        (
            "plugins/__init__.py",
            "import importlib\nprint('running')\nimportlib.import_module('plug' + 'in_one')\n",
        ),
        ("plugin_one.py", "x = 1\n"),
        ("broken.py", "raise RuntimeError('no,\\nreally')\n"),
    ]);
    let names = |options: &[&str]| {
        let base = [
            "dump",
            "-q",
            "--path",
            ".",
            "--package",
            "plugins,broken",
            "app.cds",
        ];
        let outcome = cds(&project, &[&base, options].concat()).success();
        assert_eq!(
            outcome.stdout, "",
            "the output of modules is not the command's"
        );
        let found = cds(&project, &["inspect", "--json", "app.cds"])
            .success()
            .stdout;
        (found.contains("plugin_one"), outcome.stderr)
    };
    assert_eq!(names(&[]), (false, String::new()));
    let (found, said) = names(&["--import"]);
    assert!(found);
    assert_eq!(
        said,
        "running\ncds dump: warning: cannot import broken: RuntimeError: no,\n"
    );
}

#[test]
fn inspect_shows_what_is_in_an_archive() {
    let project = project();
    let screen = cds(&project, &["inspect", "app.cds"]).success();
    assert_eq!(screen.stderr, "");
    assert_screen!(project, screen.stdout);
    let object = cds(&project, &["inspect", "--object", "shop.prices", "app.cds"]).success();
    assert_screen!(project, object.stdout);
}

#[test]
fn inspect_follows_code_as_deep_as_wanted() {
    let project = project();
    let tree = cds(
        &project,
        &[
            "inspect",
            "--object",
            "shop.cart",
            "--depth",
            "3",
            "app.cds",
        ],
    )
    .success();
    assert_screen!(project, tree.stdout);
    let missing = cds(&project, &["inspect", "--object", "nosuch", "app.cds"]);
    assert_eq!(missing.status, 1);
    assert_eq!(
        missing.stderr,
        "cds inspect: error: app.cds: no module 'nosuch' in it (inspect --json lists them)\n"
    );
    let nowhere = cds(&project, &["inspect", "--object", "0x10", "app.cds"]);
    assert_eq!(nowhere.status, 1, "{}", nowhere.stderr);
}

/// The sizes add up: objects fill their sections except for headers and padding.
#[test]
fn inspect_counts_every_object_once() {
    let project = project();
    let text = cds(&project, &["inspect", "--json", "app.cds"])
        .success()
        .stdout;
    let found: serde_json::Value = serde_json::from_str(&text).unwrap();
    let number = |value: &serde_json::Value| value.as_u64().unwrap();
    for section in found["sections"].as_array().unwrap() {
        let name = section["name"].as_str().unwrap();
        let objects = found["objects"]
            .as_array()
            .unwrap()
            .iter()
            .filter(|o| o["section"] == name);
        let (mut bytes, mut padding) = (0, 0);
        for object in objects {
            bytes += number(&object["bytes"]);
            padding += number(&object["number"]) * 15;
        }
        if matches!(name, "constants" | "text" | "lazy" | "code") {
            let extent = number(&section["bytes"]);
            // The hot part ends at a page.
            let hot_end = 4096;
            assert!(
                bytes <= extent && extent <= bytes + padding + hot_end,
                "{name}: {bytes} of {extent}"
            );
        }
    }
    let codes = found["objects"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|o| o["type"] == "code");
    assert_eq!(
        codes.map(|o| number(&o["number"])).sum::<u64>(),
        number(&found["code_objects"])
    );
}

#[test]
fn inspect_draws_a_picture() {
    let project = project();
    cds(&project, &["inspect", "--svg", "app.svg", "app.cds"]).success();
    // All shapes lie inside the picture, and each section is named.
    let check = r#"
import xml.etree.ElementTree as tree
root = tree.parse("app.svg").getroot()
left, top, width, height = map(float, root.get("viewBox").split())
svg = "{http://www.w3.org/2000/svg}"
for rect in root.iter(svg + "rect"):
    x, y, w, h = (float(rect.get(name, 0)) for name in ("x", "y", "width", "height"))
    assert 0 <= x and 0 <= y and x + w <= width + 0.2 and y + h <= height + 0.2, rect.attrib
texts = [text.text for text in root.iter(svg + "text")]
assert {"constants", "text", "lazy", "code", "tables", "relocations", "shop"} <= set(texts), texts
"#;
    project.run(["-c", check]).success();
    let outcome = cds(&project, &["inspect", "--svg", "no/such.svg", "app.cds"]);
    assert_eq!(outcome.status, 2);
    assert_eq!(
        outcome.stderr,
        "cds inspect: error: cannot write no/such.svg: No such file or directory; give another FILE to --svg\n"
    );
}

#[test]
fn an_archive_of_another_build_is_shown_as_far_as_can_be() {
    let project = project();
    change_fact(&project.path("app.cds"), "interpreter build");
    let screen = cds(&project, &["inspect", "app.cds"]).success();
    assert!(
        screen
            .stdout
            .contains("not for this interpreter: interpreter build"),
        "{}",
        screen.stdout
    );
    assert!(
        screen
            .stdout
            .contains("another build of the interpreter has written them"),
        "{}",
        screen.stdout
    );
    let outcome = cds(&project, &["verify", "app.cds"]);
    assert_eq!(outcome.status, 1);
    assert!(
        outcome.stdout.contains("it was made for interpreter build"),
        "{}",
        outcome.stdout
    );
}

#[test]
fn verify_says_what_is_broken_or_stale() {
    let project = project();
    let mut said = String::new();
    let mut check = |what: &str, expected: i32| {
        let outcome = cds(&project, &["verify", "app.cds"]);
        assert_eq!(outcome.status, expected, "{what}: {outcome:?}");
        let quiet = cds(&project, &["verify", "-q", "app.cds"]);
        assert_eq!((quiet.status, quiet.stdout.as_str()), (expected, ""));
        said.push_str(&format!("{what}:\n{}{}\n", outcome.stdout, outcome.stderr));
    };
    check("as it was written", 0);
    project.write("shop/prices.py", "PRICES = {}\n");
    fs::remove_file(project.path("shop/cart.py")).unwrap();
    check("a source edited, another removed", 1);
    project.write("other.py", "");
    let stale = cds(&project, &["verify", "app.cds"]).stdout;
    let command = stale
        .lines()
        .last()
        .unwrap()
        .strip_prefix("Write it again: ");
    let archive = project.path("app.cds");
    let good = fs::read(&archive).unwrap();
    Outcome::of(Command::new("sh").args(["-c", command.unwrap()])).success();
    cds(&project, &["verify", "-q", "app.cds"]).success();
    fs::write(&archive, &good[..good.len() - 4096]).unwrap();
    check("truncated", 1);
    fs::write(&archive, "text\n").unwrap();
    check("text", 1);
    fs::remove_file(&archive).unwrap();
    check("missing", 2);
    assert_screen!(project, said);
}

/// A project whose archive does not use the standard library's archive, so that it can be read quickly.
fn project_without_layers() -> Project {
    let project = project();
    let dump = [
        "-X", "cds=off", "-m", "cds", "dump", "-q", "app.lst", "app.cds",
    ];
    project.run(dump).success();
    project
}

/// A flipped byte at any position is reported, except in padding.
#[test]
fn verify_finds_every_flipped_byte() {
    let project = project_without_layers();
    let check = r#"
import _cds_archive, random
data = open("app.cds", "rb").read()
used = bytearray(len(data))
used[:int.from_bytes(data[12:16], "little")] = b"\1" * int.from_bytes(data[12:16], "little")
for section in _cds_archive.inspect("app.cds")["sections"]:
    for offset, length in section["extents"]:
        used[offset:offset + length] = b"\1" * length
assert _cds_archive.verify("app.cds") == []
choose = random.Random(1)
places = [place for place in range(len(data)) if used[place]]
for place in choose.sample(places, 4000):
    broken = bytearray(data)
    broken[place] ^= 1 << choose.randrange(8)
    with open("broken.img", "wb") as file: file.write(broken)
    try:
        assert _cds_archive.verify("broken.img"), place
    except ValueError:
        pass
print(len(places))
"#;
    let outcome = project.run(["-c", check]).success();
    assert!(outcome.stdout.trim().parse::<usize>().unwrap() > 4000);
}

/// Changes in files with correct checksums: the walk over objects and tables has to find them itself.
#[test]
fn verify_survives_lies_under_right_checksums() {
    let project = project_without_layers();
    let check = r#"
import _cds_archive, random
data = open("app.cds", "rb").read()
sections = {s["name"]: s["extents"] for s in _cds_archive.inspect("app.cds")["sections"]}
choose = random.Random(2)
quiet = 0
for round in range(1000):
    broken = bytearray(data)
    name = choose.choice(["constants", "text", "lazy", "code", "tables"])
    offset, length = choose.choice(sections[name])
    for _ in range(choose.randrange(1, 4)):
        place = offset + choose.randrange(length) // 8 * 8
        broken[place:place + 8] = choose.choice([
            bytes(8), b"\xff" * 8, choose.randbytes(8), data[choose.randrange(0, len(data) - 8, 8):][:8]])
    with open("broken.img", "wb") as file: file.write(broken)
    faults = _cds_archive.verify("broken.img")
    try:
        for module in _cds_archive.inspect("broken.img")["modules"]:
            if module["address"] is not None: _cds_archive.walk("broken.img", module["address"])
    except ValueError:
        pass
    structural = [fault for fault in faults if "checksum" not in fault]
    quiet += not structural
print(quiet)
"#;
    // Changes in numbers and characters cannot be found; changes of pointers, types and lengths can.
    let outcome = project.run(["-c", check]).success();
    let quiet: usize = outcome.stdout.trim().parse().unwrap();
    assert!(
        quiet < 667,
        "{quiet} of 1000 changes were seen by checksums alone"
    );
}

#[test]
fn diff_tells_archives_apart() {
    let project = project();
    fs::copy(project.path("app.cds"), project.path("old.img")).unwrap();
    let same = cds(&project, &["diff", "old.img", "app.cds"]).success();
    assert!(
        same.stdout.starts_with("Modules: 3 -> 3 (the same)\n"),
        "{}",
        same.stdout
    );
    project.write(
        "shop/prices.py",
        "PRICES = {'tea': 3, 'milk': 1}\nNAMES = ()\n",
    );
    project.write("app.py", "import shop.cart, shop.extra\n");
    project.write("shop/extra.py", "x = 1\n");
    project.run(["-X", "cds_trace=new.lst", "app.py"]).success();
    let dump = ["dump", "-q", "--freshness", "hash", "new.lst", "app.cds"];
    cds(&project, &dump).success();
    let different = cds(&project, &["diff", "old.img", "app.cds"]);
    assert_eq!(different.status, 1);
    assert_screen!(project, different.stdout);
    let json = cds(&project, &["diff", "--json", "old.img", "app.cds"]);
    let found: serde_json::Value = serde_json::from_str(&json.stdout).unwrap();
    assert_eq!(found["changed"][0]["name"], "shop.prices");
    assert_eq!(cds(&project, &["diff", "old.img", "nosuch.img"]).status, 2);
}

/// The position of the code, and other contents of the archives, make no difference.
#[test]
fn diff_compares_what_code_says() {
    let project = project();
    project.write("more.py", "NAMES = ('tea', 'milk')\nvalue = 2 ** 100\n");
    project.write(
        "more.lst",
        &format!("more  # {}\n", project.path("more.py").display()),
    );
    cds(&project, &["dump", "-q", "more.lst", "app.lst", "all.img"]).success();
    let outcome = cds(&project, &["diff", "--json", "app.cds", "all.img"]);
    let found: serde_json::Value = serde_json::from_str(&outcome.stdout).unwrap();
    assert_eq!(found["added"][0]["name"], "more", "{outcome:?}");
    assert_eq!(found["changed"].as_array().unwrap().len(), 0);
}

#[test]
fn merge_keeps_the_order_of_loading() {
    let project = Project::new(&[
        ("a.lst", "json\nre  # 32 'a+'\nutils  # /srv/utils.py\n"),
        (
            "b.lst",
            "os  # a comment\njson\n\nre  # 32 'a+'\nre  # 0 b'x'\n",
        ),
        ("bad.lst", "json\nnot a module\n"),
    ]);
    let merged = cds(&project, &["merge", "a.lst", "b.lst"]).success();
    insta::assert_snapshot!(merged.stdout, @r"
    json
    re  # 32 'a+'
    utils  # /srv/utils.py
    os
    re  # 0 b'x'
    ");
    // The output may be one of the input lists.
    cds(&project, &["merge", "a.lst", "b.lst", "-o", "a.lst"]).success();
    assert_eq!(
        fs::read_to_string(project.path("a.lst")).unwrap(),
        merged.stdout
    );
    let bad = cds(&project, &["merge", "bad.lst", "-o", "b.lst"]);
    assert_eq!(
        (bad.status, bad.stderr.as_str()),
        (
            1,
            "cds merge: error: bad.lst:2: not a module name: 'not a module'; write one name per line\n"
        )
    );
    assert!(
        fs::read_to_string(project.path("b.lst"))
            .unwrap()
            .starts_with("os  # a comment")
    );
    let missing = cds(&project, &["merge", "nosuch.lst"]);
    assert_eq!(
        (missing.status, missing.stderr.as_str()),
        (
            1,
            "cds merge: error: nosuch.lst: No such file or directory; check the path and its permissions\n"
        )
    );
}

#[test]
fn stats_runs_a_program_and_tells_what_came_from_archives() {
    let project = project();
    project.write("shop/prices.py", "PRICES = {'tea': 1, 'milk': 1}\n");
    project.write("elsewhere/shop/__init__.py", "");
    let run = cds(
        &project,
        &["stats", "--archive", "app.cds", "app.py", "--json", "-o"],
    )
    .success();
    assert_eq!(run.stdout, "total 2 ['--json', '-o']\n");
    let lines: Vec<&str> = run.stderr.lines().collect();
    assert_eq!(
        lines[1], "cds:   shop.prices: source changed",
        "{}",
        run.stderr
    );
    let code = "import sys; sys.path.insert(0, 'elsewhere'); import shop; sys.exit(7)";
    let run = cds(
        &project,
        &[
            "stats",
            "--json",
            "-o",
            "stats.json",
            "--archive",
            "app.cds",
            "-c",
            code,
        ],
    );
    assert_eq!((run.status, run.stderr.as_str()), (7, ""));
    let report = cpython_cds_tests::report::Report::read(&project.path("stats.json")).unwrap();
    let shadowing = &report.modules.elsewhere[0];
    assert_eq!(shadowing.name, "shop");
    assert!(
        shadowing
            .reason
            .starts_with("not in the archive, which has /"),
        "{report:?}"
    );
    assert!(
        report
            .directories
            .iter()
            .any(|d| d.name.ends_with("/elsewhere")),
        "{report:?}"
    );
    let killed = cds(
        &project,
        &["stats", "-c", "import os; os.kill(os.getpid(), 9)"],
    );
    assert_eq!(killed.status, 125, "{killed:?}");
}

#[test]
fn colours_are_for_terminals() {
    let project = project();
    project.write("shop/prices.py", "PRICES = {}\n");
    let script = r#"
import os, pty, sys
read = b""
def reader(fd):
    global read
    data = os.read(fd, 1024)
    read += data
    return data
os.environ.update(eval(sys.argv[1]))
os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
pty.spawn([sys.executable, "-m", "cds", "verify", "app.cds"], reader)
os.write(2, b"colours" if b"\x1b[" in read else b"none")
"#;
    for (environment, expected) in [
        ("{'TERM': 'xterm'}", "colours"),
        ("{'TERM': 'xterm', 'NO_COLOR': '1'}", "none"),
        ("{'TERM': 'dumb'}", "none"),
    ] {
        assert_eq!(
            project.run(["-c", script, environment]).stderr,
            expected,
            "{environment}"
        );
    }
    assert!(
        !cds(&project, &["verify", "app.cds"])
            .stdout
            .contains('\u{1b}')
    );
}
