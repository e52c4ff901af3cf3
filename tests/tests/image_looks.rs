//! Imports that look at things that differ from run to run, or do things that others can see. When an image of a list
//! is taken, they are reported. An automatic image does not contain the modules that do so.

use std::fs;
use std::process::Command;

use cpython_cds_tests::report::Report;
use cpython_cds_tests::{Outcome, Project, clean, python, settle, skip};

/// Modules, and what is reported about each.
const LOOKS: [(&str, &str); 22] = [
    ("import sys\nvalue = len(sys.argv)\n", "sys.argv"),
    ("import sys\nvalue = 'x' in sys.argv\n", "sys.argv"),
    ("from sys import argv\nvalue = [*argv]\n", "sys.argv"),
    ("import sys\nvalue = sys.path[0]\n", "sys.path[0]"),
    ("import sys\nsys.path.insert(0, '/')\n", "sys.path[0]"),
    (
        "import sys\nvalue = sys.stdin.seekable()\n",
        "the kind of a standard stream",
    ),
    (
        "import sys\nvalue = sys.stdout.buffer.raw.tell\ntry: value()\nexcept OSError: pass\n",
        "the kind of a standard stream",
    ),
    (
        "import __main__\nvalue = hasattr(__main__, '__file__')\n",
        "__main__",
    ),
    ("import os\nvalue = os.getpid()\n", "the process id"),
    (
        "import os\nvalue = os.getppid()\n",
        "the process id of the parent",
    ),
    ("import time\nvalue = time.time()\n", "the clock"),
    ("import time\nvalue = time.perf_counter_ns()\n", "the clock"),
    (
        "import datetime\nvalue = datetime.datetime.now()\n",
        "the clock",
    ),
    ("import os\nvalue = os.urandom(4)\n", "random bytes"),
    ("import os\nvalue = os.getrandom(4, 4)\n", "random bytes"),
    (
        "import os\nvalue = os.sysconf('SC_AVPHYS_PAGES')\n",
        "the load and memory of the machine",
    ),
    (
        "import os\nvalue = os.listdir('/sys/fs/cgroup')\n",
        "/sys/fs/cgroup, which describes the system",
    ),
    ("import random\nvalue = random.Random()\n", "random bytes"),
    (
        "import sys\nvalue = sys.stdin.read()\n",
        "the kind of a standard stream, the standard input",
    ),
    ("print('hello')\n", "the standard output"),
    (
        "import warnings\nwarnings.warn('careful')\n",
        "the standard error stream",
    ),
    (
        "import subprocess\nvalue = subprocess.check_output(['true'])\n",
        "another process",
    ),
];

/// Modules that look at things that are compared, renewed or harmless.
const HARMLESS: [&str; 15] = [
    "import os\nvalue = os.uname().nodename\n",
    "import os\nvalue = os.umask(0)\nos.umask(value)\n",
    "import os\nvalue = os.getgroups()\n",
    "import os\nvalue = os.sched_getaffinity(0)\n",
    "import resource\nvalue = resource.getrlimit(resource.RLIMIT_NOFILE)\n",
    "import os\nvalue = os.environ.get('HOME')\n",
    "import os\nvalue = os.getcwd()\n",
    "import time\ntime.tzset()\n",
    "import os\nvalue = os.cpu_count()\n",
    "import sys\nvalue = sys.stdout.isatty()\n",
    "import threading\nvalue = threading.Lock()\nwith value: pass\n",
    "import logging, random, uuid, tempfile, multiprocessing.util\n",
    "import ssl, hashlib, asyncio, socket, http.client\n",
    "import argparse, json, re, dataclasses, enum, typing, decimal, sqlite3\n",
    "try: import there_is_no_such_module\nexcept ImportError: pass\n",
];

fn project(module: &str) -> Project {
    let project = Project::new(&[
        ("lib/kept.py", module),
        ("app/app.py", "import kept\nprint('end')\n"),
        ("app.lst", "kept\n"),
    ]);
    fs::create_dir(project.path("made")).unwrap();
    project
}

fn run(project: &Project, arguments: &[&str]) -> Outcome {
    Outcome::of(&mut project.command_with_lib(arguments))
}

