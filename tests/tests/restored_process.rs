//! A restored process can use the kernel and the C library as a plain process can, although their state does not come
//! from a start.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use cpython_cds_tests::report::Report;
use cpython_cds_tests::{DUMP_IMAGE, Outcome, Project, clean, compile, python};

const IMPORTS: &str = "import asyncio, concurrent.futures, ctypes, faulthandler, gc, json, multiprocessing, os, random, resource
import signal, socket, ssl, subprocess, sys, tempfile, threading, time, traceback, weakref\n";

/// A program whose imports are in an image.
fn project(program: &str) -> Project {
    let project = Project::new(&[("app.py", &format!("{IMPORTS}{program}"))]);
    let modules = IMPORTS.replace("import ", "").replace(['\n', ','], "\n");
    let list: String = modules
        .split_whitespace()
        .map(|name| format!("{name}\n"))
        .collect();
    project.write("app.lst", &list);
    take(&project, |_| {});
    project
}

fn take(project: &Project, change: impl Fn(&mut Command)) {
    let mut dump = project.command(DUMP_IMAGE);
    change(&mut dump);
    Outcome::of(&mut dump).success();
}

/// Asserts that a program has the same outcome restored and plainly, and returns the outcome.
#[track_caller]
fn same(project: &Project, arguments: &[&str]) -> Outcome {
    let restored = restored(project, arguments);
    let plain = project.run([&["-X", "cds=off"], arguments].concat());
    assert_eq!(restored, plain, "{arguments:?}");
    restored
}

#[track_caller]
fn restored(project: &Project, arguments: &[&str]) -> Outcome {
    // A process that a signal kills leaves no statistics.
    let stats = [
        "-X",
        "cds=app.cds",
        "-X",
        "cds_stats=stats.json",
        "-c",
        "pass",
    ];
    project.run(stats).success();
    let report = Report::read(&project.path("stats.json")).expect("it was written");
    assert_eq!(report.startup_image_refused, None);
    assert!(report.startup_image.is_some(), "there is no image");
    project.run([&["-X", "cds=app.cds"], arguments].concat())
}

/// The memory of the image contains the variables of the frozen process. The restored process must have its own.
#[test]
fn variables_of_a_restored_process_are_those_of_now() {
    let project = project(
        r#"
libc = ctypes.CDLL(None)
libc.getenv.restype = ctypes.c_char_p
def shown(name):
    child = subprocess.run(["sh", "-c", f"echo ${name}"], capture_output=True, text=True).stdout.strip()
    return os.environ.get(name), os.getenv(name), os.environb.get(name.encode()), libc.getenv(name.encode()), child
print(shown("BAKED"), shown("NEW"), "BAKED" in os.environ, "BAKED" in dict(os.environ))
os.environ["BAKED"] = os.environ["ADDED"] = "set"
del os.environ["NEW"]
print(shown("BAKED"), shown("NEW"), shown("ADDED"))
for number in range(1000): os.environ[f"MANY_{number}"] = "x" * 100
print(subprocess.run(["sh", "-c", "env | grep -c ^MANY_"], capture_output=True, text=True).stdout)
"#,
    );
    take(&project, |dump| {
        dump.env("BAKED", "then");
    });
    let run = |archive: &str| {
        let mut command = project.command(["-X", archive, "app.py"]);
        Outcome::of(command.env("NEW", "now"))
    };
    restored(&project, &["-c", "pass"]);
    let outcome = run("cds=app.cds").success();
    assert_eq!(outcome, run("cds=off"));
    let lines: Vec<&str> = outcome.stdout.lines().collect();
    assert_eq!(
        lines[0],
        "(None, None, None, None, '') ('now', 'now', b'now', b'now', 'now') False False"
    );
    assert_eq!(lines[2], "1000");
}

