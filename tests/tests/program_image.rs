//! `-X cds_auto=FILE,image`: the image is the program itself, frozen before it first looks at something that differs
//! from run to run.
//!
//! The names of the tests that restore a process contain "restored": builds that cannot restore skip them by name.

use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use cpython_cds_tests::report::Report;
use cpython_cds_tests::{DUMP_IMAGE, Outcome, Project, clean, compile, python, repository, settle};

const AUTO: [&str; 2] = ["-X", "cds_auto=made/app.cds,image"];
const IMAGE: &str = "made/app.cds.image";

fn project(files: &[(&str, &str)]) -> Project {
    let project = Project::new(files);
    fs::create_dir(project.path("made")).expect("a directory can be made");
    project
}

fn plain(project: &Project, program: &[&str]) -> Outcome {
    let arguments = [&["-X", "cds=off"], program].concat();
    Outcome::of(&mut project.command_with_lib(&arguments))
}

fn auto(project: &Project, program: &[&str]) -> Outcome {
    let arguments = [&AUTO, program].concat();
    let outcome = Outcome::of(&mut project.command_with_lib(&arguments));
    settle(project);
    outcome
}

fn is_restored(project: &Project, program: &[&str]) -> bool {
    let stats = project.path("stats.json").display().to_string();
    let option = format!("cds_stats={stats}");
    let arguments = [&AUTO, &["-X", &option], program].concat();
    Outcome::of(&mut project.command_with_lib(&arguments));
    settle(project);
    let stats = fs::read_to_string(stats).expect("it was written");
    let stats: serde_json::Value = serde_json::from_str(&stats).expect("it is JSON");
    !stats["startup_image"].is_null()
}

/// Asserts that a program does the same in all runs as in a plain run, and is restored in the end.
#[track_caller]
fn assert_restored_as_plain(project: &Project, program: &[&str]) {
    let expected = plain(project, program);
    for _ in 0..3 {
        assert_eq!(auto(project, program), expected, "{program:?}");
    }
    assert!(
        is_restored(project, program),
        "{program:?}: {}",
        note(project)
    );
    assert_eq!(auto(project, program), expected, "{program:?}");
}

fn note(project: &Project) -> String {
    let image = fs::read(project.path(IMAGE)).unwrap_or_default();
    String::from_utf8_lossy(&image[..image.len().min(1000)]).into_owned()
}

/// The event at which the program was stopped, from `inspect`.
fn stopped_at(project: &Project) -> String {
    let arguments = ["-m", "cds", "inspect", "--json", IMAGE];
    let told = Outcome::of(&mut project.command_with_lib(&arguments));
    let told: serde_json::Value = serde_json::from_str(&told.stdout).expect("it is JSON");
    told["stopped_at"].as_str().unwrap_or_default().to_owned()
}

const MODULE: &str = "import csv\nvalue = 'kept'\n";

#[test]
fn programs_of_all_kinds_are_restored() {
    let project = project(&[
        (
            "script.py",
            "import beside, sys\nprint(beside.value, sys.argv, __name__, __file__)\n",
        ),
        ("beside.py", MODULE),
        ("package/__init__.py", ""),
        (
            "package/__main__.py",
            "import json, sys\nfrom . import part\nprint(part.value, sys.argv, __package__, __spec__.name)\n",
        ),
        ("package/part.py", MODULE),
        (
            "directory/__main__.py",
            "import part, sys\nprint(part.value, sys.argv, sys.path[0], __file__)\n",
        ),
        ("directory/part.py", MODULE),
        (
            "runs.py",
            "import runpy\nprint(sorted(runpy.run_path('script.py', run_name='other'))[-1])\n",
        ),
        ("space/inner/leaf.py", MODULE),
        (
            "of_space.py",
            "import space.inner.leaf as leaf\nprint(leaf.value, space.__path__)\n"
                .replace("space.__path__", "leaf.__name__")
                .as_str(),
        ),
    ]);
    let zip = "import zipapp; zipapp.create_archive('directory', 'app.pyz')";
    plain(&project, &["-c", zip]).success();
    let script = project.path("script.py").display().to_string();
    for program in [
        &["script.py", "first", "--second"][..],
        &[&script],
        &["-m", "package", "argument"],
        &["-m", "beside"],
        &["-m", "json.tool", "--help"],
        &[
            "-c",
            "import beside, sys; print(beside.value, sys.argv)",
            "x",
        ],
        &["directory", "argument"],
        &["app.pyz", "argument"],
        &["runs.py"],
        &["of_space.py"],
    ] {
        let _ = fs::remove_file(project.path(IMAGE));
        assert_restored_as_plain(&project, program);
    }
}

/// A restored process continues in a function, a class, a generator, or a handler of an exception.
#[test]
fn code_that_runs_is_restored_where_it_is() {
    let project = project(&[(
        "app.py",
        "
import contextlib, weakref
def numbers():
    import decimal
    yield decimal.Decimal(1)
    import fractions
    yield fractions.Fraction(1, 2)
each = numbers()
first = next(each)
class Kept:
    import csv
    names = [name for name in vars(csv) if name == 'reader']
    def method(self):
        import statistics
        return statistics.mean([1, 3]), self.names
try:
    import there_is_no_such_module
except ImportError as error:
    import textwrap
    told = textwrap.dedent(f' {error.name} {error.__traceback__.tb_lineno}')
@contextlib.contextmanager
def manager():
    try:
        yield 'inside'
    finally:
        done.append('after')
done = []
with manager() as value:
    import html
async def coroutine():
    import asyncio.queues
    return 'awaited'
import asyncio
result = asyncio.run(coroutine())
print(first, list(each), Kept().method(), told, value, done, result)
raise SystemExit(5)
",
    )]);
    assert_restored_as_plain(&project, &["app.py"]);
}

/// The objects of a program are finalized when they would be finalized in a plain run.
#[test]
fn what_a_restored_program_has_dies_in_time() {
    let project = project(&[(
        "app.py",
        "
import weakref
class Resource:
    def __init__(self, name): self.name = name
    def __del__(self): print('closed', self.name)
class Plain: pass
def function():
    local = Resource('local')
    holder = {'inner': Resource('inner')}
    import csv
    print('in function')
def later():
    box, things = Plain(), []
    import html
    box.resource = Resource('in a box')
    things.append(Resource('in a list'))
    print('in later')
of_module = Resource('of module')
plain = Plain()
function()
later()
import decimal
del of_module
print('deleted')
weakref.finalize(plain, print, 'finalized')
del plain
kept = Resource('kept')
print('end')
",
    )]);
    assert_restored_as_plain(&project, &["app.py"]);
}

/// `reconfigure()` writes the buffer of the stream, and then imports a codec.
#[test]
fn what_is_written_when_a_stream_is_changed_is_not_in_what_is_restored() {
    let project = project(&[(
        "app.py",
        "import html, sys\nprint('first')\nsys.stdout.reconfigure(encoding='cp1252')\nprint('second')\n",
    )]);
    assert_restored_as_plain(&project, &["app.py"]);
}

