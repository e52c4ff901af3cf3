//! Processes that are restored from a startup image do what processes do that have done the same imports.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;
use std::time::{Duration, SystemTime};

use cpython_cds_tests::{
    DUMP_IMAGE, Outcome, Project, clean, is_reachable_by_others, python, skip,
};

const IMPORTS: &str = "import argparse, asyncio, decimal, hashlib, importlib, json, locale, logging, multiprocessing, os
import random, re, shlex, signal, ssl, subprocess, sys, tempfile, threading, time, traceback, uuid\n";

/// Everything about a process that a program can see and that does not change from run to run.
const SHOW: &str = r#"
print(sys.argv, sys.orig_argv[3:], sys.path, sys.flags, sys.executable, sys.prefix, sys.base_prefix)
print({k: v for k, v in sys._xoptions.items() if not k.startswith("cds")}, sys.warnoptions)
print(dict(os.environ), os.getcwd(), os.getenv("FOO"), os.environb[b"HOME"])
print(subprocess.run(["sh", "-c", "echo $FOO $ADDED; ulimit -s"], env={**os.environ, "ADDED": "x"}, capture_output=True, text=True).stdout)
for stream in (sys.stdin, sys.stdout, sys.stderr):
    if stream is not None:
        print(stream.name, stream.mode, stream.encoding, stream.errors, stream.line_buffering, stream.isatty(), stream.fileno())
print(sys.stdin is sys.__stdin__, sys.stdout is sys.__stdout__, type(sys.displayhook), sys.stdin and sys.stdin.readline())
print(__name__, globals().get("__file__"), __spec__ and __spec__.name, sorted(vars(sys.modules["__main__"]))[:8])
print([signal.getsignal(n) for n in (signal.SIGINT, signal.SIGPIPE, signal.SIGHUP, signal.SIGTERM)], signal.pthread_sigmask(signal.SIG_BLOCK, []))
print(open("/proc/self/cmdline").read().split("\0")[3:], open("/proc/self/comm").read(), os.readlink("/proc/self/exe"))
print(open("/proc/self/environ").read().split("\0") == [f"{k}={v}" for k, v in os.environ.items()] + [""])
print(os.getpid() == threading.get_native_id() == int(os.readlink("/proc/self")), threading.active_count(), threading.main_thread() is threading.current_thread())
print(locale.getlocale(), sys.getfilesystemencoding(), time.tzname, abs(time.time() - float(subprocess.check_output(["date", "+%s.%N"]))) < 5)
print(importlib.import_module("json") is json, json.dumps([1, {"a": None}]), decimal.Decimal(1) / 3, hashlib.sha256(b"x").hexdigest()[:8])
print(re.match("(a+)(b)?", "aab").groups(), argparse.ArgumentParser(prog="x").parse_args([]), shlex.split("a 'b c'"))
logging.warning("told by logging")
results = []
threads = [threading.Thread(target=lambda: results.append(threading.get_native_id() != os.getpid())) for _ in range(8)]
for thread in threads: thread.start()
for thread in threads: thread.join()
print(all(results), len(results))
async def hello():
    process = await asyncio.create_subprocess_exec("echo", "hi", stdout=-1)
    return await process.communicate()
print(asyncio.run(hello()))
pid = os.fork()
if pid == 0: os._exit(9)
print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
import csv, ctypes, sqlite3, zoneinfo
database = sqlite3.connect(":memory:")
print(csv.__name__, ctypes.CDLL(None).getpid() == os.getpid(), database.execute("select 1 + 1").fetchone())
database.close()
print(len(bytearray(300 << 20)), len([bytes(1000) for _ in range(100_000)]))
def deep(n): return 0 if n == 0 else 1 + deep(n - 1)
sys.setrecursionlimit(20_000)
print(deep(15_000))
signal.signal(signal.SIGALRM, lambda *_: print("alarm"))
signal.setitimer(signal.ITIMER_REAL, 0.01)
time.sleep(0.1)
try:
    os.kill(os.getpid(), signal.SIGINT)
    time.sleep(1)
except KeyboardInterrupt: print("interrupted")
"#;

const NOTE: &str = "no startup image could be taken; to try again, remove this file\n";

fn project(program: &str) -> Project {
    let project = Project::new(&[("app.py", program)]);
    take(&project, &["app.py"]).success();
    project
}

/// Traces a run and takes an image of what it imports.
fn take(project: &Project, arguments: &[&str]) -> Outcome {
    project.run(arguments);
    let trace = ["-X", "cds_trace=app.lst"].iter().chain(arguments);
    project.run(trace);
    project.run(DUMP_IMAGE)
}

/// Why a process was not restored, as the statistics tell; none if it was.
fn refusal(stderr: &str) -> Option<String> {
    let mut lines = stderr.lines();
    if stderr.contains("cds: started from app.cds.image; since then:") {
        return None;
    }
    let line = lines.find_map(|line| line.strip_prefix("cds: app.cds.image is not used: "));
    Some(line.unwrap_or("there is no reason").to_owned())
}

#[track_caller]
fn assert_restored(project: &Project, arguments: &[&str]) {
    let options = ["-X", "cds=app.cds", "-X", "cds_stats"];
    let outcome = project.run(options.iter().chain(arguments));
    assert_eq!(refusal(&outcome.stderr), None, "{outcome:?}");
}

/// The same with an image and without: output, errors, status.
#[track_caller]
fn assert_same(project: &Project, arguments: &[&str], change: impl Fn(&mut Command)) {
    let run = |option: &str| {
        let mut command = project.command(["-X", option]);
        change(command.args(arguments));
        Outcome::of(&mut command)
    };
    assert_eq!(run("cds=app.cds"), run("cds=off"), "{arguments:?}");
}

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

