//! Imports with an archive have the same results as in stock CPython.

use cpython_cds_tests::{Mode, Outcome, Project};

const PACKAGE: &[(&str, &str)] = &[
    (
        "pkg/__init__.py",
        "from . import circular_a\nname = 'pkg'\n",
    ),
    ("pkg/circular_a.py", "from . import circular_b\nvalue = 1\n"),
    (
        "pkg/circular_b.py",
        "from . import circular_a\ndef late(): return circular_a.value\n",
    ),
    (
        "pkg/fails.py",
        "def fail():\n    # a comment\n    raise ValueError('from the archive')\n",
    ),
    (
        "pkg/__main__.py",
        "import sys; print('main of', __package__, __name__, sys.argv[1:], __spec__.name)\n",
    ),
    ("pkg/data.txt", "some data\n"),
    (
        "pkg/sub/__init__.py",
        "__path__.append(__path__[0] + '/more')\n",
    ),
    (
        "pkg/sub/more/hidden.py",
        "found = 'through a changed __path__'\n",
    ),
    ("ns1/space/one.py", "one = 1\n"),
    ("ns2/space/two.py", "two = 2\n"),
    (
        "top.py",
        "def f(x):\n    y = x + 1\n    return y\n\nclass C:\n    def m(self):\n        return self\n",
    ),
];

fn project(program: &str) -> Project {
    let project = Project::new(PACKAGE);
    project.write("app.py", program);
    project
}

#[test]
fn modules_look_as_ever() {
    let project = project(
        r#"
import importlib.resources, inspect, pkgutil, sys, traceback, linecache
import pkg, pkg.fails, pkg.sub, top
sys.path += ["ns1", "ns2"]
import space.one, space.two, pkg.sub.hidden
for m in (pkg, pkg.fails, pkg.sub, top, pkg.sub.hidden, space, space.two, inspect):
    s = m.__spec__
    print(m.__name__, type(s.loader).__name__, s.origin, s.cached, s.has_location, getattr(m, "__file__", None),
          getattr(m, "__cached__", None), m.__package__, list(getattr(m, "__path__", [])), s.submodule_search_locations)
print(type(top.__spec__.loader) is importlib.machinery.SourceFileLoader)
print(inspect.getsource(top), inspect.getsourcefile(top.f), inspect.getsourcelines(top.C.m))
print([m.name for m in pkgutil.walk_packages(pkg.__path__, "pkg.")], [m.name for m in pkgutil.iter_modules(["."])])
print(importlib.resources.files("pkg").joinpath("data.txt").read_text())
print(pkgutil.get_data("pkg", "data.txt"), pkg.circular_b.late())
try:
    pkg.fails.fail()
except ValueError:
    traceback.print_exc()
import warnings
warnings.warn_explicit("warned", UserWarning, top.__file__, 2)
import missing_module
"#,
    );
    let outcome = project.assert_same(&["app.py"]);
    assert_eq!(outcome.status, 1);
    assert!(
        outcome
            .stderr
            .contains("    raise ValueError('from the archive')\n"),
        "{}",
        outcome.stderr
    );
    assert!(
        outcome
            .stderr
            .ends_with("ModuleNotFoundError: No module named 'missing_module'\n")
    );
}

#[test]
fn packages_and_modules_run_as_main() {
    let project = project("");
    project.assert_same(&["-m", "pkg", "an argument"]);
    project.assert_same(&["-m", "top"]);
    project.assert_same(&["-m", "json.tool", "--help"]);
    project.assert_same(&[
        "-c",
        "import runpy; print(sorted(runpy.run_module('top')), runpy.run_path('top.py')['C'])",
    ]);
}