/// At the end of a restored process, nothing calls the program's replacement of `__import__`, and no code of `cds` is
/// traced.
#[test]
fn a_restored_program_traces_its_own_code_only() {
    let project = project(&[
        (
            "app.py",
            "
import beside, builtins, os, sys
def importing(name, *rest, original=builtins.__import__, **more):
    # Who reads a source file imports `_io`.
    if name != '_io': os.write(1, f'import {name}\\n'.encode())
    return original(name, *rest, **more)
builtins.__import__ = importing
class Closed:
    def __del__(self, write=os.write): write(1, b'closed\\n')
import html
kept = Closed()
print('point', flush=True)
def trace(frame, event, argument, write=os.write):
    write(1, f'{event} {frame.f_code.co_qualname}\\n'.encode())
sys.settrace(trace)
",
        ),
        ("beside.py", MODULE),
    ]);
    assert_restored_as_plain(&project, &["app.py"]);
}

/// The code that watches a program needs frames, too. So the program is stopped before it gets a RecursionError.
#[test]
fn the_depth_of_calls_is_not_in_what_is_restored() {
    const DEPTH: &str = "
import os, beside
def depth(number, ask):
    try:
        ask()
        return depth(number + 1, ask)
    except RecursionError:
        return number
found = depth(0, ASK)
import html
print(found)
";
    for ask in [
        "lambda: None",
        "lambda: os.listdir('/')",
        "lambda: os.environ.get('X')",
    ] {
        let project = project(&[
            ("app.py", &DEPTH.replace("ASK", ask)),
            ("beside.py", MODULE),
        ]);
        assert_restored_as_plain(&project, &["app.py"]);
        let told = stopped_at(&project);
        assert!(told.starts_with("the recursion limit"), "{ask}: {told}");
    }
}

/// Modules of `cds`, which a plain process does not have, refer to other modules, and so to objects that a program puts
/// into these modules. Signal handlers are dropped before anything is finalized.
#[test]
fn what_a_restored_program_puts_elsewhere_ends_with_it() {
    const STEPS: &str = "
import csv, os, signal, time
def steps():
    try:
        yield 1
    finally:
        os.write(1, b'the generator ends\\n')
steps = steps()
next(steps)
csv.reader = lambda *_: None
import beside
print('end', flush=True)
";
    for elsewhere in [
        "time.sleep = lambda seconds: csv",
        "signal.signal(signal.SIGUSR1, lambda *_: csv)",
    ] {
        let beside = format!("import csv, signal, time\n{elsewhere}\n");
        let project = project(&[("app.py", STEPS), ("beside.py", &beside)]);
        assert_restored_as_plain(&project, &["app.py"]);
    }
}

/// C code holds the namespace of a module only during its import, and frames hold intermediate results only until they
/// are used.
#[test]
fn what_was_in_use_when_it_was_restored_is_let_go() {
    // During an import, candidates are forked only after many modules have been loaded.
    const MODULE_IN_USE: &str = "import keeper, os\nimport argparse, csv, decimal\nos.getpid()\n";
    for import in [
        "import middle",
        "def steps():\n    import middle\n    yield 1\nsteps = steps()\nnext(steps)",
        "with keeper.context(): import middle",
        "class Class:\n    import middle",
        "modules = list(map(__import__, ['middle']))",
    ] {
        let program = format!(
            "import os, keeper\nclass Resource:\n    def __del__(self): os.write(1, b'it ends')\n\
             {import}\nresource = Resource()\nkeeper.kept.append(lambda: 1)\n"
        );
        let project = project(&[
            ("app.py", &program),
            (
                "keeper.py",
                "kept = []\nclass context:\n    def __enter__(self): kept.append(self)\n    def __exit__(self, *_): kept.pop()\n",
            ),
            ("middle.py", MODULE_IN_USE),
        ]);
        assert_restored_as_plain(&project, &["app.py"]);
        assert_eq!(plain(&project, &["app.py"]).stdout, "it ends", "{import}");
        let stopped = stopped_at(&project);
        assert!(stopped.starts_with("the process id"), "{stopped}");
        let report = project.path("stats.json");
        let stats = fs::read_to_string(report).expect("it was written");
        assert!(
            !stats.contains("\"csv\""),
            "{import}: it was loaded after all: {stats}"
        );
    }
}

/// A program that searches for a module without importing it gets the same result as in a plain run.
#[test]
fn modules_that_were_searched_for_are_compared_with_what_is_restored() {
    let project = project(&[(
        "app.py",
        "import argparse, csv, importlib.util, json\nfound = [importlib.util.find_spec(name) is not None \
         for name in ('optional', 'namespace')]\nimport html\nprint(found)\n",
    )]);
    fs::create_dir(project.path("namespace")).expect("it can be made");
    assert_restored_as_plain(&project, &["app.py"]);
    project.write("other.txt", "");
    assert!(is_restored(&project, &["app.py"]), "{}", note(&project));
    project.write("optional.log", "");
    assert!(is_restored(&project, &["app.py"]), "{}", note(&project));
    project.write("optional.py", "");
    assert_eq!(auto(&project, &["app.py"]), plain(&project, &["app.py"]));
    fs::remove_file(project.path("optional.py")).expect("it can be removed");
    assert_eq!(auto(&project, &["app.py"]), plain(&project, &["app.py"]));
    fs::remove_dir(project.path("namespace")).expect("it can be removed");
    assert_eq!(auto(&project, &["app.py"]), plain(&project, &["app.py"]));
}

/// Only objects whose end can be seen have a reference count. The other objects are immortal, and ignored at exit.
#[test]
fn most_of_what_is_restored_is_immortal() {
    let project = project(&[(
        "app.py",
        "import gc, sys, json, argparse, csv\nnothing, flag, number, things = None, True, 1, {'a': [1]}\nimport html\n\
         mortal = [it for it in gc.get_objects(generation=2) if sys.getrefcount(it) < 1 << 31]\n\
         open('mortal', 'w').write(str(len(mortal)))\n",
    )]);
    let runs = (1..5).find(|_| is_restored(&project, &["app.py"]));
    assert!(runs.is_some(), "{}", note(&project));
    let mortal = fs::read_to_string(project.path("mortal")).expect("it was written");
    assert!(mortal.parse::<u32>().expect("a number") < 1000, "{mortal}");
}