const TAKE: [&str; 5] = ["-m", "cds", "dump", "--image", "app.lst"];

/// The report when an image is taken.
fn said(project: &Project) -> String {
    let taken = run(project, &[&TAKE[..], &["app.cds"]].concat()).success();
    let mut lines = taken.stderr.lines();
    let head = lines.find(|line| line.contains("what differs from run to run"));
    let first = head.and_then(|_| lines.next());
    first.unwrap_or_default().trim().to_owned()
}

#[test]
fn what_imports_look_at_is_reported() {
    for (module, what) in LOOKS {
        let project = project(module);
        assert_eq!(said(&project), format!("kept: {what}"), "{module}");
        let inspected = run(&project, &["-m", "cds", "inspect", "app.cds.image"]).success();
        let line = format!("  kept: {what}\n");
        assert!(
            inspected.stdout.contains(&line),
            "{module}: {}",
            inspected.stdout
        );
        let strict = run(&project, &[&TAKE[..], &["--strict", "strict.img"]].concat());
        assert_eq!(strict.status, 1, "{module}: {strict:?}");
        let reason = format!("what differs from run to run: kept: {what}\n");
        assert!(strict.stderr.contains(&reason), "{module}: {strict:?}");
        let verified = run(&project, &["-m", "cds", "inspect", "strict.img"]).success();
        assert!(verified.stdout.contains(&reason), "{module}: {verified:?}");
    }
}

/// `sitecustomize` and `.pth` files run before the imports. The image also keeps what they find.
#[test]
fn what_comes_before_the_imports_is_reported() {
    const USER_SITE: &str = "home/.local/lib/python3.13/site-packages/early.pth";
    for (file, text, told) in [
        (
            "lib/sitecustomize.py",
            "import os\nvalue = os.getpid()\n",
            "sitecustomize: the process id",
        ),
        (
            "lib/sitecustomize.py",
            "import sys\nvalue = sys.argv[1:]\n",
            "sitecustomize or a .pth file: sys.argv",
        ),
        (
            USER_SITE,
            "import os, sys; sys.process = os.getpid()\n",
            "sitecustomize or a .pth file: the process id",
        ),
    ] {
        let project = project("exec('import os; value = os.getppid()')\n");
        project.write(file, text);
        let mut dump = project.command_with_lib([&TAKE[..], &["app.cds"]].concat());
        let said = Outcome::of(dump.env("HOME", project.path("home"))).success();
        assert!(said.stderr.contains(told), "{text}: {said:?}");
        // Code without a file is reported for the module that runs it.
        let of_module = "kept: the process id of the parent";
        assert!(said.stderr.contains(of_module), "{text}: {said:?}");
    }
}

#[test]
fn what_is_harmless_is_not() {
    for module in HARMLESS {
        let project = project(module);
        assert_eq!(said(&project), "", "{module}");
        run(&project, &[&TAKE[..], &["--strict", "strict.img"]].concat()).success();
    }
}

/// The catalogue is for modules of the standard library and of packages, not for modules of a program.
#[test]
fn another_module_of_such_a_name_is_not_harmless() {
    let looks = [
        (
            "secrets",
            "import os\nvalue = os.urandom(4)\n",
            "random bytes",
        ),
        ("ssl", "import os\nvalue = os.getpid()\n", "the process id"),
    ];
    for (name, module, what) in looks {
        let project = project("");
        project.write(&format!("lib/{name}.py"), module);
        project.write("app.lst", &format!("{name}\n"));
        assert_eq!(said(&project), format!("{name}: {what}"));
    }
}

/// The same is true for the modules that may take random numbers.
#[test]
fn another_module_of_such_a_name_takes_numbers_of_its_own() {
    let project = project("from rich.style import value\n");
    project.write("lib/rich/__init__.py", "");
    let style = "import random\nvalue = random.random()\n";
    project.write("lib/rich/style.py", style);
    project.write(
        "app/app.py",
        "import random, sys\nfrom rich.style import value\nprint(value)\n",
    );
    let auto = [
        "-X",
        "cds_auto=made/app.cds,image",
        "-X",
        "cds_stats=stats.json",
        "app/app.py",
    ];
    run(&project, &["app/app.py"]);
    for _ in 0..2 {
        run(&project, &auto);
        settle(&project);
    }
    let outcomes = [0, 1].map(|_| run(&project, &auto).success());
    let report = Report::read(&project.path("stats.json")).unwrap();
    assert!(report.startup_image.is_some(), "{report:?}");
    assert_ne!(outcomes[0].stdout, outcomes[1].stdout);
}

