//! Work that an archive saves at a start, in addition to reading code: loading extension modules, compiling patterns,
//! collecting garbage.

use std::fs;
use std::time::{Duration, SystemTime};

use cpython_cds_tests::{Mode, Outcome, Project};

const SHOW_MODULES: &str = r#"
import sys, _json, _datetime, math, unicodedata, pyexpat
for m in (_json, _datetime, math, unicodedata, pyexpat):
    s = m.__spec__
    print(m.__name__, m.__file__, type(s.loader).__name__, s.origin, s.has_location, m.__name__ in sys.builtin_module_names)
print(_json.scanstring('a"', 0), math.sqrt(2), unicodedata.name("x"), _datetime.MAXYEAR, pyexpat.native_encoding)
"#;

/// Prints the names of the extension modules that the process has mapped.
const SHOW_LOADED: &str = r#"
import os
print(*sorted({os.path.basename(line.split()[-1]).partition(".")[0] for line in open("/proc/self/maps") if "cpython-313" in line}))
"#;

#[test]
fn extension_modules_are_those_of_their_files() {
    let project = Project::new(&[("app.py", SHOW_MODULES)]);
    project.assert_same(&["app.py"]);
}

#[test]
fn extension_modules_need_no_loading() {
    let program = format!("{SHOW_MODULES}{SHOW_LOADED}");
    let project = Project::new(&[("app.py", &program)]);
    let loaded = |mode| {
        let stdout = project.run_in(mode, ["app.py"]).success().stdout;
        stdout.lines().last().map(str::to_owned)
    };
    assert_eq!(
        loaded(Mode::Off).as_deref(),
        Some("_datetime _json math pyexpat unicodedata")
    );
    assert_eq!(loaded(Mode::Standard).as_deref(), Some(""));
}

#[test]
fn an_extension_module_is_loaded_where_that_shows() {
    let program = format!(
        "import sys, os\nsys.setdlopenflags(os.RTLD_NOW | os.RTLD_GLOBAL)\nimport _json{SHOW_LOADED}"
    );
    let project = Project::new(&[("app.py", &program)]);
    assert_eq!(
        project.run_in(Mode::Standard, ["app.py"]).success().stdout,
        "_json\n"
    );
}

#[test]
fn another_file_of_that_name_is_loaded() {
    let project = Project::new(&[("app.py", &format!("import _json{SHOW_LOADED}"))]);
    let find = ["-c", "import _json; print(_json.__file__)"];
    let file = project.run(find).success().stdout;
    let name = file
        .trim()
        .rsplit('/')
        .next()
        .expect("it has a name")
        .to_owned();
    fs::create_dir(project.path("ext")).expect("a directory can be made");
    fs::copy(file.trim(), project.path("ext").join(&name)).expect("a file can be copied");
    let run = |options: &[&str]| {
        let mut command = project.command(options);
        Outcome::of(command.arg("app.py").env("PYTHONPATH", project.path("ext")))
            .success()
            .stdout
    };
    // The file has the same bytes, but the dump has not compared it.
    assert_eq!(run(&[]), "_json\n");

    let mut dump = project.command([
        "-X", "cds=off", "-m", "cds", "dump", "-q", "--stdlib", "all.img",
    ]);
    Outcome::of(dump.env("PYTHONPATH", project.path("ext"))).success();
    assert_eq!(run(&["-X", "cds=all.img"]), "\n");

    // Another time does not make it another file; another byte does. The dynamic linker ignores bytes after the end.
    let path = project.path("ext").join(name);
    let file = fs::File::open(&path).expect("it is there");
    file.set_modified(SystemTime::now() - Duration::from_secs(60))
        .expect("its time can be set");
    assert_eq!(run(&["-X", "cds=all.img"]), "\n");
    let mut content = fs::read(&path).expect("it can be read");
    content.push(0);
    fs::remove_file(&path).expect("it can be removed");
    fs::write(&path, content).expect("it can be written");
    assert_eq!(run(&["-X", "cds=all.img"]), "_json\n");
}

const PATTERNS: &str = r#"
import re, sys
import re._parser
parsed = 0
parse = re._parser.parse
def counting(*args):
    global parsed
    parsed += 1
    return parse(*args)