/// What a program finds before the look is compared. The look itself is repeated in each run.
#[test]
fn a_look_ends_what_is_restored() {
    for (look, stopped) in [
        ("import time\nvalue = time.time() > 0\n", "the clock"),
        ("import os\nvalue = len(os.urandom(4))\n", "random bytes"),
        ("import os\nvalue = os.getpid() > 1\n", "the process id"),
        ("import sys\nvalue = len(sys.orig_argv) > 1\n", "sys.argv"),
        (
            "import random\nvalue = random.random() < 1\nimport fractions\n",
            "random numbers",
        ),
        (
            "import sys\nvalue = sys.stdin.seekable()\n",
            "the kind of a standard stream",
        ),
        (
            "import sys\nvalue = sys.stdin.read()\n",
            "the kind of a standard stream",
        ),
        (
            "import os\ntry: os.fstat(77)\nexcept OSError: value = 'none'\n",
            "a file descriptor that the process has not opened",
        ),
        (
            "import mmap\nvalue = len(mmap.mmap(-1, 4096))\n",
            "memory that other processes may share",
        ),
        (
            "value = open('/proc/self/status').readable()\n",
            "/proc/self/status",
        ),
        (
            "import threading\nvalue = threading.get_native_id() > 1\n",
            "the process id",
        ),
        ("import time\nvalue = time.sleep(0.01)\n", "the clock"),
    ] {
        let project = project(&[
            (
                "app.py",
                "import before, looks, csv\nprint(before.value, looks.value)\n",
            ),
            ("before.py", MODULE),
            ("looks.py", look),
        ]);
        assert_restored_as_plain(&project, &["app.py"]);
        let told = stopped_at(&project);
        assert!(told.starts_with(stopped), "{look}: {told}");
    }
}

/// If `.pth` files or `sitecustomize` look at something that counts, there is no image: no candidate exists before.
#[test]
fn what_looks_before_the_program_is_not_restored() {
    for (look, stopped) in [
        ("import os\nvalue = os.getpid()\n", Some("the process id")),
        ("import time\nvalue = time.time_ns()\n", Some("the clock")),
        ("import os\nvalue = os.urandom(8)\n", Some("random bytes")),
        ("import sys\nvalue = sys.argv[1:]\n", Some("sys.argv")),
        ("import os\nvalue = os.environ.get('HOME')\n", None),
    ] {
        let program = "import beside, os, sitecustomize\nprint(sitecustomize.value)\n";
        let project = project(&[
            ("app.py", program),
            ("beside.py", MODULE),
            ("lib/sitecustomize.py", look),
        ]);
        let run = |number: i32| auto(&project, &["app.py", &number.to_string()]).stdout;
        let mut found: Vec<String> = (0..4).map(run).collect();
        found.sort();
        found.dedup();
        let Some(stopped) = stopped else {
            assert_eq!(found.len(), 1, "{look}");
            assert_restored_as_plain(&project, &["app.py"]);
            continue;
        };
        assert_eq!(found.len(), 4, "{look}");
        let told = note(&project);
        let reason =
            format!("the program was stopped before it could be frozen, at: {stopped}, in ");
        assert!(told.contains(&reason), "{look}: {told}");
    }
}

/// Rich, also the copy in pip, distinguishes its links by numbers whose first value is random.
#[test]
fn numbers_that_do_not_matter_are_restored() {
    let project = project(&[
        (
            "app.py",
            "import rich.style, pip._vendor.rich.style as of_pip, later
print(rich.style.number > 0, of_pip.number > 0)
",
        ),
        ("later.py", MODULE),
    ]);
    plain(&project, &["-m", "venv", "--without-pip", "env"]).success();
    for package in ["rich", "pip", "pip/_vendor", "pip/_vendor/rich"] {
        for (name, text) in [
            ("__init__", ""),
            (
                "style",
                "from random import getrandbits\nnumber = 1 + getrandbits(24)\n",
            ),
        ] {
            let path = format!("env/lib/python3.13/site-packages/{package}/{name}.py");
            project.write(&path, text);
        }
    }
    let in_environment = || {
        let mut command = Command::new(project.path("env/bin/python"));
        clean(&mut command);
        let outcome = Outcome::of(
            command
                .args(AUTO)
                .arg("app.py")
                .current_dir(project.path("")),
        );
        settle(&project);
        outcome.success().stdout
    };
    for _ in 0..3 {
        assert_eq!(in_environment(), "True True\n");
    }
    assert!(stopped_at(&project).starts_with("the standard output"));
}

/// psutil keeps the processor times, flake8 its start time, IPython the year.
#[test]
fn what_modules_of_the_catalogue_keep_is_renewed_in_what_is_restored() {
    let project = project(&[(
        "app.py",
        "import psutil, flake8.main.application, IPython.core.tips\n\
         application = flake8.main.application.Application()\nimport csv, html\nimport os, time\n\
         first = sum(psutil._last_cpu_times['main']), sum(psutil._last_per_cpu_times_2['main'][0])\n\
         now = time.time()\nimages = [os.stat(f'made/{name}').st_mtime for name in os.listdir('made')]\n\
         last = eval(open('last').read()) if os.path.exists('last') else [0, 0]\n\
         print([a >= b for a, b in zip(first, last)], max(images, default=0) < application.start_time <= now)\n\
         print(IPython.core.tips.year == time.localtime().tm_year)\n\
         open('last', 'w').write(repr([sum(psutil.cpu_times()), sum(psutil.cpu_times(True)[0])]))\n",
    )]);
    plain(&project, &["-m", "venv", "--without-pip", "env"]).success();
    const TIMES: &str = "from psutil._pslinux import *\n\
        def cpu_times(percpu=False): return [numbers()] if percpu else numbers()\n\
        _last_cpu_times = {'main': cpu_times()}\n_last_per_cpu_times = {'main': cpu_times(True)}\n\
        _last_cpu_times_2, _last_per_cpu_times_2 = _last_cpu_times.copy(), _last_per_cpu_times.copy()\n";
    const NUMBERS: &str = "import os\nhas_file = os.path.exists(f'/proc/{os.getpid()}/smaps')\n\
        def numbers():\n with open('/proc/stat') as file: return [*map(int, file.readline().split()[1:])]\nnumbers()\n";
    for (name, text) in [
        ("psutil/__init__", TIMES),
        ("psutil/_pslinux", NUMBERS),
        ("flake8/__init__", ""),
        ("flake8/main/__init__", ""),
        (
            "flake8/main/application",
            "import time\nclass Application:\n def __init__(self): self.start_time = time.time()\n",
        ),
        ("IPython/__init__", ""),
        ("IPython/core/__init__", ""),
        (
            "IPython/core/tips",
            "import datetime\nyear = datetime.datetime.now().year\n",
        ),
    ] {
        let path = format!("env/lib/python3.13/site-packages/{name}.py");
        project.write(&path, text);
    }
    for _ in 0..4 {
        let mut command = Command::new(project.path("env/bin/python"));
        clean(&mut command);
        command.args(AUTO).arg("app.py");
        let outcome = Outcome::of(command.current_dir(project.path("")));
        settle(&project);
        assert_eq!(outcome.success().stdout, "[True, True] True\nTrue\n");
    }
    let stopped = stopped_at(&project);
    assert!(stopped.starts_with("the clock"), "{stopped}");
    assert!(!stopped.contains("site-packages"), "{stopped}");
}