/// The restored dynamic linker can load libraries, with destructors and thread-local storage.
#[test]
fn a_restored_process_loads_libraries() {
    let project = project(
        r#"
import importlib.machinery, sysconfig
directory = sysconfig.get_path("platstdlib") + "/lib-dynload"
suffix = importlib.machinery.EXTENSION_SUFFIXES[0]
loaded = []
for file in sorted(os.listdir(directory)):
    if file.endswith(suffix) and not file.startswith(("_test", "xx", "_xx", "_cds")):
        importlib.import_module(file.removesuffix(suffix))
        loaded.append(file.removesuffix(suffix))
print(len(loaded), loaded)
import bz2, decimal, lzma, sqlite3, xml.etree.ElementTree as tree, zlib
for module in (bz2, lzma, zlib): print(module.decompress(module.compress(b"text" * 1000))[:8])
database = sqlite3.connect(":memory:")
print(database.execute("select upper('a') || sqlite_version()").fetchone() is not None)
database.close()
print(decimal.Decimal(2).sqrt(), tree.fromstring("<a><b c='1'/></a>")[0].attrib)
math = ctypes.CDLL("libm.so.6")
math.cos.restype, math.cos.argtypes = ctypes.c_double, [ctypes.c_double]
print(math.cos(0.0))
# Name services and character sets are libraries that the C library loads.
import pwd
print(pwd.getpwuid(os.getuid()).pw_name, socket.getaddrinfo("localhost", 80, type=socket.SOCK_STREAM))
libc = ctypes.CDLL(None)
libc.iconv_open.restype = ctypes.c_void_p
print(libc.iconv_open(b"UTF-16", b"KOI8-R") not in (None, 2**64 - 1))
print(ssl.create_default_context().verify_mode, len(ssl.create_default_context().get_ciphers()) > 3)
"#,
    );
    let outcome = same(&project, &["app.py"]).success();
    assert!(outcome.stdout.contains("1.0\n"), "{outcome:?}");
}

#[test]
fn a_restored_process_starts_others_in_all_ways() {
    let project = project(
        r#"
def square(number): return number * number, os.getpid() != parent, multiprocessing.current_process().name.split("-")[0]
def talk(connection): connection.send((connection.recv() * 2, os.environ.get("PASSED")))
parent = os.getppid()
if __name__ == "__main__":
    parent = os.getpid()
    os.environ["PASSED"] = "on"
    for method in ("fork", "spawn", "forkserver"):
        context = multiprocessing.get_context(method)
        with context.Pool(2) as pool: print(method, pool.map(square, range(4)))
        here, there = context.Pipe()
        process = context.Process(target=talk, args=(there,))
        process.start()
        here.send("text")
        print(here.recv(), process.join(), process.exitcode)
        with concurrent.futures.ProcessPoolExecutor(2, mp_context=context) as pool: print(sum(pool.map(abs, range(-50, 50))))
    print(subprocess.check_output([sys.executable, "-c", "print(6 * 7)"]))
    print(len(subprocess.run(["cat"], input=b"x" * 1_000_000, capture_output=True).stdout))
    pid = os.posix_spawn("/bin/sh", ["sh", "-c", "exit 7"], os.environ)
    print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
    sys.stdout.flush()
    pid = os.fork()
    if pid == 0: os.execv("/bin/echo", ["echo", "executed"])
    print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
    async def many():
        processes = [await asyncio.create_subprocess_exec("echo", str(n), stdout=-1) for n in range(5)]
        return [(await process.communicate())[0] for process in processes]
    print(asyncio.run(many()))
    # As others see it.
    print(subprocess.check_output(["ps", "-o", "comm=", "-p", str(os.getpid())]), sys.orig_argv[3:],
          subprocess.check_output(["ps", "-o", "args=", "-p", str(os.getpid())]).split()[3:])
"#,
    );
    let outcome = same(&project, &["app.py", "an argument"]).success();
    assert_eq!(
        outcome.stdout.matches("('texttext', 'on') None 0").count(),
        3
    );
    assert!(
        outcome
            .stdout
            .contains("b'42\\n'\n1000000\n7\nexecuted\n0\n"),
        "{outcome:?}"
    );
}

