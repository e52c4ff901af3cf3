//! The interfaces that scripts for PyPI's code-data-share 0.1.0 rely on. The expected results come from its wheel.

use std::fs;

use cpython_cds_tests::ancestor::Ancestor;
use cpython_cds_tests::{Outcome, Project, skip};

/// Runs a program with the variables of code-data-share.
fn run(project: &Project, variables: &[(&str, &str)], arguments: &[&str]) -> Outcome {
    let mut command = project.command(arguments);
    Outcome::of(command.envs(variables.iter().copied()))
}

/// Prints what each expression returns or raises.
const TRY: &str = r#"
import _cds, os, sys
def tries(*expressions):
    for expression in expressions:
        try:
            print(expression, "->", eval(expression))
        except Exception as error:
            print(expression, "!!", type(error).__name__, error)
"#;

fn tries(variables: &[(&str, &str)], expressions: &str) -> String {
    let project = Project::new(&[("app.py", &format!("{TRY}{expressions}"))]);
    run(&project, variables, &["app.py"]).success().stdout
}

const MANUALLY: &[(&str, &str)] = &[("PYCDSMODE", "MANUALLY")];

#[test]
fn a_process_starts_initialized_and_disabled() {
    insta::assert_snapshot!(tries(&[], r#"
print(sorted(name for name in dir(_cds) if not name.startswith("__")))
tries("_cds.flags", "_cds._get_initialized()", "issubclass(_cds.CDSException, RuntimeError)",
    "_cds._set_mode(-1)", "_cds._set_mode(0)", "_cds._set_mode(1)", "_cds._set_mode(3)", "_cds._set_mode('x')",
    "_cds._load_archive('none.img')", "_cds._move_in(1)", "_cds._get_obj()",
    "_cds._set_mode(2)", "_cds.flags", "_cds._set_mode(2)", "_cds._create_archive('a.img')")
"#), @r"
    ['CDSException', '_create_archive', '_get_initialized', '_get_obj', '_load_archive', '_move_in', '_set_mode', '_set_verbose', 'flags']
    _cds.flags -> _cds.flags(mode=0, verbose=0)
    _cds._get_initialized() -> True
    issubclass(_cds.CDSException, RuntimeError) -> True
    _cds._set_mode(-1) !! CDSException cds already initialized, current mode: 0.
    _cds._set_mode(0) !! CDSException cds already initialized, current mode: 0.
    _cds._set_mode(1) !! CDSException cds already initialized, current mode: 0.
    _cds._set_mode(3) !! CDSException invalid mode: 3, only disabled (0), tracer (1), dumper (2) and manual mode (-1) can be set with _cds._set_mode.
    _cds._set_mode('x') !! TypeError 'str' object cannot be interpreted as an integer
    _cds._load_archive('none.img') !! CDSException cds already initialized, current mode: 0.
    _cds._move_in(1) !! CDSException move in already finished or archive file not opened.
    _cds._get_obj() !! CDSException No object in heap.
    _cds._set_mode(2) -> None
    _cds.flags -> _cds.flags(mode=2, verbose=0)
    _cds._set_mode(2) !! CDSException cds already initialized, current mode: 2.
    _cds._create_archive('a.img') !! CDSException cds already initialized, current mode: 2.
    ");
}

#[test]
fn in_manual_mode_any_mode_may_follow() {
    insta::assert_snapshot!(tries(MANUALLY, r#"
tries("_cds.flags.mode", "_cds._set_mode(-1)", "_cds._set_mode(1)", "_cds.flags.mode", "_cds._set_mode(2)",
    "_cds._create_archive('a.img')")
"#), @r"
    _cds.flags.mode -> -1
    _cds._set_mode(-1) -> None
    _cds._set_mode(1) -> None
    _cds.flags.mode -> 1
    _cds._set_mode(2) !! CDSException cds already initialized, current mode: 1.
    _cds._create_archive('a.img') !! CDSException cds already initialized, current mode: 1.
    ");
}

#[test]
fn verbosity_is_0_to_2() {
    insta::assert_snapshot!(tries(&[("PYCDSVERBOSE", "1")], r#"
tries("_cds.flags.verbose", "_cds._set_verbose(-1)", "_cds._set_verbose(3)", "_cds._set_verbose(2)", "_cds.flags")
"#), @r"
    _cds.flags.verbose -> 1
    _cds._set_verbose(-1) !! CDSException invalid verbose: -1.
    _cds._set_verbose(3) !! CDSException invalid verbose: 3.
    _cds._set_verbose(2) -> None
    _cds.flags -> _cds.flags(mode=0, verbose=2)
    ");
}

#[test]
fn one_object_moves_in_and_only_of_types_that_code_is_made_of() {
    insta::assert_snapshot!(tries(&[], r#"
tries("_cds._create_archive(1)", "_cds._create_archive('a\\0b')", "_cds._create_archive('a.img')", "_cds.flags.mode",
    "os.path.exists('a.img')", "_cds._move_in([1])", "_cds._move_in((1, frozenset({(2, int)})))",
    "_cds._move_in(NotImplemented)", "_cds._move_in(sys.flags)", "_cds._move_in(type('S', (str,), {})('x'))",
    "_cds._move_in((1, 'x'))", "_cds._move_in(2)", "_cds._create_archive('b.img')", "_cds._load_archive('a.img')")
"#), @r"
    _cds._create_archive(1) !! TypeError _create_archive() argument 'archive' must be str, not int
    _cds._create_archive('a\0b') !! ValueError embedded null character
    _cds._create_archive('a.img') -> None
    _cds.flags.mode -> 2
    os.path.exists('a.img') -> True
    _cds._move_in([1]) !! CDSException Trying to move in a list object.
    _cds._move_in((1, frozenset({(2, int)}))) !! CDSException Trying to move in a type object.
    _cds._move_in(NotImplemented) !! CDSException Trying to move in a NotImplementedType object.
    _cds._move_in(sys.flags) !! CDSException Trying to move in a sys.flags object.
    _cds._move_in(type('S', (str,), {})('x')) !! CDSException Trying to move in a S object.
    _cds._move_in((1, 'x')) -> None
    _cds._move_in(2) !! CDSException move in already finished or archive file not opened.
    _cds._create_archive('b.img') !! CDSException cds already initialized, current mode: 2.
    _cds._load_archive('a.img') !! CDSException cds already initialized, current mode: 2.
    ");
    insta::assert_snapshot!(tries(&[], r#"
tries("_cds._create_archive('/nonexistent/a.img')", "_cds.flags.mode")
"#), @r"
    _cds._create_archive('/nonexistent/a.img') !! CDSException create mmap file failed.
    _cds.flags.mode -> 2
    ");
}

#[test]
fn what_cannot_be_loaded_is_refused() {
    let project = Project::new(&[
        (
            "write.py",
            "import _cds\n_cds._create_archive('empty.img')\n",
        ),
        ("bad.img", "no archive"),
        (
            "app.py",
            &format!(
                "{TRY}{}",
                r#"tries(f"_cds._load_archive('{sys.argv[1]}')", "_cds.flags.mode", "_cds._get_obj()", "_cds._load_archive('x')")"#
            ),
        ),
    ]);
    project.run(["write.py"]).success();
    let mut report = String::new();
    for archive in ["empty.img", "bad.img", "none.img"] {
        report += &run(&project, MANUALLY, &["app.py", archive])
            .success()
            .stdout;
    }
    insta::assert_snapshot!(report, @r"
    _cds._load_archive('empty.img') -> None
    _cds.flags.mode -> 3
    _cds._get_obj() !! CDSException No object in heap.
    _cds._load_archive('x') !! CDSException cds already initialized, current mode: 3.
    _cds._load_archive('bad.img') !! CDSException read archive header failed.
    _cds.flags.mode -> 3
    _cds._get_obj() !! CDSException No object in heap.
    _cds._load_archive('x') !! CDSException cds already initialized, current mode: 3.
    _cds._load_archive('none.img') !! CDSException open mmap file failed.
    _cds.flags.mode -> 3
    _cds._get_obj() !! CDSException No object in heap.
    _cds._load_archive('x') !! CDSException cds already initialized, current mode: 3.
    ");
}

const OBJECTS: &str = r#"
def nested(depth):
    inner = ()
    for _ in range(depth):
        inner = (inner,)
    return inner
source = "def f(a, *b, c=3):\n    'doc'\n    return [x + c for x in b if x in {1, 2, 300}], lambda: (a, 'zq_literal')\n"
same = (None, True, False, ..., 0, 256, -5, b"", bytes([120]), "", "a", "\xe4", (), "name", "__init__")
equal = (257, 2**100, -2**70, -0.0, 0.0, 1.5, 1j, b"xyz", "two words", "\u1234" * 3, "\U0001F600", "a" * 10000, nested(100),
         frozenset({1, "k", (2,)}), frozenset(), frozenset({frozenset({1})}))
interned = ("zq_new_name", "zq_known_name")
code = (compile(source, "f.py", "exec"), (lambda x: x + 1).__code__)
"#;

#[test]
fn an_object_comes_back_as_it_was() {
    let project = Project::new(&[
        ("objects.py", OBJECTS),
        (
            "write.py",
            "import _cds, objects as o\n_cds._create_archive('o.img')\n_cds._move_in((o.same, o.equal, o.interned, o.code))\n",
        ),
        (
            "read.py",
            r#"
import sys
known = sys.intern("zq_known_" + "name")
import _cds, dis, io, re
_cds._load_archive("o.img")
loaded = _cds._get_obj()
same, equal, interned, code = loaded
print("one object:", _cds._get_obj() is loaded, hex(id(loaded))[:4], len(hex(id(loaded))))
# Its constants are interned now, and its names.
import objects as o
print("the interpreter's own:", [i for i, (a, b) in enumerate(zip(same, o.same)) if a is not b])
print("equal:", [i for i, (a, b) in enumerate(zip(equal, o.equal)) if a != b or type(a) is not type(b) or repr(a) != repr(b) and type(a) is not frozenset])
print("interned:", interned[0] is sys.intern("_".join(["zq", "new", "name"])), hex(id(interned[0]))[:4], interned[1] is known, eval(repr("_".join(["zq", "new", "name"]))) is interned[0])
print("sets:", type(equal[13]).__name__, "k" in equal[13], frozenset({1}) in equal[15], hash(equal[15]) == hash(o.equal[15]))
def shown(code):
    text = io.StringIO()
    dis.dis(code, show_caches=True, file=text)
    return re.sub("0x[0-9a-f]+|\"[^\"]*objects.py\"", "", text.getvalue())
print("dis:", [shown(a) == shown(b) for a, b in zip(code, o.code)])
space = {}
exec(code[0], space)
print("runs:", space["f"](1, 1, 2), space["f"].__doc__, space["f"](7)[1]())
function = type(shown)(code[1], {})
print("specialises:", sum(function(i) for i in range(10_000)), code[1].co_code == o.code[1].co_code)
"#,
        ),
    ]);
    project.run(["write.py"]).success();
    let read = run(&project, MANUALLY, &["read.py"]).success();

    let runs = "runs: ([4, 5], <function f.<locals>.<lambda> at ";
    let (before, after) = read.stdout.split_once(runs).expect("the code runs");
    insta::assert_snapshot!(before, @r"
    one object: True 0x28 14
    the interpreter's own: []
    equal: []
    interned: True 0x28 True True
    sets: frozenset True True True
    dis: [True, True]
    ");
    let (_, after) = after.split_once('>').expect("an address");
    insta::assert_snapshot!(after, @r"
    ) doc (7, 'zq_literal')
    specialises: 50005000 True
    ");
}

const PROGRAM: &[(&str, &str)] = &[
    (
        "app.py",
        "import colorsys, helper, _cds, sys\nprint(_cds.flags, type(sys.modules['helper'].__spec__.loader).__name__)\n",
    ),
    ("helper.py", "x = 1\n"),
];

fn traced_and_dumped() -> Project {
    let project = Project::new(PROGRAM);
    run(&project, &[], &["app.py"]).success();
    let trace = [("PYCDSMODE", "TRACE"), ("PYCDSLIST", "app.lst")];
    run(&project, &trace, &["app.py"]).success();
    let dump = "import cds.dump; cds.dump.run_dump('app.lst', 'app.cds'); print('never')";
    let dumped = run(&project, &[], &["-c", dump]).success();
    assert_eq!(dumped.stdout, "");
    project
}

#[test]
fn a_trace_has_the_names_of_modules_one_a_line() {
    let project = traced_and_dumped();
    let list = || fs::read_to_string(project.path("app.lst")).expect("it was written");
    insta::assert_snapshot!(list(), @r"
    colorsys
    helper
    _cds
    ");
    // The list is appended to.
    run(
        &project,
        &[("PYCDSMODE", "TRACE"), ("PYCDSLIST", "app.lst")],
        &["-c", "import helper"],
    );
    assert!(list().ends_with("\nhelper\n"), "{}", list());
}

#[test]
fn sharing_takes_modules_from_the_archive() {
    let project = traced_and_dumped();
    let share = [("PYCDSMODE", "SHARE"), ("PYCDSARCHIVE", "app.cds")];
    let shared = run(&project, &share, &["-Xcds_stats", "app.py"]).success();
    assert_eq!(
        shared.stdout,
        "_cds.flags(mode=3, verbose=0) SourceFileLoader\n"
    );
    assert!(
        shared.stderr.contains(", from elsewhere: 0\n"),
        "{}",
        shared.stderr
    );

    let told = run(
        &project,
        &[&share[..], &[("PYCDSVERBOSE", "1")]].concat(),
        &["app.py"],
    );
    insta::assert_snapshot!(told.success().stderr, @r"
    [cds] cds.init_from_env
    [cds] exec_module cached 'colorsys'
    [cds] exec_module cached 'helper'
    [cds] exec_module cached '_cds'
    ");
    let missed = run(
        &project,
        &[&share[..], &[("PYCDSVERBOSE", "1")]].concat(),
        &["-c", "import nothing"],
    );
    assert!(
        missed.stderr.contains("[cds] find_spec missed 'nothing'\n"),
        "{}",
        missed.stderr
    );
}

/// The interpreter's own start imports no module whose import would be reported otherwise.
#[test]
fn each_import_of_the_program_is_reported() {
    let project = traced_and_dumped();
    let share = [
        ("PYCDSMODE", "SHARE"),
        ("PYCDSARCHIVE", "app.cds"),
        ("PYCDSVERBOSE", "2"),
    ];
    let program = "import collections, contextlib, types";
    let told = run(&project, &share, &["-c", program]).success().stderr;
    for name in ["collections", "contextlib", "types"] {
        let line = format!("[cds] exec_module cached '{name}'\n");
        assert!(told.contains(&line), "{told}");
    }
}

/// Entries have the form of code-data-share: name, and package, file, search path and code.
#[test]
fn an_archive_of_modules_is_a_tuple_of_entries() {
    let project = traced_and_dumped();
    let program = r#"
import _cds, contextlib, dis, io, os
if _cds.flags.mode < 0:
    _cds._load_archive("app.cds")
entries = _cds._get_obj()
print(type(entries).__name__, _cds._get_obj() is entries)
found = dict(entries)
package, file, path, code = found["helper"]
print(repr(package), os.path.basename(file), path, code.co_name, hex(id(code))[:4])
package, file, path, code = found["json"]
print(repr(package), os.path.basename(file), [os.path.basename(place) for place in path])
print(found["json.decoder"][0], found["colorsys"][:1])
with contextlib.redirect_stdout(io.StringIO()):
    # All of them take half a minute.
    done = [dis.dis(i[1][3], show_caches=True) for i in _cds._get_obj()[:20]]
print(set(done))
"#;
    project.write("entries.py", program);
    let share = [("PYCDSMODE", "SHARE"), ("PYCDSARCHIVE", "app.cds")];
    for variables in [MANUALLY, &share] {
        let entries = run(&project, variables, &["entries.py"]).success();
        insta::allow_duplicates! {
            insta::assert_snapshot!(entries.stdout, @r"
            tuple True
            '' helper.py None <module> 0x28
            'json' __init__.py ['json']
            json ('',)
            {None}
            ");
        }
    }
}

#[test]
fn sharing_may_begin_while_the_program_runs() {
    let project = traced_and_dumped();
    let program = "import cds; cds.share('app.cds'); import helper, _cds; print(_cds.flags, hex(id(helper.__spec__.loader.get_code('helper')))[:4])";
    let shared = run(&project, MANUALLY, &["-c", program]).success();
    assert_eq!(shared.stdout, "_cds.flags(mode=3, verbose=0) 0x28\n");
    let again = run(&project, &[], &["-c", program]);
    assert!(
        again
            .stderr
            .contains("CDSException: cds already initialized, current mode: 0."),
        "{}",
        again.stderr
    );
}

#[test]
fn a_script_edited_after_the_dump_is_noticed() {
    let project = traced_and_dumped();
    project.write("helper.py", "x = 'edited'\n");
    let share = [("PYCDSMODE", "SHARE"), ("PYCDSARCHIVE", "app.cds")];
    let program = "import helper; print(helper.x)";
    assert_eq!(
        run(&project, &share, &["-c", program]).success().stdout,
        "edited\n"
    );
}

#[test]
fn settings_that_make_no_sense_are_told_and_ignored() {
    let project = Project::new(&[]);
    let mut report = String::new();
    for variables in [
        &[("PYCDSMODE", "DUMP"), ("PYCDSVERBOSE", "1")][..],
        &[("PYCDSMODE", "TRACE"), ("PYCDSVERBOSE", "1")],
        &[("PYCDSMODE", "SHARE"), ("PYCDSVERBOSE", "1")],
        &[("PYCDSMODE", "WHATEVER"), ("PYCDSVERBOSE", "2")],
        &[("PYCDSVERBOSE", "7")],
        &[("PYCDSVERBOSE", "much")],
        &[("PYCDSMODE", "TRACE")],
        &[("PYCDSMODE", "SHARE"), ("PYCDSARCHIVE", "none.img")],
    ] {
        let program = "import _cds, cds; cds.init_from_env(); print(_cds.flags)";
        let outcome = run(&project, variables, &["-c", program]).success();
        report += &format!("{variables:?}\n{}{}", outcome.stderr, outcome.stdout);
    }
    insta::assert_snapshot!(report);
}

#[test]
fn isolated_mode_looks_at_no_variable() {
    let project = Project::new(&[]);
    for option in ["-E", "-I"] {
        let trace = [
            ("PYCDSMODE", "TRACE"),
            ("PYCDSLIST", "app.lst"),
            ("PYCDSVERBOSE", "2"),
        ];
        let outcome = run(
            &project,
            &trace,
            &[option, "-c", "import _cds; print(_cds.flags)"],
        )
        .success();
        assert_eq!(
            (&*outcome.stdout, &*outcome.stderr),
            ("_cds.flags(mode=0, verbose=0)\n", "")
        );
        assert!(!project.path("app.lst").exists());
    }
}

#[test]
fn dump_is_a_command_too() {
    let project = traced_and_dumped();
    run(&project, &[], &["-m", "cds.dump", "app.lst", "other.img"]).success();
    assert!(project.path("other.img").exists());
    let missing = run(&project, &[], &["-m", "cds.dump", "none.lst", "other.img"]);
    assert!(
        missing
            .stderr
            .ends_with("FileNotFoundError: [Errno 2] No such file or directory: 'none.lst'\n"),
        "{}",
        missing.stderr
    );
    assert_eq!(run(&project, &[], &["-m", "cds.dump"]).status, 1);
}

/// Each line is a program for a new process. `T` prints what a call returns or raises, and `R` runs more code in
/// another process.
const PROGRAMS: &str = r#"
print(sorted(n for n in dir(_cds) if not n.startswith('__')), _cds.flags, _cds.flags.mode, _cds.flags.verbose)
print(_cds._get_initialized(), _cds.CDSException.__mro__, _cds.CDSException.__module__)
for m in (-1, 0, 1, 2, 3, 99, -2): T(lambda: _cds._set_mode(m))
T(lambda: _cds._set_mode(2)); print(_cds.flags); [T(lambda: _cds._set_mode(m)) for m in (-1, 0, 1, 2, 3, 99)]
T(lambda: _cds._set_mode(1.5)); T(lambda: _cds._set_mode('x'))
for v in (-1, 0, 1, 2, 3, 'a'): T(lambda: _cds._set_verbose(v)); print(_cds.flags.verbose)
T(lambda: _cds._load_archive('/nonexistent')); print(_cds.flags); T(lambda: _cds._load_archive('/nonexistent'))
T(lambda: _cds._create_archive('a.img')); T(lambda: _cds._create_archive('b.img'))
T(lambda: _cds._create_archive('/nonexistent/a.img')); print(_cds.flags); T(lambda: _cds._create_archive('a.img'))
T(lambda: _cds._create_archive('a.img')); T(lambda: _cds._load_archive('a.img')); T(lambda: _cds._set_mode(0))
T(lambda: _cds._create_archive(1)); T(lambda: _cds._load_archive(None))
T(lambda: _cds._set_mode(0)); print(_cds.flags); T(lambda: _cds._set_mode(2)); T(lambda: _cds._create_archive('a.img'))
T(lambda: _cds._set_mode(1)); print(_cds.flags); T(lambda: _cds._create_archive('a.img'))
M(); T(lambda: _cds._set_mode(-1)); T(lambda: _cds._create_archive('a.img')); print(_cds.flags); T(lambda: _cds._move_in(('x', 1)))
M(); T(lambda: _cds._create_archive('a.img')); T(lambda: _cds._move_in([1]))
M(); T(lambda: _cds._create_archive('a.img')); T(lambda: _cds._move_in((1, [2])))
M(); T(lambda: _cds._create_archive('a.img')); T(lambda: _cds._move_in({1: 2}))
M(); T(lambda: _cds._create_archive('a.img')); T(lambda: _cds._move_in(int))
M(); T(lambda: _cds._create_archive('a.img')); R('T(lambda: _cds._load_archive("a.img")); print(_cds.flags)')
M(); _cds._create_archive('a.img'); _cds._move_in(None); R('T(lambda: _cds._load_archive("a.img")); T(lambda: _cds._get_obj())')
M(); _cds._create_archive('a.img'); _cds._move_in((1, 'name', b'x', b'xyz', -0.0, 2**100, 1j, ..., True, (), '', '\xe4', '\u1234' * 3)); R('_cds._load_archive("a.img"); o = _cds._get_obj(); print(o, o is _cds._get_obj(), hex(id(o))[:4], len(hex(id(o)))); import sys; print(o[1] is sys.intern("name"))')
M(); _cds._create_archive('a.img'); _cds._move_in((lambda x, y=2: [x, y]).__code__); R('_cds._load_archive("a.img"); c = _cds._get_obj(); import types; print(types.FunctionType(c, {})(1, 2), c.co_varnames)')
M(); open('t.img', 'w').write('x'); T(lambda: _cds._load_archive('nothing.img')); print(_cds.flags)
"#;

const HARNESS: &str = r#"
import _cds, os, subprocess, sys
def T(call):
    try: print('->', repr(call())[:150])
    except BaseException as error: print('!!', type(error).__name__, error)
def R(code):
    sys.stdout.flush()
    subprocess.run([sys.executable, '-W', 'ignore', '-c', HARNESS + 'M()\n' + code])
def M():
    "Manual mode: before anything else has been done."
    if os.environ.get('PYCDSMODE') != 'MANUALLY':
        os.environ['PYCDSMODE'] = 'MANUALLY'
        os.execv(sys.executable, [sys.executable, '-W', 'ignore', '-c', SOURCE])
"#;

/// Runs the programs with the wheel and with this interpreter, and compares. Programs that crash the wheel are skipped.
#[test]
fn the_wheel_does_the_same() {
    let ancestor = match Ancestor::new() {
        Ok(ancestor) => ancestor,
        Err(reason) => {
            skip!("not compared with code-data-share: {reason:#}");
        }
    };
    let project = Project::new(&[]);
    let mut compared = 0;
    for program in PROGRAMS.trim().lines() {
        let code = format!("{HARNESS}{program}");
        let source = format!(
            "HARNESS = {HARNESS:?}\nSOURCE = {code:?}\nSOURCE = 'HARNESS = %r\\nSOURCE = %r\\n' % (HARNESS, SOURCE) + SOURCE\n{code}"
        );
        let run = |mut command: std::process::Command| {
            command
                .current_dir(project.path(""))
                .args(["-W", "ignore", "-c", &source]);
            Outcome::of(&mut command)
        };
        let (theirs, ours) = (
            run(ancestor.command()),
            run(project.command([] as [&str; 0])),
        );
        if theirs.status < 0 {
            continue;
        }
        assert_eq!(ours, theirs, "{program}");
        compared += 1;
    }
    assert!(compared >= 15, "{compared} programs ran with the wheel");
}