/// If an extension module or a library asks for random bytes, the report names it.
#[test]
fn nothing_that_a_library_draws_is_restored() {
    let directory = tempfile::tempdir().expect("a directory can be made");
    const SOURCE: &str =
        "#include <sys/random.h>\nint draw(void) { char byte; return getrandom(&byte, 1, 0); }\n";
    let library = compile(&directory, "drawer", SOURCE, &["-shared", "-fPIC"]);
    let program = format!(
        "import ctypes, csv\nprint(ctypes.CDLL({:?}).draw())\n",
        library.display()
    );
    let project = project(&[("app.py", &program)]);
    assert_restored_as_plain(&project, &["app.py"]);
    let expected = format!("random bytes, in {}, called by", library.display());
    assert!(stopped_at(&project).starts_with(&expected));
}

/// An effect happens once in each run, and does not happen when an image is taken.
#[test]
fn an_effect_ends_what_is_restored() {
    for effect in [
        "with open('log', 'a') as log: log.write('x')\n",
        "import os\nif os.fork() == 0:\n open('log', 'a').write('x')\n os._exit(0)\nos.wait()\n",
        "import subprocess\nsubprocess.run('printf x >> log', shell=True)\n",
        "import atexit\natexit.register(lambda: open('log', 'a').write('x'))\nimport csv\n",
        "import os, signal\nsignal.signal(10, lambda *_: open('log', 'a').write('x'))\nimport csv\nos.kill(os.getpid(), 10)\n",
    ] {
        let project = project(&[
            ("app.py", &format!("import beside\n{effect}\nimport html\n")),
            ("beside.py", MODULE),
        ]);
        let runs = (1..10).find(|_| {
            let restored = is_restored(&project, &["app.py"]);
            settle(&project);
            restored
        });
        let log = fs::read(project.path("log")).expect("it was written");
        assert_eq!(runs, Some(log.len()), "{effect}");
    }
}

/// The content of a pipe can be read only once, and the program must read it.
#[test]
fn a_pipe_is_read_by_the_program_that_is_restored() {
    let project = project(&[
        (
            "app.py",
            "import beside\nvalue = open('pipe').read()\nimport html\nprint(value)\n",
        ),
        ("beside.py", MODULE),
    ]);
    plain(&project, &["-c", "import os; os.mkfifo('pipe')"]).success();
    let feed = || {
        let pipe = project.path("pipe");
        std::thread::spawn(move || fs::write(pipe, "once"))
    };
    for _ in 0..3 {
        let writer = feed();
        assert_eq!(auto(&project, &["app.py"]).stdout, "once\n");
        writer.join().expect("no panic").expect("it was read");
    }
    assert!(stopped_at(&project).ends_with(&format!(
        "which is not a regular file, in {}",
        project.path("app.py").display()
    )));
}

/// What a program changes in its process between two imports is also changed in the restored process.
#[test]
fn what_changes_between_imports_is_as_in_a_plain_run() {
    for (change, question) in [
        (
            "signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1])",
            "signal.pthread_sigmask(signal.SIG_BLOCK, [])",
        ),
        // The name that other processes see is in the memory of the process: no system call changes it.
        (
            "ctypes.memmove(ctypes.c_void_p.in_dll(ctypes.CDLL(None), 'program_invocation_name').value, b'#', 1)",
            "open('/proc/self/cmdline').read()[:1]",
        ),
        ("os.chdir('made')", "os.path.basename(os.getcwd())"),
        (
            "os.fchdir(os.open('made', os.O_RDONLY))",
            "os.path.basename(os.getcwd())",
        ),
        ("os.umask(0o77)", "os.umask(0o77)"),
        (
            "resource.setrlimit(resource.RLIMIT_CORE, (0, 0))",
            "resource.getrlimit(resource.RLIMIT_CORE)",
        ),
        ("os.nice(3)", "os.nice(0)"),
        ("os.setsid()", "os.getsid(0) == os.getpid()"),
        (
            "signal.setitimer(signal.ITIMER_PROF, 1000)",
            "signal.getitimer(signal.ITIMER_PROF)[0] > 0",
        ),
        (
            "ctypes.CDLL(None).prctl(15, b'another', 0, 0, 0)",
            "open('/proc/self/comm').read()",
        ),
        // set_mempolicy(2) and get_mempolicy(2).
        (
            "mode = ctypes.c_int(-1); ctypes.CDLL(None).syscall(238, 3, ctypes.byref(ctypes.c_ulong(1)), 64)",
            "ctypes.CDLL(None).syscall(239, ctypes.byref(mode), None, 0, None, 0), mode.value",
        ),
    ] {
        let program = format!(
            "import ctypes, os, resource, signal, beside\n{change}\nimport html\nprint({question})\n"
        );
        let project = project(&[("app.py", &program), ("beside.py", MODULE)]);
        let expected = plain(&project, &["app.py"]);
        for _ in 0..4 {
            let arguments = [
                "-X",
                &format!("cds_auto={},image", project.path("made/app.cds").display()),
                "app.py",
            ];
            let outcome = Outcome::of(&mut project.command_with_lib(&arguments));
            settle(&project);
            assert_eq!(outcome, expected, "{change}");
        }
        assert!(project.path(IMAGE).exists(), "{change}");
    }
}

/// The traced process runs on one processor, but the process, its threads and its children do not notice this.
#[test]
fn a_process_that_becomes_an_image_has_all_of_its_processors() {
    const ASKED: &str = "import os, subprocess, threading
found = [os.sched_getaffinity(0)]
thread = threading.Thread(target=lambda: found.append(os.sched_getaffinity(0)))
thread.start(); thread.join()
# Another thread asks for the processors of the first thread, which is running.
go_on = threading.Event()
thread = threading.Thread(target=lambda: found.append(go_on.wait() and os.sched_getaffinity(os.getpid())))
thread.start(); os.stat('/'); go_on.set(); thread.join()
status = [line.split()[1] for line in open('/proc/self/status') if line.startswith('Cpus_allowed:')]
child = subprocess.run(['sh', '-c', 'grep Cpus_allowed: /proc/self/status'], capture_output=True).stdout
";
    let program = "import asked, sys\nprint(asked.found, asked.status, asked.child)\n";
    let project = project(&[("app.py", program), ("lib/asked.py", ASKED)]);
    let expected = plain(&project, &["app.py"]);
    project.write("app.lst", "asked\n");
    Outcome::of(&mut project.command_with_lib(DUMP_IMAGE)).success();
    let restored = ["-X", "cds=app.cds", "-X", "cds_stats", "app.py"];
    let restored = Outcome::of(&mut project.command_with_lib(&restored));
    assert_eq!(restored.stdout, expected.stdout);
    assert!(restored.stderr.contains("started from"), "{restored:?}");
}