/// Runs a program until it has an automatic image, and asserts that it then has the same outcome as without an image.
#[track_caller]
fn makes_itself(project: &Project, arguments: &[&str]) -> Report {
    let auto = [
        "-X",
        "cds_auto=made/app.cds,image",
        "-X",
        "cds_stats=stats.json",
    ];
    for _ in 0..2 {
        run(project, &[&auto, arguments].concat());
        settle(project);
    }
    let plain = run(project, &[&["-X", "cds=off"], arguments].concat());
    assert_eq!(run(project, &[&auto, arguments].concat()), plain);
    Report::read(&project.path("stats.json")).unwrap()
}

#[test]
fn an_image_that_makes_itself_has_no_module_that_looks() {
    for program in [
        "import json, kept, user\nprint(kept.value, user.kept.value)\n",
        "import json, user\nprint(user.value)\n",
    ] {
        let project = project("import sys\nvalue = sys.argv[1:]\n");
        project.write("lib/user.py", "import kept\nfrom kept import value\n");
        project.write("app/app.py", program);
        run(&project, &["app/app.py", "x"]);
        let report = makes_itself(&project, &["app/app.py", "one", "two"]);
        assert!(report.startup_image.is_some(), "{report:?}");
        // There is an image of the other modules. It is also used with other arguments.
        let plain = run(&project, &["-X", "cds=off", "app/app.py", "three"]);
        let image = ["-X", "cds_auto=made/app.cds,image", "app/app.py", "three"];
        assert_eq!(run(&project, &image), plain);
    }
}

/// The name of the host is compared if the program asks for it. This is true even if a module of the catalogue has
/// asked first, so that `platform` already keeps the name. If only the module of the catalogue has asked, the name is
/// not compared.
#[test]
fn an_image_that_makes_itself_does_not_keep_the_name_of_the_host() {
    if !rustix::process::geteuid().is_root() {
        skip!("only root may rename a host");
    }
    let catalogued = "import sqlalchemy.util.compat, platform\n";
    for (head, is_compared) in [
        ("import os\nhost = os.uname().nodename\n", true),
        ("import socket\nhost = socket.gethostname()\n", true),
        (&format!("{catalogued}host = platform.node()\n"), true),
        (&format!("{catalogued}host = ''\n"), false),
    ] {
        let end = "import later, platform\nprint(host or platform.node())\n";
        let project = Project::new(&[
            ("app/app.py", &format!("{head}{end}")),
            ("app/later.py", ""),
        ]);
        run(&project, &["-m", "venv", "--without-pip", "env"]).success();
        let site = "env/lib/python3.13/site-packages/sqlalchemy";
        let compat = "import platform\nis_known = platform.machine() == 'x86_64'\n";
        for (name, text) in [
            ("__init__", ""),
            ("util/__init__", ""),
            ("util/compat", compat),
        ] {
            project.write(&format!("{site}/{name}.py"), text);
        }
        let on_host = |name: &str| {
            let mut command = Command::new("unshare");
            clean(&mut command);
            let named = format!("hostname {name}; exec \"$0\" \"$@\"");
            let auto = ["-Xcds_auto=app.cds,image", "-Xcds_stats=stats.json"];
            command.current_dir(project.path(""));
            command.args(["-u", "sh", "-c", &named, "env/bin/python"]);
            let outcome = Outcome::of(command.args(auto).arg("app/app.py"));
            settle(&project);
            let report = Report::read(&project.path("stats.json")).unwrap();
            let refused = report.startup_image_refused.unwrap_or_default();
            (outcome.stdout, report.startup_image.is_some(), refused)
        };
        for _ in 0..3 {
            on_host("one");
        }
        assert_eq!(on_host("one"), ("one\n".to_owned(), true, String::new()));
        let (stdout, is_restored, refused) = on_host("other");
        assert_eq!(stdout, "other\n", "{head}");
        assert_eq!(is_restored, !is_compared, "{head}: {refused}");
        let is_told = refused.ends_with("it was made on the host one");
        assert_eq!(is_told, is_compared, "{head}: {refused}");
    }
}