/// The program on standard input, and streams that are not what they were.
#[test]
fn standard_streams_are_those_of_the_new_process() {
    let program = format!("{IMPORTS}{SHOW}");
    let project = project(&program);
    project.write("input.txt", "a line\nanother\n");
    let python = python();
    let shell = |option: &str, redirections: &str| {
        let mut command = Command::new("sh");
        clean(&mut command);
        command.current_dir(project.path("")).arg("-c");
        let line = format!("{} -X {option} {redirections}", python.display());
        Outcome::of(command.arg(line))
    };
    for redirections in [
        "- one < app.py",
        "app.py < input.txt",
        "app.py 2>&1 | cat",
        "app.py <&-",
        "app.py < / 2>&1 | head -1",
        "app.py >&-",
        "app.py 2>&-",
        "app.py <&- >&- 2>&-",
        "app.py > /dev/full",
        "app.py < /dev/null > /dev/null",
        "-c 'print(input(), input())' < input.txt",
        "-c 'import os; os.write(1, b\"raw\"); print(1, end=\"\")'",
    ] {
        assert_eq!(
            shell("cds=app.cds", redirections),
            shell("cds=off", redirections),
            "{redirections}"
        );
    }
}

/// Imports may do with the standard streams what they like: it lasts, and theirs are those that the program has.
#[test]
fn standard_streams_are_those_that_imports_have_left() {
    let show = "print('printed'); kept.write('kept\\n'); print('again')
os.write(1, b'at once\\n')
for stream in (sys.stdin, sys.stdout, sys.stderr, sys.__stdin__, sys.__stdout__, sys.__stderr__):
    told = [getattr(stream, name, None) for name in ('name', 'mode', 'encoding', 'errors', 'line_buffering', 'write_through', 'closed')]
    print(type(stream), told, file=sys.__stderr__)
print(kept is sys.stdout, kept is sys.__stdout__, sys.stdin.readline(), file=sys.__stderr__)
kept.write('last'); sys.__stdout__.write('last of all')
";
    for (imported, options) in [
        ("kept = sys.stdout", &[][..]),
        ("kept = sys.stdout", &["-u"]),
        ("kept = io.TextIOWrapper(sys.stdout.buffer)", &[]),
        (
            "sys.stdout = kept = io.TextIOWrapper(sys.stdout.detach(), 'latin-1'); sys.__stdout__ = sys.stdout",
            &[],
        ),
        ("sys.stdout = kept = io.StringIO()", &[]),
        (
            "class Doubled:
    def __init__(self, stream): self.stream = stream
    def write(self, text): return self.stream.write(text * 2)
    def __getattr__(self, name): return getattr(self.stream, name)
sys.stdout = kept = Doubled(sys.stdout)",
            &[],
        ),
        (
            "sys.stdout.reconfigure(encoding='utf-16', errors='replace', line_buffering=True); kept = sys.stdout",
            &[],
        ),
        (
            "sys.stdout.reconfigure(newline='\\r\\n', line_buffering=False); kept = sys.stdout",
            &[],
        ),
        (
            "sys.stderr.reconfigure(line_buffering=False, write_through=True); kept = sys.stderr",
            &[],
        ),
        ("kept = open(1, 'w', closefd=False)", &[]),
        (
            "sys.stdin.close(); sys.stdin = io.StringIO('line'); kept = sys.stdout",
            &[],
        ),
        (
            "import logging; logging.basicConfig(stream=sys.stdout); kept = logging.root.handlers[0].stream",
            &[],
        ),
    ] {
        let project = Project::new(&[
            (
                "app.py",
                &format!("import io, os, sys\nfrom lib import kept\n{show}"),
            ),
            ("path/lib.py", &format!("import io, os, sys\n{imported}\n")),
            ("app.lst", "lib\n"),
            ("input.txt", "from a file\n"),
        ]);
        let library = |command: &mut Command| {
            command.env("PYTHONPATH", project.path("path"));
        };
        let mut dump = project.command(options.iter().copied());
        dump.args(DUMP_IMAGE);
        library(&mut dump);
        Outcome::of(&mut dump).success();
        let python = python();
        let run = |option: &str, redirections: &str| {
            let mut command = Command::new("sh");
            clean(&mut command);
            library(&mut command);
            let (python, options) = (python.display(), options.join(" "));
            let line = format!("{python} {options} -X {option} {redirections}");
            Outcome::of(command.current_dir(project.path("")).args(["-c", &line]))
        };
        let restored = run("cds=app.cds -X cds_stats", "-c pass 2>&1");
        assert!(
            restored.stdout.contains("started from"),
            "{imported}: {restored:?}"
        );
        for redirections in [
            "app.py < input.txt",
            "app.py < input.txt > out.txt; cat out.txt",
            "app.py < input.txt 2>&1",
            "app.py < /dev/null >&-",
            "app.py <&-",
        ] {
            assert_eq!(
                run("cds=app.cds", redirections),
                run("cds=off", redirections),
                "{imported}: {redirections}"
            );
        }
    }
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

/// What is ignored when a process starts stays ignored (nohup, a shell's `&`).
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
    // An image that is taken in such a process is like any other.
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

/// Two processes of one image have nothing in common that has to be a secret, whatever their ids.
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

/// In containers process ids repeat, and OpenSSL takes a process with another id for a fork.
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

/// Whatever the imports looked at: if it has changed, the process starts as usual, and the statistics say why.
#[test]
fn what_does_not_match_is_named() {
    let program = format!(
        "{IMPORTS}import lib_a\nprint(lib_a.value, os.environ.get('FOO'), sys.flags.optimize, sys.flags.dev_mode)\n"
    );
    let project = Project::new(&[
        ("app.py", &program),
        (
            "lib/lib_a.py",
            "import importlib.util, os\ndef read(name='data.txt'): return open(__file__.replace('lib_a.py', name)).read()\nvalue = os.environ.get('LIB_A'), read(), importlib.util.find_spec('optional') is None\n",
        ),
        ("lib/data.txt", "data"),
    ]);
    let base = |command: &mut Command| {
        command.env("PYTHONPATH", project.path("lib"));
    };
    let run = |options: &[&str], change: &dyn Fn(&mut Command)| {
        let mut command = project.command(options);
        base(&mut command);
        change(&mut command);
        Outcome::of(&mut command)
    };
    let silent = |_: &mut Command| {};
    run(&["-X", "cds_trace=app.lst", "app.py"], &silent).success();
    run(&DUMP_IMAGE, &silent).success();
    let mut said = String::new();
    let mut check = |what: &str, options: &[&str], change: &dyn Fn(&mut Command)| {
        let program: &[&str] = if options.contains(&"app.py") {
            &[]
        } else {
            &["app.py"]
        };
        let stats = ["-X", "cds=app.cds", "-X", "cds_stats"];
        let restored = run(&[&stats, options, program].concat(), change);
        let plain = run(&[&["-X", "cds=off"], options, program].concat(), change);
        assert_eq!(
            (restored.status, &restored.stdout),
            (plain.status, &plain.stdout),
            "{what}"
        );
        let refusal = refusal(&restored.stderr).unwrap_or("(restored)".to_owned());
        said.push_str(&format!("{what}: {refusal}\n"));
    };
    check("nothing", &[], &silent);
    check("-O", &["-O"], &silent);
    check("-X dev", &["-X", "dev"], &silent);
    check("-W", &["-Werror"], &silent);
    check("another variable", &[], &|c| {
        c.env("FOO", "1");
    });
    check("a variable that was read", &[], &|c| {
        c.env("LIB_A", "1");
    });
    check("a variable for libraries", &[], &|c| {
        c.env("LC_ALL", "C");
    });
    check("a variable for Python", &[], &|c| {
        c.env("PYTHONHASHSEED", "1");
    });
    check("home", &[], &|c| {
        c.env("HOME", "/");
    });
    check("another way to the interpreter", &["app.py"], &|_| {});
    let lib = project.path("lib");
    let changed = |path: &std::path::Path| {
        let later = SystemTime::now() + Duration::from_secs(10);
        fs::File::open(path).unwrap().set_modified(later).unwrap();
    };
    project.write("json.py", "dumps = loads = None\n");
    check("a module beside the program", &[], &silent);
    fs::remove_file(project.path("json.py")).unwrap();
    project.write("optional.py", "");
    check("a module that imports have searched for", &[], &silent);
    fs::remove_file(project.path("optional.py")).unwrap();
    // `site` searches for it before there is a program.
    project.write("sitecustomize.py", "");
    check("a module that only site searches for", &[], &silent);
    fs::remove_file(project.path("sitecustomize.py")).unwrap();
    fs::create_dir(project.path("json")).unwrap();
    check("a directory beside the program", &[], &silent);
    project.write("json/__init__.py", "");
    check("a package beside the program", &[], &silent);
    fs::remove_dir_all(project.path("json")).unwrap();
    let image = project.path("app.cds.image");
    fs::set_permissions(&image, fs::Permissions::from_mode(0o644)).unwrap();
    check("readable by others", &[], &silent);
    fs::set_permissions(&image, fs::Permissions::from_mode(0o600)).unwrap();
    let good = fs::read(&image).unwrap();
    fs::write(&image, &good[..good.len() - 10]).unwrap();
    check("truncated", &[], &silent);
    let mut damaged = good.clone();
    let last = damaged.len() - 5;
    damaged[last] ^= 1;
    fs::write(&image, &damaged).unwrap();
    check("damaged", &[], &silent);
    let mut damaged = good.clone();
    damaged[100_000] ^= 1;
    fs::write(&image, &damaged).unwrap();
    check("damaged in its pages", &[], &silent);
    fs::write(&image, b"").unwrap();
    check("empty", &[], &silent);
    fs::write(&image, &good).unwrap();
    check("as it was", &[], &silent);
    project.write("lib/data.txt", "other");
    check("a file that was read", &[], &silent);
    run(&DUMP_IMAGE, &silent).success();
    changed(&lib.join("lib_a.py"));
    check("a source", &[], &silent);
    run(&DUMP_IMAGE, &silent).success();
    project.write("lib/new.txt", "");
    check("a new file in a directory of its path", &[], &silent);
    project.write("lib/json.py", "dumps = loads = None\n");
    check("a module in a directory of its path", &[], &silent);
    fs::remove_file(project.path("lib/json.py")).unwrap();
    check("no module there any more", &[], &silent);
    changed(&project.path("app.cds"));
    check("the archive", &[], &silent);
    fs::remove_file(&image).unwrap();
    check("no image", &[], &silent);
    let directory = project.path("").display().to_string();
    let said = said.replace(directory.trim_end_matches('/'), "[project]");
    insta::with_settings!({filters => vec![(r"it was made with /\S+", "it was made with [python]")]}, {
        insta::assert_snapshot!(said);
    });
}

/// C code looks at files and variables, too; and what was not there may be there now.
const LOOKS_FROM_C: &str = r#"
import ctypes, os
c = ctypes.CDLL(None)
c.getenv.restype = c.fopen.restype = ctypes.c_void_p
c.fclose.argtypes = [ctypes.c_void_p]
top = os.path.dirname(os.path.dirname(__file__))
c.getenv(b"ONLY_IN_C")
for name in ("etc/conf", "etc/absent", "nowhere/at/all", "etc/../dots"):
    if file := c.fopen(os.fsencode(f"{top}/{name}"), b"r"):
        c.fclose(file)
found = [os.path.exists(f"{top}/{name}") for name in ("tree", "link", "lib/plugin")]
with open(f"{top}/etc/log", "a") as log:
    log.write("imported\n")
# Others than itself: they have the observer's breakpoint in their memory until they run something else.
import subprocess
subprocess.run(["true"], env={}, check=True)
c.system(b"true")
if (pid := os.fork()) == 0:
    c.getenv(b"IN_A_FORK")
    os._exit(3)
assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 3
"#;

#[test]
fn what_c_code_looks_at_is_compared() {
    let project = Project::new(&[
        (
            "app.py",
            "import ctypes, looks
first = ctypes.string_at(ctypes.cast(looks.c.getenv, ctypes.c_void_p).value, 1)
assert first != b'\\xcc', 'the breakpoint is in the image'
print(looks.found)
",
        ),
        ("lib/looks.py", LOOKS_FROM_C),
        ("app.lst", "looks\n"),
        ("etc/conf", "a"),
        ("etc/log", ""),
        ("dots", ""),
        ("tree/leaf", ""),
        ("other/leaf", ""),
    ]);
    let link = |target: &str| {
        let _ = fs::remove_file(project.path("link"));
        std::os::unix::fs::symlink(target, project.path("link")).unwrap();
    };
    link("tree");
    let run = |arguments: &[&str], variables: &[&str]| {
        let mut command = project.command(arguments);
        command.env("PYTHONPATH", project.path("lib"));
        Outcome::of(command.envs(variables.iter().map(|name| (name, "1"))))
    };
    let dump = || {
        run(&DUMP_IMAGE, &[]).success();
    };
    let mut said = String::new();
    let mut check = |what: &str, variables: &[&str]| {
        let stats = ["-X", "cds=app.cds", "-X", "cds_stats", "app.py"];
        let stderr = run(&stats, variables).success().stderr;
        let refusal = refusal(&stderr).unwrap_or("(restored)".to_owned());
        said.push_str(&format!("{what}: {refusal}\n"));
    };
    dump();
    check("nothing", &[]);
    check("nothing, again", &[]);
    check("a variable", &["ONLY_IN_C"]);
    check("a variable that a forked process asked for", &["IN_A_FORK"]);
    check("a variable that another program got", &["ELSE"]);
    project.write("etc/log", "somebody wrote something\n");
    check("a file that was only written to", &[]);
    project.write("tree/new", "");
    check("something in a directory that was not listed", &[]);
    project.write("etc/conf", "another");
    check("a file", &[]);
    dump();
    project.write("dots", "another");
    check("a file by a path with dots", &[]);
    dump();
    project.write("etc/absent", "");
    check("a file where none was", &[]);
    dump();
    project.write("nowhere/else", "");
    check("a directory where none was", &[]);
    dump();
    project.write("lib/plugin", "");
    check("a file where none was, in a directory of modules", &[]);
    dump();
    link("other");
    check("a link to another directory", &[]);
    dump();
    fs::remove_dir_all(project.path("tree")).unwrap();
    check("no directory any more", &[]);
    let directory = project.path("").display().to_string();
    let said = said.replace(directory.trim_end_matches('/'), "[project]");
    insta::assert_snapshot!(said);
}

/// Where processes cannot be traced, what Python tells has to do.
#[test]
fn an_image_is_made_where_nothing_can_be_traced() {
    let project = Project::new(&[
        ("lib/looks.py", LOOKS_FROM_C),
        ("etc/conf", ""),
        ("app.lst", "looks\n"),
    ]);
    let mut strace = Command::new("strace");
    clean(&mut strace);
    strace
        .current_dir(project.path(""))
        .env("PYTHONPATH", project.path("lib"))
        .args(["-f", "-qq", "-o", "calls.txt"])
        .args(["-e", "inject=ptrace:error=EPERM"])
        .arg(python())
        .args(["-m", "cds", "dump", "-v", "--image", "app.lst", "app.cds"]);
    let dumped = Outcome::of(&mut strace).success();
    assert_eq!(
        dumped.stderr,
        "cds dump: note: only what imports look at from Python, and all variables, will be compared at each start: \
         ptrace: Operation not permitted (os error 1)\n"
    );
    let mut run = project.command(["-X", "cds=app.cds", "-X", "cds_stats", "-c", "pass"]);
    run.env("PYTHONPATH", project.path("lib"));
    assert_eq!(refusal(&Outcome::of(&mut run).success().stderr), None);
    let refused = Outcome::of(run.env("ONLY_IN_C", "1")).success();
    let reason = refusal(&refused.stderr).unwrap_or_default();
    assert_eq!(reason, "the variable ONLY_IN_C is new");
}

/// Libraries have as many threads as there are processors.
#[test]
fn the_number_of_processors_is_compared_where_it_counts() {
    let allowed = rustix::thread::sched_getaffinity(None).unwrap();
    let Some(first) = (0..rustix::thread::CpuSet::MAX_CPU).find(|&cpu| allowed.is_set(cpu)) else {
        return;
    };
    if allowed.count() == 1 {
        skip!("there is only one processor");
    }
    let count = allowed.count();
    let reason = format!("it was made where {count} processors could be used, here it is 1");
    let imports = [
        ("import json\n", None),
        ("import json, counting\n", Some(reason)),
    ];
    for (imports, expected) in imports {
        let project = Project::new(&[
            ("app.py", imports),
            ("lib/counting.py", "import os\nos.sched_getaffinity(0)\n"),
        ]);
        let library = |command: &mut Command| {
            command.env("PYTHONPATH", project.path("lib"));
        };
        let mut trace = project.command(["-X", "cds_trace=app.lst", "app.py"]);
        library(&mut trace);
        Outcome::of(&mut trace).success();
        let mut dump = project.command(DUMP_IMAGE);
        library(&mut dump);
        Outcome::of(&mut dump).success();
        let mut command = Command::new("taskset");
        clean(&mut command);
        library(&mut command);
        command
            .current_dir(project.path(""))
            .args(["-c", &first.to_string()])
            .arg(python())
            .args(["-X", "cds=app.cds", "-X", "cds_stats", "app.py"]);
        assert_eq!(
            refusal(&Outcome::of(&mut command).success().stderr),
            expected
        );
    }
}

/// What a restored process could not have is named when an image is taken, and there is none.
#[test]
fn what_cannot_be_restored_is_refused() {
    let mut said = String::new();
    for (what, code) in [
        (
            "a thread",
            "import threading, time\nthreading.Thread(target=time.sleep, args=(60,), daemon=True, name='worker').start()\n",
        ),
        ("a file", "kept = open(__file__)\n"),
        ("a socket", "import socket\nkept = socket.socketpair()\n"),
        (
            "a timer",
            "import signal\nsignal.signal(signal.SIGALRM, print)\nsignal.setitimer(signal.ITIMER_REAL, 60)\n",
        ),
        ("shared memory", "import mmap\nkept = mmap.mmap(-1, 4096)\n"),
        ("a wait", "import select\nkept = select.epoll()\n"),
        (
            "what the kernel keeps",
            "import os, resource, signal\nos.chdir('/'); os.umask(0o77); os.nice(1)\nsignal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1])\nresource.setrlimit(resource.RLIMIT_NOFILE, (99, 99))\nwith open('/proc/self/comm', 'w') as name: name.write('renamed')\n",
        ),
        (
            "a breakpoint",
            "import ctypes\nlibc = ctypes.CDLL(None)\nplace = ctypes.cast(libc.hcreate, ctypes.c_void_p).value\npage = ctypes.c_void_p(place & -4096)\nlibc.mprotect(page, 4096, 7)\nctypes.memset(place, 0xcc, 1)\nlibc.mprotect(page, 4096, 5)\n",
        ),
    ] {
        let project = Project::new(&[("lib/kept.py", code), ("app.lst", "kept\n")]);
        let mut dump = project.command(DUMP_IMAGE);
        let outcome = Outcome::of(dump.env("PYTHONPATH", project.path("lib")));
        assert_eq!(
            (outcome.status, &*outcome.stdout),
            (1, ""),
            "{what}: {outcome:?}"
        );
        let note = fs::read_to_string(project.path("app.cds.image"));
        let note = note.expect("there is a note in its place");
        let reason = note.strip_prefix(NOTE).expect("it is one").trim_end();
        assert!(outcome.stderr.contains(reason), "{what}: {note}");
        assert!(project.path("app.cds").exists(), "{what}");
        let directory = project.path("").display().to_string();
        let text = outcome
            .stderr
            .replace(directory.trim_end_matches('/'), "[project]");
        said.push_str(&format!("{what}:\n{text}"));
    }
    // Debug builds warn of what is left open.
    insta::with_settings!({filters => vec![(r"<sys>:0: ResourceWarning.*\n", ""), (r"\d+ \(", "[n] ("), (r"\[\d+\]", "[id]"), (r"app.cds.image", "[image]"), (r"/\S+/libc", "[libraries]/libc")]}, {
        insta::assert_snapshot!(said);
    });
}

/// An image need not have a program's imports: it spares the start of the interpreter itself.
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
    // An archive alone would have nothing in it.
    let outcome = project.run(["-m", "cds", "dump", "empty.lst", "app.cds"]);
    assert_eq!(
        (outcome.status, &*outcome.stderr),
        (1, "cds dump: error: nothing to archive\n")
    );
}

