//! Images of the imports of a small program.

use std::process::Command;

use crate::{DUMP_IMAGE, Outcome, Project};

/// Imports of many kinds.
pub const IMPORTS: &str = "import argparse, asyncio, decimal, hashlib, importlib, json, locale, logging, multiprocessing, os
import random, re, shlex, signal, ssl, subprocess, sys, tempfile, threading, time, traceback, uuid\n";

/// Everything about a process that a program can see and that does not change from run to run.
pub const SHOW: &str = r#"
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

/// The beginning of the note in the place of an image that could not be taken.
pub const NOTE: &str = "no startup image could be taken; to try again, remove this file\n";

/// A project with a program, and an image of its imports.
pub fn project(program: &str) -> Project {
    let project = Project::new(&[("app.py", program)]);
    take(&project, &["app.py"]).success();
    project
}

/// Traces a run and takes an image of the modules that it imports.
pub fn take(project: &Project, arguments: &[&str]) -> Outcome {
    project.run(arguments);
    let trace = ["-X", "cds_trace=app.lst"].iter().chain(arguments);
    project.run(trace);
    project.run(DUMP_IMAGE)
}

/// Why a process was not restored, according to its statistics; none if it was restored.
pub fn refusal(stderr: &str) -> Option<String> {
    let mut lines = stderr.lines();
    if stderr.contains("cds: started from app.cds.image; since then:") {
        return None;
    }
    let line = lines.find_map(|line| line.strip_prefix("cds: app.cds.image is not used: "));
    Some(line.unwrap_or("there is no reason").to_owned())
}

/// # Panics
/// If a run of the program is not restored.
#[track_caller]
pub fn assert_restored(project: &Project, arguments: &[&str]) {
    let options = ["-X", "cds=app.cds", "-X", "cds_stats"];
    let outcome = project.run(options.iter().chain(arguments));
    assert_eq!(refusal(&outcome.stderr), None, "{outcome:?}");
}

/// Asserts that output, errors and status are the same with and without an image.
///
/// # Panics
/// If they differ.
#[track_caller]
pub fn assert_same(project: &Project, arguments: &[&str], change: impl Fn(&mut Command)) {
    let run = |option: &str| {
        let mut command = project.command(["-X", option]);
        change(command.args(arguments));
        Outcome::of(&mut command)
    };
    assert_eq!(run("cds=app.cds"), run("cds=off"), "{arguments:?}");
}