/// Each run does what the imports do.
#[test]
fn an_image_that_makes_itself_has_no_module_that_does_something() {
    let project = project("print('imported')\n");
    run(&project, &["app/app.py"]);
    let report = makes_itself(&project, &["app/app.py"]);
    assert!(report.startup_image.is_some(), "{report:?}");
}

/// Modules beside the program count when an image is taken: a module that lies there is not missing.
#[test]
fn an_image_that_makes_itself_knows_what_lies_beside_its_program() {
    let optional = "try: import settings\nexcept ImportError: value = 'default'\nelse: value = settings.value\n";
    let project = project(optional);
    project.write("app/app.py", "import json, kept\nprint(kept.value)\n");
    project.write("app/settings.py", "value = 'own'\n");
    run(&project, &["app/app.py"]);
    let report = makes_itself(&project, &["app/app.py"]);
    assert!(report.startup_image.is_some(), "{report:?}");
    // The module is added after the image was taken.
    let project = self::project(optional);
    project.write("app/app.py", "import json, kept\nprint(kept.value)\n");
    run(&project, &["app/app.py"]);
    makes_itself(&project, &["app/app.py"]);
    project.write("app/settings.py", "value = 'new'\n");
    let image = ["-X", "cds_auto=made/app.cds,image", "app/app.py"];
    assert_eq!(run(&project, &image).stdout, "new\n");
}

/// A changed link, another mode, and other contents with the same size and time are noticed.
#[test]
fn files_are_the_same_files() {
    let reading = "import os\nhere = os.path.dirname(__file__)\nvalue = open(here + '/link/data').read(), os.stat(here + '/data').st_mode, open(here + '/data').read()\n";
    for change in [
        "os.unlink('lib/link'); os.symlink('two', 'lib/link')",
        "os.chmod('lib/data', 0o600)",
        "open('lib/new', 'w').write('b'); os.utime('lib/new', (1, 1)); os.replace('lib/new', 'lib/data')",
    ] {
        let project = project(reading);
        for (name, text) in [("one/data", "1"), ("two/data", "2"), ("data", "a")] {
            project.write(&format!("lib/{name}"), text);
        }
        project.write("app/app.py", "import kept\nprint(kept.value)\n");
        let times = "import os\nos.symlink('one', 'lib/link')\nfor name in ('one/data', 'two/data', 'one', 'two', 'data'): os.utime('lib/' + name, (1, 1))\n";
        run(&project, &["-c", times]).success();
        run(&project, &["app/app.py"]);
        run(&project, &[&TAKE[..], &["app.cds"]].concat()).success();
        let image = [
            "-X",
            "cds=app.cds",
            "-X",
            "cds_stats=stats.json",
            "app/app.py",
        ];
        run(&project, &image).success();
        let report = Report::read(&project.path("stats.json")).unwrap();
        assert!(report.startup_image.is_some(), "{change}: {report:?}");
        // The directory gets its old time again.
        let same = "import os; then = os.stat('lib')";
        let restored = "os.utime('lib', ns=(then.st_atime_ns, then.st_mtime_ns))";
        run(&project, &["-c", &format!("{same}\n{change}\n{restored}")]).success();
        let plain = run(&project, &["-X", "cds=off", "app/app.py"]);
        assert_eq!(run(&project, &image), plain, "{change}");
    }
}