/// A program may be started with ignored signals, or with open file descriptors.
#[test]
fn what_a_restored_program_inherits_is_as_in_a_plain_run() {
    for (program, start) in [
        (
            "import signal, beside\nold = signal.signal(signal.SIGHUP, print)\nimport html\nprint(old, signal.getsignal(1) is print)\n",
            "signal.signal(1, signal.SIG_IGN)",
        ),
        (
            "import signal, beside\nold = signal.getsignal(signal.SIGHUP)\nimport html\nprint(old)\n",
            "signal.signal(1, signal.SIG_IGN)",
        ),
        (
            "import os, beside\ntry: has = bool(os.fstat(77))\nexcept OSError: has = False\nimport html\nprint(has)\n",
            "os.dup2(1, 77)",
        ),
    ] {
        let project = project(&[("app.py", program), ("beside.py", MODULE)]);
        assert_restored_as_plain(&project, &["app.py"]);
        let python = python().display().to_string();
        let started = |options: &[&str]| {
            let words = [&[&*python], options, &["app.py"]].concat();
            let start = format!("import os, signal\n{start}\nos.execv({python:?}, {words:?})");
            let outcome = plain(&project, &["-c", &start]);
            settle(&project);
            outcome
        };
        assert_eq!(started(&AUTO), started(&["-X", "cds=off"]), "{program}");
    }
}

/// Values that the kernel keeps for a process are compared if the program has asked for them.
#[test]
fn what_the_kernel_tells_is_compared_with_what_is_restored() {
    const ASKED_FOR_UMASK: &str = "[mask := os.umask(0), os.umask(mask)]";
    for (question, change, refusal) in [
        (ASKED_FOR_UMASK, "os.umask(0o77)", "the umask was different"),
        (
            "resource.getrlimit(resource.RLIMIT_NOFILE)",
            "resource.setrlimit(resource.RLIMIT_NOFILE, (99, 99))",
            "the set of resource limits was different",
        ),
        (
            "os.sched_getaffinity(0)",
            "os.sched_setaffinity(0, [max(os.sched_getaffinity(0))])",
            // The number of processors is compared first.
            "usable processors, this process has 1",
        ),
        (
            "os.getgroups()",
            "os.geteuid() == 0 and os.setgroups([7, 8, 9])",
            "the list of the user's groups was different",
        ),
        ("pathlib.Path('/proc/self/cgroup').read_text()", "", ""),
        ("os.path.isdir('/sys/fs/cgroup')", "", ""),
        ("os.sysconf('SC_PHYS_PAGES')", "", ""),
    ] {
        let program = format!(
            "import os, pathlib, resource, beside\nfirst = {question}\nimport html\nprint(first, {question})\n"
        );
        let project = project(&[("app.py", &program), ("beside.py", MODULE)]);
        assert_restored_as_plain(&project, &["app.py"]);
        let told = stopped_at(&project);
        assert!(
            told.starts_with("the standard output"),
            "{question}: {told}"
        );
        let python = python().display().to_string();
        let started = |options: &[&str]| {
            let words = [&[&*python], options, &["app.py"]].concat();
            let start = format!("import os, resource\n{change}\nos.execv({python:?}, {words:?})");
            plain(&project, &["-c", &start])
        };
        let without = started(&["-X", "cds=off"]);
        // The change may have no effect: users other than root keep their groups, and there may be only one processor.
        if without == plain(&project, &["app.py"]) {
            continue;
        }
        let with = started(&["-X", "cds=made/app.cds", "-X", "cds_stats"]);
        assert_eq!(with.stdout, without.stdout, "{question}");
        assert!(with.stderr.contains(refusal), "{question}: {with:?}");
    }
}

/// What `sitecustomize` asks for is also compared: it runs before the program, and does not run again.
#[test]
fn what_sitecustomize_asks_is_compared_with_what_is_restored() {
    for (question, change) in [
        (
            "mask = os.umask(0); os.umask(mask); os.found = mask",
            "os.umask(0o77)",
        ),
        (
            "import signal; os.found = signal.signal(signal.SIGHUP, signal.SIG_DFL)",
            "signal.signal(signal.SIGHUP, signal.SIG_IGN)",
        ),
        (
            "import signal; os.found = signal.getsignal(signal.SIGHUP)",
            "signal.signal(signal.SIGHUP, signal.SIG_IGN)",
        ),
        (
            "os.found = os.isatty(1)",
            "master, slave = os.openpty(); os.set_inheritable(master, True); os.dup2(slave, 1)",
        ),
    ] {
        let project = project(&[
            (
                "app.py",
                "import os, beside\nos.write(2, str(os.found).encode())\n",
            ),
            ("beside.py", MODULE),
            ("lib/sitecustomize.py", &format!("import os\n{question}\n")),
        ]);
        assert_restored_as_plain(&project, &["app.py"]);
        let python = python().display().to_string();
        let started = |options: &[&str]| {
            let words = [&[&*python], options, &["app.py"]].concat();
            let start = format!("import os, signal\n{change}\nos.execv({python:?}, {words:?})");
            plain(&project, &["-c", &start]).stderr
        };
        let without = started(&["-X", "cds=off"]);
        assert_ne!(without, plain(&project, &["app.py"]).stderr, "{question}");
        assert_eq!(started(&["-X", "cds=made/app.cds"]), without, "{question}");
    }
}

/// If a program changes TZ and does not call `time.tzset()`, it keeps the earlier time zone.
#[test]
fn a_restored_program_has_the_time_zone_that_was_set_last() {
    for changes in [
        "os.environ['TZ'] = 'XYZ-3'",
        "os.environ['TZ'] = 'XYZ-3'; time.tzset()",
        "os.environ['TZ'] = 'XYZ-3'; time.tzset(); del os.environ['TZ']",
        "os.environ['TZ'] = 'XYZ-3'; time.mktime(time.gmtime(0)); os.environ['TZ'] = 'UTC'",
        "os.environ['TZ'] = 'XYZ-3'; time.tzset(); os.environ['TZ'] = 'ABC-5'; time.tzset()",
        "os.putenv('TZ', 'XYZ-3')",
    ] {
        let project = project(&[
            (
                "app.py",
                &format!(
                    "import os, time\n{changes}\nimport beside\n\
                     print(time.localtime(0).tm_hour, time.tzname, time.timezone, os.environ.get('TZ'), time.strftime('%Z'), time.localtime(0).tm_hour)\n"
                ),
            ),
            ("beside.py", MODULE),
        ]);
        assert_restored_as_plain(&project, &["app.py"]);
    }
}