/// The kernel knows the restored addresses of the heap and the stack.
#[test]
fn memory_of_a_restored_process_grows() {
    let project = project(
        r#"
libc = ctypes.CDLL(None)
libc.malloc.restype = libc.sbrk.restype = ctypes.c_void_p
libc.malloc.argtypes = [ctypes.c_size_t]
libc.free.argtypes = [ctypes.c_void_p]
start = libc.sbrk(0)
blocks = [libc.malloc(5000) for _ in range(20_000)]
print(all(blocks), len(set(blocks)), 90_000_000 < libc.sbrk(0) - start < 130_000_000)
for block in blocks: ctypes.memset(block, 1, 5000)
# Of a restored process parts of it are mapped from the image, and named like that.
with open("/proc/self/maps") as maps:
    heap = [line.split()[0].split("-")[1] for line in maps if line.rstrip().endswith("[heap]")]
print(max(int(end, 16) for end in heap) == libc.sbrk(0))
for block in blocks: libc.free(block)
print(len(bytearray(300 << 20)), len([bytes(1000) for _ in range(200_000)]))
# Through C, and back.
callback = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_int)
depth = []
@callback
def recurse(number):
    depth.append(number)
    return recurse(number - 1) + 1 if number else 0
sys.setrecursionlimit(100_000)
print(recurse(100), len(depth))
print(resource.getrlimit(resource.RLIMIT_STACK), resource.getrlimit(resource.RLIMIT_DATA))
import mmap
with mmap.mmap(-1, 1 << 20) as shared:
    if os.fork() == 0:
        shared[:5] = b"child"
        os._exit(0)
    os.wait()
    print(shared[:5])
"#,
    );
    let outcome = same(&project, &["app.py"]).success();
    assert!(
        outcome.stdout.starts_with("True 20000 True\nTrue\n")
            && outcome.stdout.contains("100 101\n"),
        "{outcome:?}"
    );
}

/// The vdso, which tells the time, was moved together with its data.
#[test]
fn clocks_of_a_restored_process_go_on() {
    let project = project(
        r#"
def read(path):
    with open(path) as file: return file.read()
uptime = float(read("/proc/uptime").split()[0])
print(abs(time.clock_gettime(time.CLOCK_BOOTTIME) - uptime) < 5, 0 < time.monotonic() <= uptime + 5)
print(abs(time.time() - float(subprocess.check_output(["date", "+%s.%N"]))) < 5, abs(time.time_ns() / 1e9 - time.time()) < 5)
print(0 <= time.process_time() < 60, 0 <= time.thread_time() < 60)
for clock in (time.monotonic_ns, time.perf_counter_ns, time.time_ns):
    before = clock(); time.sleep(0.02); after = clock()
    print(clock.__name__, 0.02 <= (after - before) / 1e9 + 0.001 < 60)
before = time.process_time()
while time.process_time() == before: pass
started = int(read("/proc/self/stat").rpartition(")")[2].split()[19]) / os.sysconf("SC_CLK_TCK")
print(0 <= uptime - started < 60, len({time.get_clock_info(name).implementation for name in ("time", "monotonic")}))
"#,
    );
    let outcome = same(&project, &["app.py"]).success();
    assert!(!outcome.stdout.contains("False"), "{outcome:?}");
}

/// The kernel knows the thread id, the list of robust locks and the restartable sequences.
#[test]
fn a_restored_process_has_threads() {
    let project = project(
        r#"
main = threading.main_thread()
print(main.native_id == os.getpid() == threading.get_native_id(), main is threading.current_thread(), threading.active_count())
results = []
threads = [threading.Thread(target=lambda n=n: (time.sleep(0.01), results.append(n))) for n in range(20)]
for thread in threads: thread.start()
for thread in threads: thread.join()
print(sorted(results) == list(range(20)), {thread.native_id for thread in threads}.isdisjoint({os.getpid()}))
with concurrent.futures.ThreadPoolExecutor(4) as pool: print(sum(pool.map(lambda n: n * n, range(100))))
class Exiting(threading.Thread):
    def run(self): sys.exit(3)
exiting = Exiting(); exiting.start(); exiting.join()
local = threading.local(); local.value = "main"
seen = []
other = threading.Thread(target=lambda: seen.append(getattr(local, "value", None))); other.start(); other.join()
print(seen, local.value)
condition, order = threading.Condition(), []
def wait():
    with condition: order.append(condition.wait_for(lambda: "go" in order, 10))
waiting = threading.Thread(target=wait); waiting.start()
with condition: order.append("go"); condition.notify()
waiting.join()
print(order, threading.Lock().acquire(timeout=0.01), threading.Event().wait(0.01))
libc = ctypes.CDLL(None)
print({libc.sched_getcpu() for _ in range(1000)} <= os.sched_getaffinity(0))
# A robust lock of a thread that ends is the next one's (pthread_mutex_lock(3)).
lock, kind = ctypes.create_string_buffer(64), ctypes.create_string_buffer(16)
libc.pthread_mutexattr_init(kind); libc.pthread_mutexattr_setrobust(kind, 1); libc.pthread_mutex_init(lock, kind)
holder = threading.Thread(target=lambda: libc.pthread_mutex_lock(lock)); holder.start(); holder.join()
import errno
print(errno.errorcode[libc.pthread_mutex_lock(lock)])
signal.pthread_kill(threading.get_ident(), 0)
signal.signal(signal.SIGUSR1, lambda *_: print("signal"))
sender = threading.Thread(target=lambda: signal.pthread_kill(main.ident, signal.SIGUSR1)); sender.start(); sender.join()
time.sleep(0.05)
"#,
    );
    let outcome = same(&project, &["app.py"]).success();
    assert!(
        outcome.stdout.ends_with("True\nEOWNERDEAD\nsignal\n"),
        "{outcome:?}"
    );
}