/// If imports have only asked whether a path is a directory, the entries of the directory may change.
#[test]
fn directories_may_change_of_which_the_kind_was_asked_for() {
    for (question, counts) in [
        ("os.path.isdir(where)", false),
        ("path.exists()", false),
        ("path.is_dir()", false),
        ("path.is_file()", false),
        ("path.is_symlink()", false),
        ("path.resolve(strict=True)", false),
        ("Own(where).is_dir()", true),
        ("path.stat().st_mtime_ns", true),
        ("path.lstat().st_mtime_ns", true),
        ("path.is_mount()", true),
        ("path.owner()", true),
    ] {
        let head = "import os, pathlib\nwhere = os.path.dirname(__file__) + '/data'\npath = pathlib.Path(where)\n";
        let own = "class Own(type(path)):\n def stat(self, **keywords):\n  found = super().stat(**keywords)\n  self.seen = found.st_mtime_ns\n  return found\n";
        let project = project(&format!("{head}{own}value = {question}\n"));
        fs::create_dir(project.path("lib/data")).unwrap();
        project.write("app/app.py", "import kept\nprint(kept.value)\n");
        run(&project, &["app/app.py"]);
        run(&project, &[&TAKE[..], &["app.cds"]].concat()).success();
        project.write("lib/data/new", "");
        let image = [
            "-X",
            "cds=app.cds",
            "-X",
            "cds_stats=stats.json",
            "app/app.py",
        ];
        let plain = run(&project, &["-X", "cds=off", "app/app.py"]);
        assert_eq!(run(&project, &image), plain, "{question}");
        let report = Report::read(&project.path("stats.json")).unwrap();
        let is_restored = report.startup_image.is_some();
        assert_eq!(is_restored, !counts, "{question}: {report:?}");
    }
}

/// Values that a module keeps are renewed, but not values that other code has set instead.
#[test]
fn what_is_renewed_is_not_what_somebody_has_set() {
    let urllib3 = "def _has_ipv6(host):\n import os\n return False\nHAS_IPV6 = _has_ipv6('::1')\n";
    for setting in [
        "",
        "connection.HAS_IPV6 = 'never'\n",
        "multiprocessing.util.MAXFD = 7\n",
    ] {
        let project = project(&format!(
            "import multiprocessing.util, urllib3.util.connection as connection\n{setting}"
        ));
        for name in ["__init__", "util/__init__"] {
            project.write(&format!("lib/urllib3/{name}.py"), "");
        }
        project.write("lib/urllib3/util/connection.py", urllib3);
        let program =
            "import kept\nprint(kept.connection.HAS_IPV6, kept.multiprocessing.util.MAXFD)\n";
        project.write("app/app.py", program);
        run(&project, &["app/app.py"]);
        run(&project, &[&TAKE[..], &["app.cds"]].concat()).success();
        let image = [
            "-X",
            "cds=app.cds",
            "-X",
            "cds_stats=stats.json",
            "app/app.py",
        ];
        let limited = |options: &[&str]| {
            let mut limited = Command::new("prlimit");
            clean(&mut limited);
            limited
                .current_dir(project.path(""))
                .env("PYTHONPATH", project.path("lib"));
            Outcome::of(limited.arg("--nofile=100").arg(python()).args(options))
        };
        let restored = limited(&image);
        let report = Report::read(&project.path("stats.json")).unwrap();
        assert!(report.startup_image.is_some(), "{report:?}");
        assert_eq!(
            restored,
            limited(&["-X", "cds=off", "app/app.py"]),
            "{setting}"
        );
    }
}

/// Imitations of modules of packages that keep values which are renewed.
const KEEPERS: [(&str, &str); 7] = [
    (
        "bson/objectid.py",
        "import os\nclass ObjectId:\n    _pid = os.getpid()\n    _inc = int.from_bytes(os.urandom(3))\n    __random = os.urandom(5)\n",
    ),
    (
        "filelock/_core/_fork.py",
        "import os, weakref\n\
         def _pid_namespace(): return os.stat('/proc/self/ns/pid').st_ino\n\
         class _State: process_identity = os.getpid(), _pid_namespace()\n\
         class Lock: _instances_pid = os.getpid()\n\
         _FORK_STATE = _State()\n_FORK_CLASSES = weakref.WeakValueDictionary({1: Lock})\n",
    ),
    (
        "fsspec/spec.py",
        "import os\nclass AbstractFileSystem:\n    _pid = os.getpid()\n",
    ),
    (
        "hypothesis/internal/conjecture/engine.py",
        "from random import Random\n_random = Random()\n",
    ),
    (
        "loguru/_logger.py",
        "import datetime\ndef aware_now(): return datetime.datetime.now()\nstart_time = aware_now()\n",
    ),
    (
        "sqlfluff/core/helpers/identity.py",
        "import os\n_cache_key_prefix = os.urandom(8).hex()\n",
    ),
    (
        "structlog/stdlib.py",
        "import logging\n_LOG_RECORD_KEYS = vars(logging.LogRecord('name', 0, 'pathname', 0, 'msg', (), None)).keys()\n",
    ),
];