/// If a program loads readline and does not use it, readline is set up for the terminal and the user of the process.
#[test]
fn readline_is_set_up_for_the_process_that_is_restored() {
    const TELLS: &str = "
print('ready')
import ctypes, readline
library = ctypes.CDLL(readline.__file__)
library.rl_variable_value.restype = ctypes.c_char_p
rows, columns = ctypes.c_int(), ctypes.c_int()
library.rl_get_screen_size(ctypes.byref(rows), ctypes.byref(columns))
print(library.rl_variable_value(b'bell-style'), rows.value, columns.value, repr(readline.get_completer_delims()))
print(ctypes.c_char_p.in_dll(library, 'rl_readline_name').value, readline.get_completer() is None, type(readline))
import os, signal
os.kill(os.getpid(), signal.SIGWINCH)
";
    const HANDLER: &str =
        "import readline, signal\nsignal.signal(signal.SIGWINCH, lambda *_: print('resized'))\n";
    let of = |home: &str, columns: &str| {
        [
            ("HOME", home),
            ("TERM", if home == "first" { "xterm" } else { "vt100" }),
            ("COLUMNS", columns),
            ("LINES", "30"),
        ]
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
    };
    let variables = [of("first", "60"), of("second", "60"), of("third", "80")];
    for (program, is_free) in [
        ("import json", true),
        ("import readline", true),
        ("import pdb, rlcompleter, json\nimport readline", true),
        ("import readline, os\nos.environ['COLUMNS'] = '50'", false),
        ("import readline\nreadline.set_completer_delims(' ')", false),
        ("import use_of_readline\nimport readline", false),
        (HANDLER, true),
    ] {
        let project = project(&[
            (
                "app.py",
                &format!("{program}\nimport html, beside\n{TELLS}"),
            ),
            ("beside.py", MODULE),
            (
                "lib/use_of_readline.py",
                "import readline\nreadline.parse_and_bind('set bell-style none')\n",
            ),
            ("second/.inputrc", "set bell-style visible\n"),
            ("third/.inputrc", "set bell-style none\n"),
        ]);
        let run = |options: &[&str], variables: &[(String, String)]| {
            let arguments = [options, &["app.py"]].concat();
            let mut command = project.command_with_lib(&arguments);
            command.envs(variables.iter().cloned());
            command.env("HOME", project.path(&variables[0].1));
            let outcome = Outcome::of(&mut command);
            settle(&project);
            outcome
        };
        for _ in 0..3 {
            let plain = run(&["-X", "cds=off"], &variables[0]);
            assert_eq!(run(&AUTO, &variables[0]), plain, "{program}");
        }
        for (number, variables) in variables.iter().enumerate() {
            let plain = run(&["-X", "cds=off"], variables);
            let stats = project.path("stats.json").display().to_string();
            let option = format!("cds_stats={stats}");
            let options = ["-X", "cds=made/app.cds", "-X", &option];
            assert_eq!(run(&options, variables), plain, "{program}");
            let stats: serde_json::Value =
                serde_json::from_slice(&fs::read(stats).expect("it was written"))
                    .expect("it is JSON");
            let is_restored = !stats["startup_image"].is_null();
            assert_eq!(is_restored, number == 0 || is_free, "{program}: {stats}");
        }
    }
}

/// A program is stopped before it changes an attribute of its process to another value. Each run repeats the change.
#[test]
fn another_umask_is_not_in_what_is_restored() {
    let project = project(&[
        (
            "app.py",
            "import os, beside\nmask = os.umask(0o77)\nimport html\nopen('made/private', 'w').close()\n\
             print(oct(mask), oct(os.stat('made/private').st_mode))\nos.unlink('made/private')\n",
        ),
        ("beside.py", MODULE),
    ]);
    assert_restored_as_plain(&project, &["app.py"]);
}

/// The processes that take an image fork children: the program gets no SIGCHLD for these.
#[test]
fn a_restored_program_has_not_been_told_of_children() {
    let project = project(&[
        (
            "app.py",
            "import signal, beside\nended = []\nsignal.signal(signal.SIGCHLD, lambda *_: ended.append(1))\n\
         import csv, html, decimal\nprint(ended, signal.getsignal(signal.SIGCHLD) is not None)\n",
        ),
        ("beside.py", MODULE),
    ]);
    assert_restored_as_plain(&project, &["app.py"]);
}

/// If the program asks for the number of arguments, the number is compared. Their values may differ.
#[test]
fn the_number_of_arguments_is_compared_with_what_is_restored() {
    let project = project(&[(
        "app.py",
        "import sys, csv\nif len(sys.argv) > 2: import html as module\nelse: import json as module\nprint(module.__name__, sys.argv)\n",
    )]);
    assert_restored_as_plain(&project, &["app.py", "one", "two"]);
    assert!(is_restored(&project, &["app.py", "other", "words"]));
    let other = auto(&project, &["app.py", "--help"]);
    assert_eq!(other, plain(&project, &["app.py", "--help"]));
    assert!(!is_restored(&project, &["app.py", "--help"]));
}

/// A program finds only the modules that it has imported, and no objects of the code that takes and restores images.
/// (Debug builds import a codec to compile patterns, which archives contain.)
#[test]
fn a_restored_program_finds_its_own_modules_only() {
    let project = project(&[(
        "app.py",
        "import sys, gc, json\nclass Own: pass\nown = [Own()]\nimport csv\n\
         print(sorted({*sys.modules} - {'encodings.latin_1'}), sys.meta_path, sorted(vars(sys.stdout)), sorted(sys.path_importer_cache))\n\
         print(sum(isinstance(it, Own) for it in gc.get_objects()), any(it is own for it in gc.get_referrers(own[0])))\n",
    )]);
    assert_restored_as_plain(&project, &["app.py"]);
}

/// Files next to a script may change, unless they are modules of the program, or could be imported by it.
#[test]
fn files_beside_a_restored_script_may_come_and_go() {
    let project = project(&[
        (
            "app.py",
            "import beside\ntry: import optional\nexcept ImportError: optional = None\nimport html\nprint(beside.value, optional)\n",
        ),
        ("beside.py", MODULE),
    ]);
    assert_restored_as_plain(&project, &["app.py"]);
    project.write("output.txt", "of the program");
    assert!(is_restored(&project, &["app.py"]));
    project.write("optional.py", "");
    assert!(!is_restored(&project, &["app.py"]));
    fs::remove_file(project.path("optional.py")).expect("it is there");
    project.write("csv.py", "");
    assert!(!is_restored(&project, &["app.py"]));
}

/// While an image is taken, other programs may write to the directory of the program, unless they add or remove a
/// module that the program has searched for.
#[test]
fn files_that_come_meanwhile_are_no_obstacle_to_what_is_restored() {
    let project = project(&[
        (
            "app.py",
            "import beside, html, os\nprint(os.getpid() > 0)\n",
        ),
        ("beside.py", MODULE),
    ]);
    let is_done = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            while !is_done.load(Ordering::Relaxed) {
                project.write("output.txt", "");
                fs::remove_file(project.path("output.txt")).expect("it is there");
                thread::sleep(Duration::from_millis(5));
            }
        });
        let found = catch_unwind(AssertUnwindSafe(|| {
            (0..4).any(|_| is_restored(&project, &["app.py"]))
        }));
        is_done.store(true, Ordering::Relaxed);
        assert!(found.is_ok_and(|found| found), "{}", note(&project));
    });
}