#[test]
fn tools_that_watch_code_see_what_they_saw() {
    let project = project(
        r#"
import sys, dis, io, marshal, pickle, copy, weakref
events = []
def tracer(frame, event, arg):
    if frame.f_code.co_filename.endswith(("top.py", "circular_b.py")):
        events.append((frame.f_code.co_name, event, frame.f_lineno))
    return tracer
sys.settrace(tracer)
import top, pkg.circular_b
top.f(1); top.C().m(); pkg.circular_b.late()
sys.settrace(None)
print(events)
seen = []
sys.setprofile(lambda frame, event, arg: seen.append((frame.f_code.co_name, event)))
top.f(1)
sys.setprofile(None)
print(seen)
m = sys.monitoring
m.use_tool_id(1, "test")
lines = []
m.register_callback(1, m.events.LINE, lambda code, line: lines.append((code.co_name, line)))
m.register_callback(1, m.events.PY_START, lambda code, offset: lines.append((code.co_name, offset)))
m.set_local_events(1, top.f.__code__, m.events.LINE | m.events.PY_START)
for _ in range(100): top.f(2)
m.set_local_events(1, top.f.__code__, 0)
m.free_tool_id(1)
print(len(lines), lines[:3], top.f(3))
code = top.f.__code__
print(marshal.loads(marshal.dumps(code)) == code, code.replace(co_name="g").co_name, code.co_name)
print(pickle.loads(pickle.dumps(top.f)) is top.f, copy.deepcopy(top.C).__name__, {code: 1}[code])
print(weakref.ref(code)() is code)
top.f.__code__ = code.replace(co_consts=(None, 10))
print(top.f(1), code.co_consts)
dis.dis(code)
"#,
    );
    project.assert_same(&["app.py"]);
    project.assert_same(&[
        "-m",
        "trace",
        "--count",
        "--summary",
        "-C",
        "counts",
        "top.py",
    ]);
}

#[test]
fn importtime_and_verbose_tell_the_same_imports() {
    let project = project("import pkg, top, queue\n");
    project.dump(["app.py"]);
    let imports = |mode, option: &str| {
        let stderr = project.run_in(mode, [option, "app.py"]).stderr;
        let (start, split) = if option == "-v" {
            ("import '", " #")
        } else {
            ("import time:", "|")
        };
        let lines = stderr.lines().filter(|line| line.starts_with(start));
        let name = |line: &str| {
            if option == "-v" {
                line.split(split).next()
            } else {
                line.rsplit(split).next()
            }
            .unwrap()
            .to_owned()
        };
        lines.map(name).collect::<Vec<_>>()
    };
    let expected = imports(Mode::Off, "-v");
    assert!(expected.len() > 20);
    assert_eq!(imports(Mode::Archive, "-v"), expected);
    let importtime = |mode| {
        let stderr = project.run_in(mode, ["-X", "importtime", "app.py"]).stderr;
        stderr
            .lines()
            .map(|line| line.rsplit('|').next().unwrap().to_owned())
            .collect::<Vec<_>>()
    };
    assert_eq!(importtime(Mode::Archive), importtime(Mode::Off));
    // With -vv, `importlib` prints each file that it tries.
    let tried = |mode| {
        let stderr = project.run_in(mode, ["-vv", "app.py"]).stderr;
        stderr
            .lines()
            .filter(|line| line.starts_with("# trying"))
            .map(str::to_owned)
            .collect::<Vec<_>>()
    };
    assert_eq!(tried(Mode::Archive), tried(Mode::Off));
}

#[test]
fn a_module_may_be_imported_again() {
    let project = project(
        r#"
import importlib, sys, top
first = top.f
del sys.modules["top"]
import top
print(top.f is first, top.f.__code__ == first.__code__, top.f(1), first(1))
importlib.reload(top)
print(top.f is first, top.f(1))
importlib.invalidate_caches()
for _ in range(3):
    del sys.modules["top"]; import top
print(top.f(1))
with open("top.py", "w") as file: file.write("def f(x):\n    return 'edited'\n")
importlib.reload(top)
print(top.f(1))
with open("top.py", "w") as file: file.write("def f(x):\n    y = x + 1\n    return y\n\nclass C:\n    def m(self):\n        return self\n")
"#,
    );
    project.dump(["app.py"]);
    let expected = project.run_in(Mode::Off, ["-B", "app.py"]).success();
    project.dump(["-B", "app.py"]);
    assert_eq!(project.run_in(Mode::Archive, ["-B", "app.py"]), expected);
}

/// Runs a program before and after a change, with an archive from before the change, and asserts that it has the same
/// outcome as without an archive.
fn assert_change_is_noticed(program: &str, change: impl Fn(&Project)) {
    let project = project(program);
    // Without .pyc files, which do not notice an edit within the same second.
    let arguments = ["-B", "app.py"];
    project.dump(arguments);
    let before = project.run_in(Mode::Archive, arguments);
    assert_eq!(project.run_in(Mode::Off, arguments), before);
    change(&project);
    let after = project.run_in(Mode::Archive, arguments);
    assert_eq!(project.run_in(Mode::Off, arguments), after);
    assert_ne!(before, after, "the change shows");
}