const KEPT: &str = "\
import os
import bson.objectid, filelock._core._fork, fsspec.spec, hypothesis.internal.conjecture.engine, loguru._logger, multiprocessing.heap
import sqlfluff.core.helpers.identity, structlog.stdlib
class OwnFileSystem(fsspec.spec.AbstractFileSystem):
    _pid = os.getpid()
def processes():
    heap = multiprocessing.heap.BufferWrapper._heap
    fork = filelock._core._fork
    return fork._FORK_STATE.process_identity[0], fork.Lock._instances_pid, heap._lastpid, bson.objectid.ObjectId._pid, fsspec.spec.AbstractFileSystem._pid, OwnFileSystem._pid
def others():
    object_id = bson.objectid.ObjectId
    record = structlog.stdlib._LOG_RECORD_KEYS.mapping
    random = hypothesis.internal.conjecture.engine._random.random()
    return sqlfluff.core.helpers.identity._cache_key_prefix, object_id._ObjectId__random, object_id._inc, random, loguru._logger.start_time, record['created'], record['process']
";

/// Takes an image of these modules, and restores two processes from it.
fn restored(setting: &str, program: &str) -> [String; 2] {
    let project = project(&format!("{KEPT}{setting}"));
    for (file, text) in KEEPERS {
        project.write(&format!("lib/{file}"), text);
    }
    project.write("app/app.py", program);
    run(&project, &["app/app.py"]).success();
    run(&project, &[&TAKE[..], &["app.cds"]].concat()).success();
    let image = [
        "-X",
        "cds=app.cds",
        "-X",
        "cds_stats=stats.json",
        "app/app.py",
    ];
    [(); 2].map(|()| {
        let outcome = run(&project, &image).success();
        let report = Report::read(&project.path("stats.json")).unwrap();
        assert!(report.startup_image.is_some(), "{report:?}");
        outcome.stdout
    })
}

/// The values that packages keep are those of the restored process.
#[test]
fn what_packages_keep_is_renewed() {
    let program =
        "import kept, os\nprint({*kept.processes()} == {os.getpid()}, *kept.others(), sep='\\n')\n";
    let [one, other] = restored("", program);
    let (one, other) = (Vec::from_iter(one.lines()), Vec::from_iter(other.lines()));
    assert_eq!((one[0], other[0]), ("True", "True"));
    assert_eq!(one.len(), 8, "{one:?}");
    for (one, other) in one.iter().zip(&other).skip(1) {
        assert_ne!(one, other);
    }
    // Other code has set these values.
    let setting = "multiprocessing.heap.BufferWrapper._heap._lastpid = fsspec.spec.AbstractFileSystem._pid = 7\n";
    let program = "import kept\nprint(kept.processes().count(7))\n";
    assert_eq!(restored(setting, program), ["2\n", "2\n"]);
}

/// The process that becomes the image is a fork of the one that has done the imports, with another process id.
#[test]
fn process_ids_are_renewed_in_an_image_that_makes_itself() {
    let project = project("");
    let program = "import multiprocessing.heap\nimport os, sys\nprint(multiprocessing.heap.BufferWrapper._heap._lastpid == os.getpid(), sys.argv)\n";
    project.write("app/app.py", program);
    run(&project, &["app/app.py"]);
    let report = makes_itself(&project, &["app/app.py", "one"]);
    assert!(report.startup_image.is_some(), "{report:?}");
    let inspected = run(&project, &["-m", "cds", "inspect", "made/app.cds.image"]);
    let stopped = "stopped at          the process id, in";
    assert!(inspected.stdout.contains(stopped), "{inspected:?}");
}