/// The output of a restored process that crashes.
#[test]
fn a_restored_process_tells_of_its_crash() {
    let project = project(
        r#"
if not faulthandler.is_enabled(): faulthandler.enable()
def inner(what):
    if what == "read": ctypes.string_at(0)
    if what == "abort": os.abort()
    if what == "raise": signal.raise_signal(signal.SIGFPE)
    if what == "later":
        faulthandler.dump_traceback_later(0.05, exit=True)
        time.sleep(60)
    if what == "overflow":
        deep = ctypes.CDLL("./deep.so").deep
        # Most of the stack that there may be, and then more: the handler has one of its own.
        print(deep(1700), flush=True)
        deep(10_000_000)
inner(sys.argv[1])
"#,
    );
    let directory = tempfile::tempdir().expect("a temporary directory can be made");
    let deep = "int deep(int n) { volatile char page[4096]; page[n % 4096] = 1; return n ? deep(n - 1) + page[n % 4096] : 0; }";
    let library = compile(&directory, "deep", deep, &["-shared", "-fPIC", "-O0"]);
    fs::copy(library, project.path("deep.so")).expect("it can be copied");
    let crashes = [
        ("read", "Segmentation fault", -11),
        ("abort", "Aborted", -6),
        ("raise", "Floating-point exception", -8),
        ("later", "Timeout (", 1),
        ("overflow", "Segmentation fault", -11),
    ];
    // If the interpreter or an import has enabled faulthandler, the image contains its alternate stack.
    for enabled in ["", "1"] {
        let enable = |command: &mut Command| {
            command.env("PYTHONFAULTHANDLER", enabled);
        };
        take(&project, enable);
        let run = |arguments: &[&str]| {
            let mut command = project.command(arguments);
            enable(&mut command);
            Outcome::of(&mut command)
        };
        let outcome = run(&["-X", "cds=app.cds", "-X", "cds_stats", "-c", "pass"]);
        assert!(outcome.stderr.contains("started from"), "{outcome:?}");
        for (what, said, status) in crashes {
            let [restored, plain] = ["cds=app.cds", "cds=off"].map(|archive| {
                let outcome = run(&["-X", archive, "app.py", what]);
                let is_deep = outcome.stdout == "1700\n";
                assert_eq!(is_deep, what == "overflow", "{outcome:?}");
                (without_addresses(&outcome.stderr), outcome.status)
            });
            assert_eq!(restored, plain, "{what}");
            assert!(restored.0.contains(said), "{restored:?}");
            assert!(restored.0.contains("in inner"), "{restored:?}");
            assert_eq!(restored.1, status, "{what}");
        }
    }
}

/// The text without the addresses of threads, which differ in each run.
fn without_addresses(text: &str) -> String {
    let lines = text.lines().map(|line| {
        line.split_whitespace()
            .filter(|word| !word.starts_with("0x") && !word.starts_with("(0x"))
            .collect::<Vec<_>>()
            .join(" ")
    });
    lines.collect::<Vec<_>>().join("\n")
}