/// An image is of an interpreter with the options and variables of the dump.
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

/// Somebody types at a terminal: code, ctrl-C at the prompt and into a program, ctrl-D; with either prompt of Python, and to
/// a program that reads its input.
#[test]
fn it_is_the_same_to_talk_to_a_restored_process() {
    const STEPS: &str = r#"[
        [">>> $", "1+1\r"],
        ["\\n2\n.*>>> $", "import sys; sys.argv, __name__, sys.flags.interactive, sys.stdin.isatty()\r"],
        ["\\)\n.*>>> $", "def f(x): return x * 3\r\r"],
        ["\n.*>>> $", "f('ab'), _\r"],
        ["ababab.*>>> $", "\u0003"],
        ["KeyboardInterrupt\n.*>>> $", "1/0\r"],
        ["ZeroDivisionError: .*>>> $", "import time; print('g' + 'o'); time.sleep(60)\r"],
        ["\ngo\n", "\u0003"],
        ["KeyboardInterrupt\n.*>>> $", "f(\r"],
        ["\\.\\.\\. $", "\u0003"],
        ["KeyboardInterrupt\n.*>>> $", "input('name? ')\r"],
        ["name\\? $", "ada\r"],
        ["'ada'\n.*>>> $", "import atexit; atexit.register(print, 'at', 'exit') and None\r"],
        ["\n.*>>> $", "\u0004"]
    ]"#;
    const PROGRAM: &str = "print('ready', input('name? '))\ntry: input()\nexcept KeyboardInterrupt: print('interrupted')\ninput()\n";
    const TO_PROGRAM: &str =
        r#"[["name\\? $", "ada\r"], ["ready ada\n", "\u0003"], ["interrupted\n", "\u0004"]]"#;
    let project = Project::new(&[
        ("terminal.py", include_str!("../src/terminal.py")),
        ("app.py", PROGRAM),
    ]);
    for (prompt, basic) in [("basic", "1"), ("new", "")] {
        let configure = |command: &mut Command| {
            let home = project.path("");
            command.env("PYTHON_BASIC_REPL", basic).env("TERM", "xterm");
            command.env("NO_COLOR", "1").env("HOME", home);
        };
        let mut dump = project.command(["-m", "cds", "dump", "-q", "--image", "app.cds"]);
        configure(&mut dump);
        Outcome::of(&mut dump).success();
        for (steps, arguments) in [
            (STEPS, &[][..]),
            (STEPS, &["-q"]),
            (STEPS, &["-"]),
            (TO_PROGRAM, &["app.py"]),
        ] {
            let typed = |archive: &str| {
                let mut command = project.command(["-X", "cds=off", "terminal.py", steps]);
                configure(&mut command);
                command.arg(python()).args(["-X", archive]);
                command.args(["-X", "cds_stats=stats.txt"]).args(arguments);
                let outcome = Outcome::of(&mut command).success();
                let stats = fs::read_to_string(project.path("stats.txt")).unwrap();
                (outcome.stdout, refusal(&stats))
            };
            let (restored, refusal) = typed("cds=app.cds");
            // `-q` is an option that the image was not made with.
            assert_eq!(refusal.is_some(), arguments == ["-q"], "{refusal:?}");
            let (plain, _) = typed("cds=off");
            assert_eq!(restored, plain, "{prompt} {arguments:?}");
        }
    }
}