/// `dump --image --run` takes an image of a program at once, and reports where the program was stopped.
#[test]
fn a_program_is_restored_from_an_image_that_was_dumped() {
    let project = project(&[
        (
            "app.py",
            "import beside, sys\nprint(beside.value, sys.argv)\nopen('log', 'a').write('x')\n",
        ),
        ("beside.py", MODULE),
    ]);
    let dump = |program: &[&str]| {
        let words = ["-m", "cds", "dump", "--image", "made/app.cds", "--run"];
        Outcome::of(&mut project.command_with_lib(&[&words, program].concat()))
    };
    let report = dump(&["app.py", "some", "words"]).success().stdout;
    let script = project.path("app.py").display().to_string();
    let told = format!("The program was frozen, and stopped at this: sys.argv, in {script}\n");
    assert!(report.ends_with(&told), "{report}");
    assert!(!project.path("log").exists());
    let stats = ["-X", "cds=made/app.cds", "-X", "cds_stats"];
    let restored = [&stats[..], &["app.py", "others"]].concat();
    let restored = Outcome::of(&mut project.command_with_lib(&restored));
    assert_eq!(restored.stdout, "kept ['app.py', 'others']\n");
    assert!(restored.stderr.contains("started from made/app.cds.image"));
    let missing = dump(&["missing.py"]);
    let told =
        "cds dump: error: cannot run missing.py: there is no such file; give another PROGRAM\n";
    assert_eq!((missing.status, &*missing.stderr), (1, told));
    let without = ["-m", "cds", "dump", "made/app.cds", "--run", "app.py"];
    let without = Outcome::of(&mut project.command_with_lib(&without));
    assert_eq!(without.status, 2, "{without:?}");
}

/// An interrupted dump leaves no image, even if there are candidates.
#[test]
fn nothing_is_restored_from_a_dump_that_was_interrupted() {
    let project = project(&[("app.py", "import csv\nwhile True: pass\n")]);
    let mut dump = Command::new("timeout");
    clean(&mut dump);
    dump.current_dir(project.path(""))
        .args(["--foreground", "--signal=INT", "2"])
        .arg(python())
        .args([
            "-m",
            "cds",
            "dump",
            "--image",
            "made/app.cds",
            "--run",
            "app.py",
        ]);
    assert_ne!(Outcome::of(&mut dump).status, 0);
    assert!(!project.path(IMAGE).exists());
}

/// If a program has asked for the time of a directory, the time is compared.
#[test]
fn the_time_of_a_directory_is_compared_with_what_is_restored() {
    let project = project(&[
        ("app.py", "import looks\nprint(looks.count)\n"),
        (
            "lib/looks.py",
            "import os\nplace = os.path.join(os.path.dirname(__file__), 'data')\n\
             time = os.path.getmtime(place)\ncount = len(str(time)) > 0\n",
        ),
        ("lib/data/file", ""),
    ]);
    assert_restored_as_plain(&project, &["app.py"]);
    project.write("lib/data/other", "");
    assert!(!is_restored(&project, &["app.py"]));
}

/// As long as all runs have the same arguments, the program may look at them and change them: they are compared. After
/// a run with others, the image fits all arguments.
#[test]
fn arguments_that_are_always_the_same_are_compared_with_what_is_restored() {
    let project = project(&[(
        "app.py",
        "import sys
number = int(sys.argv[1])
sys.argv[1:] = [number + 1]
import csv, json
print(number, sys.argv, sys.orig_argv[-1])
",
    )]);
    for argument in ["1", "1", "1"] {
        let program = ["app.py", argument];
        assert_eq!(auto(&project, &program), plain(&project, &program));
    }
    assert!(is_restored(&project, &["app.py", "1"]));
    assert!(
        stopped_at(&project).contains("the standard output")
            || stopped_at(&project).contains("sys.argv")
    );
    assert!(!is_restored(&project, &["app.py", "2"]));
    for argument in ["1", "2", "3", "-5", "text"] {
        let program = ["app.py", argument];
        assert_eq!(auto(&project, &program), plain(&project, &program));
        assert!(is_restored(&project, &program), "{argument}");
    }
    assert!(stopped_at(&project).starts_with("sys.argv"));
    // A renewed image also fits all arguments.
    project.write("app.py", "import sys, csv\nprint(sys.argv)\n");
    for argument in ["1", "1", "2"] {
        let program = ["app.py", argument];
        assert_eq!(auto(&project, &program), plain(&project, &program));
    }
    assert!(is_restored(&project, &["app.py", "2"]));
    // `dump` has an option for the arguments that an image fits.
    let dump = |rest: &[&str]| {
        let arguments = [
            &["-m", "cds", "dump", "-q", "--image", "made/app.cds"],
            rest,
        ]
        .concat();
        Outcome::of(&mut project.command_with_lib(&arguments))
    };
    project.write(
        "app.py",
        "import sys\nkept = sys.argv[1:]\nimport csv\nprint(kept, 'csv' in sys.modules)\n",
    );
    dump(&["--run", "app.py", "1"]).success();
    assert!(stopped_at(&project).starts_with("sys.argv"));
    dump(&["--with-arguments", "--run", "app.py", "1"]).success();
    assert!(stopped_at(&project).starts_with("the standard output"));
    let with_stats = ["-X", "cds=made/app.cds", "-X", "cds_stats", "app.py"];
    for (argument, is_expected) in [("1", true), ("2", false)] {
        let arguments = [&with_stats[..], &[argument]].concat();
        let outcome = Outcome::of(&mut project.command_with_lib(&arguments));
        assert_eq!(outcome.stderr.contains("cds: started from "), is_expected);
        assert_eq!(
            outcome.stdout,
            plain(&project, &["app.py", argument]).stdout
        );
    }
    assert_eq!(dump(&["--with-arguments", "app.lst"]).status, 2);
}