#[test]
fn what_changed_after_the_dump_is_noticed() {
    let show = "import sys\nsys.path.insert(0, 'first')\nimport top, pkg\nprint(top.f(1), top.__file__)\n\
                try:\n    import pkg.extra\n    print(pkg.extra)\nexcept ImportError as e: print(e)\n\
                try:\n    import newcomer\n    print(newcomer)\nexcept ImportError as e: print(e)\n";
    let same_size = "def f(x):\n    y = x + 2\n    return y\n\nclass C:\n    def m(self):\n        return self\n";
    // An edit of the same size, in the same second.
    assert_change_is_noticed(show, |project| project.write("top.py", same_size));
    assert_change_is_noticed(show, |project| {
        std::fs::remove_file(project.path("top.py")).unwrap()
    });
    // A module and a package that shadow archived ones.
    assert_change_is_noticed(show, |project| {
        project.write("first/top.py", "def f(x): return 'shadow'\n")
    });
    assert_change_is_noticed(show, |project| {
        project.write("first/top/__init__.py", "def f(x): return 'shadow'\n")
    });
    // A package takes precedence over a module of the same name.
    assert_change_is_noticed(show, |project| {
        project.write("top/__init__.py", "def f(x): return 'package'\n")
    });
    assert_change_is_noticed(show, |project| project.write("newcomer.py", ""));
    assert_change_is_noticed(show, |project| project.write("newcomer/__init__.py", ""));
    assert_change_is_noticed(show, |project| project.write("pkg/extra.py", ""));
    // Extension modules take precedence over source files.
    assert_change_is_noticed(show, |project| {
        project.write("pkg/__init__.so", "not a library")
    });
    assert_change_is_noticed(show, |project| {
        project.write("top.abi3.so", "not a library")
    });
}

#[test]
fn finders_and_loaders_of_all_kinds_work() {
    let project = project(
        r#"
import importlib.abc, importlib.machinery, importlib.util, sys, zipfile
class Upper(importlib.machinery.SourceFileLoader):
    def source_to_code(self, data, path, *, _optimize=-1):
        return compile(data.replace(b"x + 1", b"x + 100"), path, "exec")
spec = importlib.util.spec_from_file_location("top", "top.py", loader=Upper("top", "top.py"))
top = importlib.util.module_from_spec(spec); sys.dont_write_bytecode = True
import os
try: os.remove(importlib.util.cache_from_source("top.py"))
except OSError: pass
spec.loader.exec_module(top)
print(top.f(1))
finder = importlib.machinery.FileFinder("pkg", (importlib.machinery.SourceFileLoader, [".txt"]), (importlib.machinery.SourceFileLoader, [".py"]))
print(finder.find_spec("data").origin, finder.find_spec("fails").origin, finder.find_spec("nothing"))
class Editable(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path, target=None):
        if name == "edited":
            return importlib.util.spec_from_file_location(name, os.path.abspath("pkg/circular_a.py"), submodule_search_locations=None)
sys.meta_path.insert(0, Editable())
try: import edited
except ImportError as error: print(error)
with zipfile.ZipFile("z.zip", "w") as z: z.writestr("zipped.py", "where = __file__\n")
sys.path.insert(0, "z.zip")
import zipped
print(zipped.where, type(zipped.__loader__))
"#,
    );
    project.dump(["app.py"]);
    let expected = project.run_in(Mode::Off, ["app.py"]).success();
    assert_eq!(project.run_in(Mode::Archive, ["app.py"]), expected);
    assert!(expected.stdout.starts_with("101\n"));
}

#[test]
fn threads_processes_and_interpreters_share_an_archive() {
    let project = project(
        r#"
import multiprocessing, os, sys, threading
def names(): return ["json", "csv", "html", "difflib", "fractions", "top", "pkg.sub", "statistics"]
def load(_=None):
    for name in names(): __import__(name)
    import top
    return sum(top.f(i) for i in range(2000))
if __name__ == "__main__":
    results = []
    threads = [threading.Thread(target=lambda: results.append(load())) for _ in range(8)]
    for t in threads: t.start()
    for t in threads: t.join()
    print(results)
    for method in ("fork", "spawn", "forkserver"):
        context = multiprocessing.get_context(method)
        with context.Pool(2) as pool: print(method, pool.map(load, range(4)))
    import _interpreters
    for config in ("isolated", "legacy"):
        interpreter = _interpreters.create(config)
        error = _interpreters.exec(interpreter, "import json, html, top; print(top.f(41), json.loads('[1]'), id(top.f.__code__) >> 40 == 0x28)")
        _interpreters.destroy(interpreter)
        print(config, error)
"#,
    );
    project.dump(["app.py"]);
    let expected = project.run_in(Mode::Off, ["app.py"]).success();
    for mode in [Mode::Standard, Mode::Archive, Mode::Relocated] {
        assert_eq!(project.run_in(mode, ["app.py"]), expected, "{mode:?}");
    }
    // A subinterpreter has its own GIL, so it creates its own code objects.
    assert!(expected.stdout.contains("42 [1] False\n"));
}