/// Exceptions, the garbage collector and a debugger see the frames and objects of the program only.
#[test]
fn frames_and_garbage_of_a_restored_process_are_its_own() {
    let project = project(
        r#"
print(sys._getframe().f_back, len(traceback.extract_stack()), gc.isenabled(), gc.get_threshold(), gc.garbage)
class Node: pass
deleted = []
node = Node(); node.self = node; weakref.finalize(node, deleted.append, "cycle")
del node
print(gc.collect() >= 1, deleted)
nodes = [Node() for _ in range(10_000)]
for a, b in zip(nodes, nodes[1:]): a.next, b.previous = b, a
reference = weakref.ref(nodes[0]); del nodes, a, b
gc.collect()
print(reference())
try: json.loads("{")
except ValueError: print(traceback.format_exc().count("\n") > 5, traceback.format_exc().splitlines()[-1])
events = []
sys.settrace(lambda frame, event, argument: events.append((frame.f_code.co_name, event)))
json.dumps({"a": 1})
sys.settrace(None)
print(events[:3])
sys.setprofile(lambda frame, event, argument: None); sys.setprofile(None)
print(sys.gettrace(), sys.getprofile(), sys.getswitchinterval(), sys.getrecursionlimit(), sys.flags)
import tracemalloc
tracemalloc.start(); kept = [bytes(100) for _ in range(1000)]
print(tracemalloc.get_traced_memory()[0] > 100_000)
"#,
    );
    let outcome = same(&project, &["app.py"]).success();
    assert!(outcome.stdout.starts_with("None 1 True "), "{outcome:?}");
    assert!(
        outcome.stdout.contains("True ['cycle']\nNone\n"),
        "{outcome:?}"
    );
    let code = "import sys\ndef f(): raise KeyError(sys.argv)\nf()";
    let outcome = same(&project, &["-c", code, "x"]);
    assert!(
        outcome.stderr.contains("def f(): raise") && outcome.stderr.contains("^^^"),
        "{outcome:?}"
    );
}

/// New sockets work, and so does waiting for them.
#[test]
fn a_restored_process_talks_to_itself() {
    let project = project(
        r#"
here, there = socket.socketpair()
with here, there:
    here.send(b"q")
    print(there.recv(1))
async def serve(reader, writer):
    writer.write((await reader.readline()).upper())
    await writer.drain()
    writer.close()
async def talk():
    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async def ask(n):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"line %d\n" % n)
        answer = await reader.read()
        writer.close()
        await writer.wait_closed()
        return answer
    answers = await asyncio.gather(*map(ask, range(10)), asyncio.to_thread(socket.gethostbyname, "localhost"))
    server.close()
    return answers
print(asyncio.run(talk()))
with tempfile.NamedTemporaryFile() as file:
    file.write(b"x"); file.flush()
    print(os.path.getsize(file.name), file.fileno() > 2)
print(sorted(map(int, os.listdir("/proc/self/fd")))[:3])
"#,
    );
    let outcome = same(&project, &["app.py"]).success();
    assert!(
        outcome.stdout.contains("b'LINE 9\\n', '127.0.0.1'"),
        "{outcome:?}"
    );
}

/// Hashes are the same in all processes of an image, and differ between images, as documented. Random numbers of the C
/// library differ in each process.
#[test]
fn secrets_of_a_restored_process_are_as_documented() {
    let project = project("");
    let values = |code: &str| -> BTreeSet<String> {
        let run = |_| restored(&project, &["-c", code]).success().stdout;
        (0..4).map(run).collect()
    };
    let hash = "print(hash('text'), hash(b'text'))";
    let hashes = values(hash);
    assert_eq!(hashes.len(), 1, "{hashes:?}");
    take(&project, |_| {});
    let others = values(hash);
    assert!(others.is_disjoint(&hashes), "{hashes:?} {others:?}");
    let drawn = "import ctypes, os, secrets; print(getattr(ctypes.CDLL(None), 'arc4random', lambda: os.urandom(4))(), secrets.token_hex(4))";
    assert_eq!(values(drawn).len(), 4);
    // An image that was taken with a hash seed is used by processes with the same seed.
    take(&project, |dump| {
        dump.env("PYTHONHASHSEED", "7");
    });
    let seeded = |archive: &str| {
        let stats = ["-X", "cds_stats=stats.json", "-X", archive, "-c", hash];
        Outcome::of(project.command(stats).env("PYTHONHASHSEED", "7")).success()
    };
    assert_eq!(seeded("cds=off"), seeded("cds=app.cds"));
    let report = Report::read(&project.path("stats.json")).expect("it was written");
    assert!(report.startup_image.is_some(), "{report:?}");
}

/// An image contains the memory of a process, so no other user may read it, whatever the umask is.
#[test]
fn what_is_restored_is_ones_own() {
    let project = project("");
    fs::remove_file(project.path("app.cds.image")).expect("there is one");
    let dump = format!(
        "umask 0; exec {} -m cds dump -q --image app.lst app.cds",
        python().display()
    );
    let mut shell = Command::new("sh");
    clean(&mut shell);
    Outcome::of(shell.current_dir(project.path("")).args(["-c", &dump])).success();
    let mode = |name: &str| {
        let status = fs::metadata(project.path(name)).expect("it was written");
        status.permissions().mode() & 0o777
    };
    assert_eq!(mode("app.cds.image"), 0o600);
    restored(&project, &["-c", "pass"]);
}