/// Operations on the descriptor of a standard stream, waiting, and looks at the clock and at files below `/proc` by
/// less common functions.
#[test]
fn what_is_done_without_a_name_is_not_done_before_a_program_is_restored() {
    let stream = "the kind of a standard stream";
    for (done, what) in [
        (
            "os.write(os.dup(1), b'hello\\n')\nos.closerange(3, 9)",
            stream,
        ),
        (
            "fd = os.open('/dev/null', os.O_WRONLY)\nos.dup2(fd, 2)\nos.close(fd)",
            stream,
        ),
        ("os.close(0)", stream),
        ("kept = fcntl.fcntl(1, fcntl.F_GETFL)", stream),
        ("os.set_blocking(1, False)", stream),
        ("os.set_inheritable(1, False)", stream),
        ("kept = select.select([0], [], [], 0)", stream),
        (
            "kept = select.poll()\nkept.register(0)\nkept = kept.poll(0)",
            stream,
        ),
        ("select.select([], [], [], 0.01)", "sleeping or waiting"),
        (
            "kept = time.time() - time.clock_gettime(time.CLOCK_REALTIME) < 1",
            "the clock",
        ),
        (
            "before = time.clock_gettime_ns(time.CLOCK_REALTIME)",
            "the clock",
        ),
        (
            "kept = os.readlink('/proc/self/fd/1') == 'x'",
            "/proc/self/fd/1, which describes the system",
        ),
        (
            "kept = os.stat('/proc/self').st_uid",
            "/proc/self, which describes the system",
        ),
        (
            "with open('/etc/mtab') as file: kept = len(file.readline()) > 1",
            "/etc/mtab, which describes the system",
        ),
    ] {
        let text = format!(
            "import fcntl, os, select, time\nkept = before = None\n{done}\nimport csv
if before: before = time.time_ns() - before < 10**9
print(kept, before, os.get_inheritable(1), os.get_blocking(1))\nprint('error', file=__import__('sys').stderr)\n"
        );
        let project = project(&[("app.py", &text)]);
        let expected = plain(&project, &["app.py"]);
        for _ in 0..3 {
            assert_eq!(auto(&project, &["app.py"]), expected, "{done}");
        }
        assert!(is_restored(&project, &["app.py"]), "{done}");
        let stopped_at = stopped_at(&project);
        assert!(stopped_at.starts_with(what), "{done}: {stopped_at}");
    }
}

/// The process that takes the image has no terminal, so the program gets a pseudo-terminal like that of the run.
#[test]
fn a_program_at_a_terminal_is_restored_there() {
    let project = project(&[(
        "app.py",
        "import os, sys
terminals = [stream.isatty() for stream in (sys.stdin, sys.stdout, sys.stderr)]
size = os.get_terminal_size() if terminals[1] else None
if MODES: import termios; modes = termios.tcgetattr(0)
import csv
print(terminals, size, sys.argv[1:])
"
        .replace("MODES", "'MODES' in os.environ")
        .as_str(),
    )]);
    let helper = repository().join("tests/programs/at_terminal.py");
    let at_terminal = |options: &[&str], shell: &str| {
        let mut command = project.command_with_lib(&["-I", "-S", "-X", "cds=off"]);
        command.arg(&helper).args(["sh", "-c", shell, "sh"]);
        let outcome = Outcome::of(command.arg(python()).args(options).arg("app.py"));
        settle(&project);
        outcome
    };
    let with_stats = [&AUTO, &["-X", "cds_stats=stats.json"][..]].concat();
    let refused = |shell: &str| {
        let outcome = at_terminal(&with_stats, shell);
        assert_eq!(outcome, at_terminal(&["-X", "cds=off"], shell), "{shell}");
        let report = Report::read(&project.path("stats.json")).expect("it was written");
        let refused = report.startup_image_refused.unwrap_or_default();
        refused.rsplit(": ").next().unwrap_or_default().to_owned()
    };
    at_terminal(&AUTO, "exec \"$@\"");
    assert_eq!(refused("exec \"$@\""), "");
    // The program has not asked for the modes of the terminal.
    assert_eq!(refused("stty -echo; exec \"$@\""), "");
    assert_eq!(
        refused("stty rows 50; exec \"$@\""),
        "it was made where standard output was a terminal of another size"
    );
    assert_eq!(
        refused("\"$@\" | cat"),
        "it was made where standard output was a terminal"
    );
    fs::remove_file(project.path(IMAGE)).expect("there is one");
    at_terminal(&AUTO, "\"$@\" < /dev/null | cat");
    assert_eq!(refused("\"$@\" < /dev/null | cat"), "");
    fs::remove_file(project.path(IMAGE)).expect("there is one");
    at_terminal(&AUTO, "export MODES=1; exec \"$@\"");
    assert_eq!(refused("export MODES=1; exec \"$@\""), "");
    assert_eq!(
        refused("export MODES=1; stty -echo; exec \"$@\""),
        "it was made where standard input was a terminal with other modes (stty)"
    );
}

/// An audit hook of a program gets the events of the program, and no events of taking and restoring an image.
#[test]
fn audit_hooks_of_a_restored_program_hear_what_it_does() {
    let project = project(&[
        (
            "app.py",
            "import sys, hooks, csv\nimport html\nsys.audit('app.ends', 1)\nprint(len(hooks.events), hooks.events)\n",
        ),
        (
            "hooks.py",
            "import sys\nevents = []\n\
             def hook(event, arguments):\n    if event not in ('open', 'marshal.loads', 'os.listdir'): events.append((event, str(arguments[0])[:12]))\n\
             sys.addaudithook(hook)\n",
        ),
    ]);
    assert_restored_as_plain(&project, &["app.py"]);
    assert!(stopped_at(&project).starts_with("the standard output"));
}

/// eventlet replaces locks, and warns about locks that it has not replaced.
#[test]
fn locks_that_a_restored_program_replaces_are_gone() {
    let project = project(&[
        (
            "app.py",
            "import gc, threading, kept
import csv
locks = type(threading.RLock()), type(threading.Lock())
def count(): return [sum(type(it) is kind for it in gc.get_objects()) for kind in locks]
before = count()
kept.holder.lock = kept.holder.other = kept.locks[0] = kept.locks[1] = None
after = count()
print([before[index] - after[index] for index in (0, 1)])
",
        ),
        (
            "kept.py",
            "import threading
class Holder: pass
holder = Holder()
holder.lock, holder.other = threading.RLock(), threading.Lock()
locks = [threading.RLock(), threading.Lock()]
",
        ),
    ]);
    assert_restored_as_plain(&project, &["app.py"]);
}

/// Taking and restoring an image must not load a lazy module by an access to its attributes.
#[test]
fn modules_that_are_loaded_late_are_loaded_by_the_program_that_is_restored() {
    let project = project(&[
        (
            "app.py",
            "import importlib.util, sys

class Finder:
    def find_spec(self, name, path, target=None):
        if name not in LAZY:
            return None
        for finder in sys.meta_path[1:]:
            if (spec := finder.find_spec(name, path, target)) is not None:
                spec.loader = importlib.util.LazyLoader(spec.loader)
                return spec

LAZY = {'late', 'random', 'logging', 'platform', 'tempfile', 'uuid', 'threading', 'dateutil'}
sys.meta_path.insert(0, Finder())
import late, random, logging, platform, tempfile, uuid, threading
import csv
print(sorted(name for name in LAZY if 'Lazy' in str(type(sys.modules.get(name)))))
print(late.value, late.order, random.Random(1).random(), platform.system())
print(logging.getLogger().level, threading.current_thread().name, uuid.NAMESPACE_DNS)
",
        ),
        (
            "late.py",
            "import sys\nvalue = sys.argv\norder = 'json' in sys.modules\nimport json\n",
        ),
    ]);
    assert_restored_as_plain(&project, &["app.py"]);
}