#[test]
fn an_archive_made_without_optimization_is_not_used_with_it() {
    let project = project("import top\ndef check():\n    assert False, 'asserts run'\ncheck()\n");
    project.dump(["app.py"]);
    let outcome = project.run(["-O", "-X", "cds=app.cds", "app.py"]);
    assert_eq!(outcome.status, 0);
    insta::assert_snapshot!(outcome.stderr, @r#"cds: app.cds is not used: it was made for optimization level "0", this interpreter has "1""#);
    assert_eq!(project.run(["-OO", "app.py"]).success().stderr, "");
    // Processes inherit a variable that was not meant for them, so a mismatch is not reported.
    let mut inherited = project.command(["-O", "app.py"]);
    let outcome = Outcome::of(inherited.env("PYTHON_CDS", "app.cds")).success();
    assert_eq!(outcome.stderr, "");
    let mut strict = project.command(["-O", "app.py"]);
    strict
        .env("PYTHON_CDS", "app.cds")
        .env("PYTHON_CDS_STRICT", "1");
    assert_eq!(Outcome::of(&mut strict).status, 1);
}

/// A virtual environment may have a copy of the interpreter, without a standard library beside it.
#[test]
fn a_copied_interpreter_finds_the_standard_archive() {
    let project = project("");
    let venv = ["-m", "venv", "--without-pip", "--copies", "env"];
    project.run(venv).success();
    let mut command = std::process::Command::new(project.path("env/bin/python"));
    cpython_cds_tests::clean(&mut command);
    let outcome = Outcome::of(command.args(["-X", "cds_stats", "-c", "pass"])).success();
    assert!(
        outcome.stderr.contains("from elsewhere: 0\n")
            && outcome.stderr.contains("-stdlib.img in place"),
        "{outcome:?}"
    );
}

#[test]
fn a_moved_tree_shows_its_own_paths() {
    let project = project("");
    // A virtual environment, copied with its timestamps.
    project
        .run(["-m", "venv", "--without-pip", "env"])
        .success();
    let site = "env/lib/python3.13/site-packages";
    project.write(
        &format!("{site}/inside.py"),
        "def where():\n    raise ValueError\n",
    );
    let show = "import inside, traceback\ntry: inside.where()\nexcept ValueError: traceback.print_exc()\nprint(inside.__file__, inside.where.__code__.co_filename)\n";
    let run = |environment: &str, options: &[&str]| {
        let mut command = std::process::Command::new(project.path(environment).join("bin/python"));
        cpython_cds_tests::clean(&mut command);
        command.current_dir(project.path("")).args(options);
        Outcome::of(&mut command)
    };
    run("env", &["-c", show]).success();
    run("env", &["-X", "cds_trace=env.lst", "-c", show]).success();
    run("env", &["-m", "cds", "dump", "-q", "env.lst", "env.img"]).success();
    let copy = ["-a", "env", "moved"];
    Outcome::of(
        std::process::Command::new("cp")
            .current_dir(project.path(""))
            .args(copy),
    )
    .success();
    std::fs::remove_dir_all(project.path("env")).unwrap();
    let outcome = run(
        "moved",
        &["-X", "cds=env.img", "-X", "cds_stats", "-c", show],
    )
    .success();
    assert!(
        outcome.stderr.contains("from elsewhere: 0\n"),
        "{}",
        outcome.stderr
    );
    assert!(
        !outcome.stdout.contains("/env/") && !outcome.stderr.contains("/env/lib"),
        "{outcome:?}"
    );
    assert_eq!(
        run("moved", &["-X", "cds=off", "-c", show]).stdout,
        outcome.stdout
    );
}

/// Modules that are found by a link have the path with the link, as in stock CPython.
#[test]
fn a_linked_tree_shows_the_paths_that_lead_there() {
    let project = project(
        "import sys\nsys.path[0] = sys.argv[1]\nimport top, pkg.sub.more\nprint(top.__file__, top.f.__code__.co_filename, pkg.sub.__path__)\n",
    );
    let link = |to: &str, name: &str| {
        std::os::unix::fs::symlink(project.path(to), project.path(name)).unwrap();
    };
    link(".", "link");
    project.write("other/top.py", "def f(x): return 'other'\n");
    project.dump(["app.py", "link"]);
    let check = |path: &str, is_archived: bool| {
        let expected = project.run_in(Mode::Off, ["app.py", path]);
        assert_eq!(project.run_in(Mode::Archive, ["app.py", path]), expected);
        let stats = ["-X", "cds_stats", "app.py", path];
        let stats = project.run_in(Mode::Archive, stats).stderr;
        assert_eq!(
            stats.contains("from elsewhere: 0\n"),
            is_archived,
            "{path}: {stats}"
        );
    };
    check("link", true);
    check(".", false);
    // Now the link leads to another directory.
    std::fs::remove_file(project.path("link")).unwrap();
    link("other", "link");
    check("link", false);
}

#[test]
fn options_for_debugging_change_nothing() {
    let project = project("import pkg, top, queue, sys\nprint(top.f(1), sys.flags.dev_mode)\n");
    project.dump(["app.py"]);
    for options in [
        &["-X", "dev"][..],
        &["-X", "tracemalloc=5"],
        &["-X", "showrefcount"],
        &["-X", "faulthandler"],
        &[
            "-X",
            "dev",
            "-X",
            "tracemalloc",
            "-X",
            "showrefcount",
            "-W",
            "error",
        ],
        &["-X", "int_max_str_digits=640", "-b", "-R"],
    ] {
        let arguments = [options, &["app.py"]].concat();
        let expected = project.run_in(Mode::Off, &arguments).success();
        for mode in [Mode::Standard, Mode::Archive, Mode::Relocated] {
            assert_eq!(
                project.run_in(mode, &arguments),
                expected,
                "{options:?}, {mode:?}"
            );
        }
    }
}

/// Each allocation during a look-up in the archive fails in turn: the look-up raises MemoryError, or returns None or
/// the correct result.
#[test]
fn a_question_without_memory_fails_as_any_other() {
    let project = project(
        r#"
import _imp, _sre, _testcapi, os, pkg.sub, re, sys, top
here = os.path.dirname(pkg.__file__)
loaders = sys.path_importer_cache[here]._loaders
compiler = re._compiler.compile
questions = {
    "module": lambda: _imp._cds_find_module(here, "circular_a", loaders),
    "package": lambda: _imp._cds_find_module(here, "sub", loaders),
    "nothing": lambda: _imp._cds_find_module(here, "none", loaders),
    "code": lambda: _imp._cds_get_code("top", top.__file__),
    "no code": lambda: _imp._cds_get_code("top", here + "/none.py"),
    "pattern": lambda: _sre._cds_find_pattern((str, "a+b", 0), compiler),
}
re.compile("a+b")
for name, ask in questions.items():
    expected, failures = repr(ask()), 0
    for start in range(60):
        answer = None
        _testcapi.set_nomemory(start, start + 1)
        try:
            answer = ask()
        except MemoryError:
            failures += 1
        _testcapi.remove_mem_hooks()
        assert answer is None or repr(answer) == expected, (name, answer, expected)
    assert repr(ask()) == expected
    print(name, expected[:9], failures > 0)
"#,
    );
    project.dump(["app.py"]);
    for mode in [Mode::Archive, Mode::Relocated] {
        let outcome = project.run_in(mode, ["app.py"]).success();
        assert_eq!(
            outcome.stdout,
            "module (<class ' True\npackage (<class ' True\nnothing () False\n\
             code <code obj False\nno code None True\npattern re.compil False\n",
            "{mode:?}"
        );
    }
}

/// File names are bytes. A name that is not UTF-8 has lone surrogates in Python (PEP 383).
#[test]
fn a_name_that_is_not_text_is_imported_as_without_archives() {
    let project = Project::new(&[("app.py", "")]);
    let code = "import os\n\
        open(os.fsencode('mod\\udcff.py'), 'w').write('x = 1')\n\
        os.mkdir(os.fsencode('dir\\udcff'))\n\
        open(os.fsencode('dir\\udcff/inner\\udcff.py'), 'w').write('x = 2')\n\
        import sys; sys.path.insert(0, 'dir\\udcff')\n\
        print(__import__('mod\\udcff').x, __import__('inner\\udcff').x)";
    assert_eq!(project.run(["-c", code]).success().stdout, "1 2\n");
}