re._parser.parse = counting
patterns = [
    re.compile(r"(?P<year>\d{4})-(?P<month>\d\d)", re.ASCII),
    re.compile(rb"[\x80-\xff]+?(x|y)*", re.IGNORECASE | re.DOTALL),
    re.compile("[äöü]{2,}|ß(?=s)|Ω", re.I),
    re.compile(r"(?x) a  # comment"),
    re.compile(""),
]
"#;

#[test]
fn patterns_are_what_re_compiles() {
    let project = Project::new(&[(
        "app.py",
        &format!(
            r#"{PATTERNS}
import pickle, copy
for p in patterns:
    print(p, p.flags, p.groups, dict(p.groupindex), copy.copy(p) is p, pickle.loads(pickle.dumps(p)) == p)
    q = parse(p.pattern, p.flags & ~re.UNICODE)
print(patterns[0].fullmatch("2026-11").groupdict(), patterns[1].sub(b"-", b"a\x90\xffY"), patterns[2].findall("ÄÖ ω ßs"))
try:
    re.compile("(")
except re.error:
    import traceback
    traceback.print_exc()
re.compile("[[a]")
re.compile([])
"#
        ),
    )]);
    let outcome = project.assert_same(&["app.py"]);
    assert!(
        outcome
            .stderr
            .contains("FutureWarning: Possible nested set"),
        "{}",
        outcome.stderr
    );
    assert!(
        outcome
            .stderr
            .contains("missing ), unterminated subpattern"),
        "{}",
        outcome.stderr
    );
}

#[test]
fn patterns_of_a_traced_run_are_not_compiled_again() {
    let project = Project::new(&[("app.py", &format!("{PATTERNS}print(parsed)"))]);
    project.dump(["app.py"]);
    let parsed = |mode| project.run_in(mode, ["app.py"]).success().stdout;
    assert_eq!(parsed(Mode::Off), "5\n");
    assert_eq!(parsed(Mode::Archive), "0\n");
    assert_eq!(parsed(Mode::Relocated), "0\n");
}

#[test]
fn a_compiler_that_a_program_replaces_is_asked() {
    let project = Project::new(&[(
        "app.py",
        &format!(
            "{PATTERNS}
import re._compiler
compiler = re._compiler.compile
re._compiler.compile = lambda *args: print('asked', *args) or compiler(*args)
re.purge()
print(re.compile(''), re.compile('(?x) a  # comment'))
"
        ),
    )]);
    let outcome = project.assert_same(&["app.py"]);
    assert!(
        outcome.stdout.contains("asked (?x) a  # comment 0\n"),
        "{}",
        outcome.stdout
    );
}

const IMPORTS: &str = "import asyncio, email.message, http.client, logging.config, unittest, xml.dom.minidom, decimal\n";

#[test]
fn garbage_is_not_collected_while_archived_modules_are_imported() {
    let project = Project::new(&[(
        "app.py",
        &format!("import gc\n{IMPORTS}print(sum(g['collections'] for g in gc.get_stats()) > 0)"),
    )]);
    assert_eq!(
        project.run_in(Mode::Off, ["app.py"]).success().stdout,
        "True\n"
    );
    assert_eq!(
        project.run_in(Mode::Standard, ["app.py"]).success().stdout,
        "False\n"
    );
}

#[test]
fn garbage_is_collected_afterwards() {
    let project = Project::new(&[(
        "app.py",
        &format!(
            r#"import gc, weakref
class Cycle:
    def __init__(self): self.me = self
cycle = weakref.ref(Cycle(), lambda _: print("collected"))
{IMPORTS}
before = gc.get_threshold()
kept = [[] for _ in range(3 * before[0])]
print(cycle(), before, gc.isenabled())
"#
        ),
    )]);
    let outcome = project.assert_same(&["app.py"]);
    assert_eq!(outcome.stdout, "collected\nNone (2000, 10, 10) True\n");
}

#[test]
fn a_program_that_looks_at_collections_sees_them_during_imports() {
    for look in [
        "gc.callbacks.append(lambda phase, info: seen.append(phase))",
        "gc.set_threshold(500)",
    ] {
        let program = format!(
            "import gc\nseen = []\n{look}\n{IMPORTS}print(sum(g['collections'] for g in gc.get_stats()) > 0)"
        );
        let project = Project::new(&[("app.py", &program)]);
        for mode in [Mode::Off, Mode::Standard] {
            assert_eq!(
                project.run_in(mode, ["app.py"]).success().stdout,
                "True\n",
                "{look}"
            );
        }
    }
}