/// Imports ask whether somebody sees what is printed, and in what width.
#[test]
fn terminals_are_compared_where_imports_have_asked() {
    const LINE: &str =
        "a line that is much longer than forty columns are, so that it has to be wrapped";
    let project = Project::new(&[
        ("terminal.py", include_str!("../src/terminal.py")),
        (
            "app.py",
            "import sys; print(input('? ') if sys.stdin.isatty() else 0)\n",
        ),
        ("lib/unasked.py", ""),
        (
            "lib/coloured.py",
            "import sys\ncoloured = sys.stdout.isatty()\n",
        ),
        (
            "lib/wide.py",
            "import os\ntry: os.get_terminal_size(2)\nexcept OSError: pass\n",
        ),
        ("lib/edited.py", "import readline\n"),
        ("lib/asked.py", "import readline, sys\nsys.stdin.isatty()\n"),
    ]);
    let steps = format!(r#"[["\\? $", "{LINE}\r"]]"#);
    let python = python().display().to_string();
    let run = |columns: Option<u32>, steps: &str, arguments: &[&str]| {
        let mut command = project.command(["-X", "cds=off"]);
        command.env("PYTHONPATH", project.path("lib"));
        command.env("TERM", "xterm").env("INPUTRC", "/dev/null");
        if let Some(columns) = columns {
            let resized = format!("stty rows 20 cols {columns}; exec \"$0\" \"$@\"");
            command.args(["terminal.py", steps, "sh", "-c", &resized, &python]);
        } else {
            command = {
                let mut plain = project.command(<[&str; 0]>::default());
                plain.env("PYTHONPATH", project.path("lib"));
                plain.env("TERM", "xterm").env("INPUTRC", "/dev/null");
                plain
            };
        }
        Outcome::of(command.args(arguments)).success().stdout
    };
    let mut said = String::new();
    for module in ["unasked", "coloured", "wide", "edited", "asked"] {
        project.write("app.lst", module);
        for taken in [None, Some(40)] {
            run(taken, "[]", &DUMP_IMAGE);
            for columns in [None, Some(40), Some(60)] {
                let stats = ["-X", "cds=app.cds", "-X", "cds_stats=stats.txt", "app.py"];
                let restored = run(columns, &steps, &stats);
                assert_eq!(restored, run(columns, &steps, &["-X", "cds=off", "app.py"]));
                let stats = fs::read_to_string(project.path("stats.txt")).unwrap();
                let refusal = refusal(&stats).unwrap_or("(restored)".to_owned());
                said.push_str(&format!("{module}, {taken:?}, {columns:?}: {refusal}\n"));
            }
        }
    }
    insta::assert_snapshot!(said);
}

/// A module that asks for the name of its host has it for good.
#[test]
fn the_host_is_compared_where_imports_have_asked() {
    if !rustix::process::geteuid().is_root() {
        skip!("only root may rename a host");
    }
    let project = Project::new(&[
        (
            "app.py",
            "import socket, module; print(socket.gethostname())\n",
        ),
        ("lib/module.py", ""),
        ("app.lst", "socket\nmodule\n"),
    ]);
    let run = |arguments: &[&str]| {
        let mut command = Command::new("unshare");
        clean(&mut command);
        command
            .current_dir(project.path(""))
            .env("PYTHONPATH", project.path("lib"));
        command.args(["-u", "sh", "-c", "hostname other; exec \"$0\" \"$@\""]);
        Outcome::of(command.arg(python()).args(arguments)).success()
    };
    for (module, is_compared) in [
        ("", false),
        ("import socket; socket.gethostname()\n", true),
        ("import os; os.uname()\n", true),
        ("import platform; platform.system()\n", true),
    ] {
        project.write("lib/module.py", module);
        let mut dump = project.command(DUMP_IMAGE);
        Outcome::of(dump.env("PYTHONPATH", project.path("lib"))).success();
        let outcome = run(&["-X", "cds=app.cds", "-X", "cds_stats", "app.py"]);
        assert_eq!(outcome.stdout, "other\n");
        let refusal = refusal(&outcome.stderr).unwrap_or_default();
        assert_eq!(
            refusal.starts_with("it was made on the host "),
            is_compared,
            "{refusal}"
        );
        assert!(is_compared || refusal.is_empty(), "{refusal}");
    }
}

/// Imports ask where they are, which some only remember; and leave marks on the process.
#[test]
fn the_working_directory_is_compared_where_it_counts() {
    let project = Project::new(&[
        (
            "lib/absolute.py",
            "import tempfile\nfound = open(__file__).read(), tempfile.gettempdir()\n",
        ),
        ("lib/asking.py", "import os\nfound = os.getcwd()\n"),
        (
            "lib/relative.py",
            "import os\nfound = os.path.exists('settings.toml')\n",
        ),
        (
            "lib/remembering.py",
            "import multiprocessing.process as p\nfound = p.ORIGINAL_DIR\n",
        ),
        ("lib/timed.py", "import logging\nfound = None\n"),
        (
            "app.py",
            "import sys, logging\nname = sys.argv[1]; found = getattr(__import__(name), 'found')\nif name == 'remembering': found = sys.modules['multiprocessing.process'].ORIGINAL_DIR\nprint(found, logging._startTime > int(sys.argv[2]))\n",
        ),
        ("elsewhere/settings.toml", ""),
    ]);
    let run = |directory: &str, arguments: &[&str]| {
        let mut command = project.command(arguments);
        command.current_dir(project.path(directory));
        command.env("PYTHONPATH", project.path("lib"));
        command
            .env("PYTHONDONTWRITEBYTECODE", "1")
            .env("TMPDIR", "/tmp");
        Outcome::of(&mut command).success()
    };
    let mut said = String::new();
    for module in ["absolute", "asking", "relative", "remembering", "timed"] {
        project.write("app.lst", module);
        run("", &DUMP_IMAGE);
        fs::copy(project.path("app.cds"), project.path("elsewhere/app.cds")).unwrap();
        let image = "app.cds.image";
        let there = project.path("elsewhere").join(image);
        fs::hard_link(project.path(image), &there).unwrap();
        for directory in ["", "elsewhere"] {
            let program = project.path("app.py").display().to_string();
            let now = SystemTime::now()
                .duration_since(SystemTime::UNIX_EPOCH)
                .unwrap();
            let program = [&*program, module, &now.as_nanos().to_string()];
            let stats = ["-X", "cds=app.cds", "-X", "cds_stats"];
            let restored = run(directory, &[&stats[..], &program].concat());
            let plain = run(directory, &[&["-X", "cds=off"][..], &program].concat());
            assert_eq!(restored.stdout, plain.stdout, "{module} in {directory:?}");
            let refusal = refusal(&restored.stderr).unwrap_or("(restored)".to_owned());
            said.push_str(&format!("{module}, {directory:?}: {refusal}\n"));
        }
        fs::remove_file(there).unwrap();
    }
    let here = project.path("").display().to_string();
    insta::assert_snapshot!(said.replace(here.trim_end_matches('/'), "[project]"));
}

/// With a relative path, processes find other modules in other directories.
#[test]
fn a_relative_path_is_refused_and_not_restored_elsewhere() {
    let project = Project::new(&[
        ("one/lib/tool.py", "x = 'one'\n"),
        ("two/lib/tool.py", "x = 'two'\n"),
        ("app.lst", "tool\n"),
    ]);
    let run = |directory: &str, path: &str, arguments: &[&str]| {
        let mut command = project.command(arguments);
        command.current_dir(project.path(directory));
        Outcome::of(command.env("PYTHONPATH", path))
    };
    let dump = [
        "-m",
        "cds",
        "dump",
        "-q",
        "--image",
        "../app.lst",
        "../app.cds",
    ];
    let code = ["-X", "cds=../app.cds", "-c", "import tool; print(tool.x)"];
    for (path, told) in [("lib", "'lib'"), ("/nowhere::lib", "'', 'lib'")] {
        let outcome = run("one", path, &dump);
        let reason =
            format!("cds: no startup image: PYTHONPATH has relative directories: {told}\n");
        assert_eq!(outcome.status, 1);
        assert!(outcome.stderr.starts_with(&reason), "{outcome:?}");
        for directory in ["one", "two"] {
            let outcome = run(directory, path, &code);
            assert_eq!(outcome.stdout, format!("{directory}\n"));
        }
    }
    // Without them, or where the variable does not count, it does not matter where a process starts.
    let path = project.path("one/lib").display().to_string();
    run("one", &path, &dump).success();
    assert_eq!(run("two", &path, &code).stdout, "one\n");
    run("one", "lib", &[&["-E"], &dump[..]].concat()).success();
}

/// `inspect`, `verify` and `stats` know images.
#[test]
fn tools_know_images() {
    let project = project("import json\nprint(json.dumps([1]))\n");
    let cds = |arguments: &[&str]| project.run([&["-m", "cds"], arguments].concat());
    let inspected = cds(&["inspect", "--top", "1", "app.cds.image"])
        .success()
        .stdout;
    let verified = cds(&["verify", "app.cds.image"]).success().stdout;
    let stats = cds(&["stats", "--archive", "app.cds", "app.py"]).success();
    let listed = cds(&["inspect", "--json", "app.cds.image"])
        .success()
        .stdout;
    let listed: serde_json::Value = serde_json::from_str(&listed).unwrap();
    assert_eq!(listed["changed"], serde_json::json!([]));
    assert!(listed["names"].as_array().unwrap().contains(&"json".into()));
    assert_eq!(refusal(&stats.stderr), None, "{stats:?}");
    let later = SystemTime::now() + Duration::from_secs(10);
    fs::File::open(project.path("app.cds"))
        .unwrap()
        .set_modified(later)
        .unwrap();
    let changed = cds(&["verify", "app.cds.image"]);
    assert_eq!(changed.status, 1, "{changed:?}");
    let image = fs::read(project.path("app.cds.image")).unwrap();
    fs::write(project.path("app.cds.image"), &image[..image.len() - 1]).unwrap();
    let damaged = cds(&["inspect", "app.cds.image"]);
    assert_eq!(damaged.status, 1, "{damaged:?}");
    let said = [inspected, verified, changed.stdout, damaged.stderr].concat();
    let directory = project.path("").display().to_string();
    let said = said.replace(directory.trim_end_matches('/'), "[project]");
    insta::with_settings!({filters => vec![
        (r"\d+\.\d [KM]iB", "[size]"),
        (r"\d+ (region|package|file|other)", "[n] $1"),
        (r"compared +\d+", "compared [n]"),
        (r"made by( +)\S+", "made by$1[python]"),
        (r"&& \S+ -m", "&& [python] -m"),
        (r"/\S+/python3.13", "[python]"),
    ]}, { insta::assert_snapshot!(said); });
}

/// A kernel that refuses a call (seccomp, gVisor): the process is restored without it, or starts as usual.
#[test]
fn refused_system_calls_do_no_harm() {
    let project = project("import json, os\nprint(json.dumps([1]), os.getpid() > 0)\n");
    let mut said = String::new();
    for (call, error) in [
        ("prctl", "EPERM"),
        ("prctl", "ENOSYS"),
        ("mremap", "EPERM"),
        ("mremap:when=2", "EPERM"),
        ("rseq", "EPERM"),
        ("rseq", "ENOSYS"),
        ("set_robust_list", "ENOSYS"),
        // For the launcher's own memory, all that the process may write to, and the arguments.
        ("mmap:when=1", "ENOMEM"),
        ("mmap:when=2", "ENOMEM"),
        ("mmap:when=3", "ENOMEM"),
        // Of the header, and of the description.
        ("pread64:when=1", "EIO"),
        ("pread64:when=2", "EIO"),
        ("fstat:when=1", "EIO"),
        ("fstat:when=4", "EIO"),
        ("openat:when=1", "EMFILE"),
        ("openat:when=3", "EMFILE"),
        ("getdents64:when=1", "EIO"),
    ] {
        let (call, when) = call.split_once(':').unwrap_or((call, "when=1+"));
        let mut command = Command::new("strace");
        clean(&mut command);
        let fault = format!("inject={call}:error={error}:{when}");
        command
            .current_dir(project.path(""))
            .args(["-qq", "-o", "calls.txt", "-e", &fault]);
        command
            .arg(python())
            .args(["-X", "cds=app.cds", "-X", "cds_stats", "app.py"]);
        let outcome = Outcome::of(&mut command);
        assert_eq!(
            (outcome.status, &*outcome.stdout),
            (0, "[1] True\n"),
            "{call}: {outcome:?}"
        );
        let refusal = refusal(&outcome.stderr).unwrap_or("(restored)".to_owned());
        said.push_str(&format!("{call} {when} {error}: {refusal}\n"));
    }
    let directory = fs::canonicalize(project.path("")).unwrap();
    let said = said.replace(&*directory.to_string_lossy(), "[project]");
    insta::assert_snapshot!(said);
}

/// Somebody else's image is not used, nor is one where memory is limited; a read-only file system and a missing `/proc` do
/// not matter.
#[test]
fn it_matters_whose_it_is_and_not_where() {
    let project = project("import json, os\nprint(json.dumps([1]))\n");
    let run = |prefix: &[&str]| {
        let mut command = Command::new(prefix[0]);
        clean(&mut command);
        command.current_dir(project.path("")).args(&prefix[1..]);
        command
            .arg(python())
            .args(["-X", "cds=app.cds", "-X", "cds_stats", "app.py"]);
        Outcome::of(&mut command)
    };
    let limited = run(&["prlimit", "--as=4000000000"]);
    let reason = "address space is limited (ulimit -v, ulimit -d)";
    assert_eq!(
        (&*limited.stdout, refusal(&limited.stderr).as_deref()),
        ("[1]\n", Some(reason))
    );
    if !rustix::process::geteuid().is_root() {
        skip!("the rest needs root");
    }
    fs::set_permissions(project.path(""), fs::Permissions::from_mode(0o755)).unwrap();
    if !is_reachable_by_others() {
        skip!("others cannot reach this directory");
    }
    let other = run(&[
        "setpriv",
        "--reuid=65534",
        "--regid=65534",
        "--clear-groups",
        "env",
    ]);
    assert!(
        other.stdout == "[1]\n" || other.stderr.contains("Permission denied"),
        "{other:?}"
    );
    assert!(!other.stderr.contains("started from"), "{other:?}");
    let read_only = "mount --bind . . && mount -o remount,bind,ro . && cd . && exec \"$@\"";
    let read_only = run(&["unshare", "-m", "sh", "-c", read_only, "sh"]);
    assert_eq!(
        (&*read_only.stdout, refusal(&read_only.stderr)),
        ("[1]\n", None),
        "{read_only:?}"
    );
    let no_proc = "mount -t tmpfs none /proc && exec \"$@\"";
    let no_proc = run(&["unshare", "-m", "sh", "-c", no_proc, "sh"]);
    assert_eq!(
        (&*no_proc.stdout, refusal(&no_proc.stderr)),
        ("[1]\n", None),
        "{no_proc:?}"
    );
}

/// Address space layout randomization puts each process elsewhere. `CDS_RESTORES` asks for more.
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
