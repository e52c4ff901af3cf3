//! State that imports leave in a process and that an image cannot contain: threads of native code, kernel state, hooks,
//! files. No image is taken then, and a message names the state. With all other state, programs have the same outcome
//! with an image as without.

use std::fs;
use std::process::Command;

use cpython_cds_tests::report::Report;
use cpython_cds_tests::skips::skipped;
use cpython_cds_tests::{DUMP_IMAGE, Outcome, Project, compile, python};

/// A program that imports the module `kept`, and an image of this module.
struct Story {
    project: Project,
    options: Vec<String>,
    variables: Vec<(String, String)>,
}

impl Story {
    fn new(kept: &str, program: &str) -> Self {
        let project = Project::new(&[
            ("lib/kept.py", kept),
            ("app.py", program),
            ("app.lst", "kept\n"),
        ]);
        let library = project.path("lib").display().to_string();
        Self {
            variables: vec![("PYTHONPATH".to_owned(), library)],
            options: Vec::new(),
            project,
        }
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = self.project.command(&self.options);
        command
            .args(arguments)
            .envs(self.variables.iter().map(|(name, value)| (name, value)));
        command
    }

    fn take(&self) -> Outcome {
        Outcome::of(&mut self.command(&DUMP_IMAGE))
    }

    /// Why there is no image.
    #[track_caller]
    fn refusal(&self) -> String {
        let outcome = self.take();
        assert_eq!((outcome.status, &*outcome.stdout), (1, ""), "{outcome:?}");
        let note = fs::read_to_string(self.project.path("app.cds.image"));
        let note = note.expect("there is a note in its place");
        assert!(note.starts_with("no startup image could be taken"));
        let lines = outcome.stderr.lines();
        let mut reasons = lines.filter_map(|line| line.split_once("no startup image: "));
        let reason = reasons.next().map(|(_, reason)| reason.to_owned());
        reason.unwrap_or_else(|| panic!("there is no reason: {outcome:?}"))
    }

    /// Takes an image, and runs the program with and without it.
    #[track_caller]
    fn same(&self) -> Outcome {
        self.take().success();
        self.same_as_plain()
    }

    #[track_caller]
    fn same_as_plain(&self) -> Outcome {
        let stats = ["-X", "cds=app.cds", "-X", "cds_stats=stats.json", "app.py"];
        let restored = Outcome::of(&mut self.command(&stats));
        let report = Report::read(&self.project.path("stats.json")).expect("it was written");
        assert_eq!(report.startup_image_refused, None, "{restored:?}");
        assert!(report.startup_image.is_some(), "{restored:?}");
        let plain = Outcome::of(&mut self.command(&["-X", "cds=off", "app.py"]));
        assert_eq!(restored, plain);
        restored
    }
}

/// A library with a thread that adds 1 to a number. `HANDLERS` are its handlers for forks (pthread_atfork(3)).
const TOILER: &str = r#"
#include <pthread.h>
static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t changed = PTHREAD_COND_INITIALIZER;
static pthread_t thread;
static int is_running, is_to_end, given, result;

static void *toil(void *unused) {
    pthread_mutex_lock(&mutex);
    while (!is_to_end) {
        if (given) {
            result = given + 1;
            given = 0;
            pthread_cond_broadcast(&changed);
        }
        else {
            pthread_cond_wait(&changed, &mutex);
        }
    }
    pthread_mutex_unlock(&mutex);
    return unused;
}

static void begin(void) {
    if (!is_running) {
        is_running = 1;
        is_to_end = 0;
        pthread_create(&thread, 0, toil, 0);
        pthread_setname_np(thread, "toiler");
    }
}

__attribute__((unused)) static void stop(void) {
    if (is_running) {
        pthread_mutex_lock(&mutex);
        is_to_end = 1;
        pthread_cond_broadcast(&changed);
        pthread_mutex_unlock(&mutex);
        pthread_join(thread, 0);
        is_running = 0;
    }
}

int add_one(int number) {
    begin();
    pthread_mutex_lock(&mutex);
    given = number;
    pthread_cond_broadcast(&changed);
    while (given) {
        pthread_cond_wait(&changed, &mutex);
    }
    pthread_mutex_unlock(&mutex);
    return result;
}

__attribute__((constructor)) static void load(void) {
    begin();
    pthread_atfork(HANDLERS);
}
"#;

fn toiler(handlers: &str) -> (tempfile::TempDir, Story) {
    let directory = tempfile::tempdir().unwrap();
    let handlers = format!("-DHANDLERS={handlers}");
    let options = ["-shared", "-fPIC", "-pthread", &handlers];
    let library = compile(&directory, "toiler", TOILER, &options);
    let kept = format!(
        "import ctypes\nlibrary = ctypes.CDLL({:?})\nassert library.add_one(1) == 2\n",
        library.display().to_string()
    );
    let program = "import kept, os, warnings\nwarnings.simplefilter('ignore')\nprint(kept.library.add_one(41), flush=True)
if os.fork() == 0: print(kept.library.add_one(42), flush=True); os._exit(0)
os.wait()\nprint(kept.library.add_one(43))\n";
    (directory, Story::new(&kept, program))
}

/// Python does not know these threads, and a restored process that waits for one would never continue.
#[test]
fn threads_of_native_code_are_named_with_their_library() {
    let (directory, story) = toiler("0,0,0");
    let library = directory.path().join("toiler.so");
    let thread = format!("a thread of {} (toiler)", library.display());
    assert_eq!(
        story.refusal(),
        format!("imports have left what cannot be restored: {thread}")
    );
    // A handler starts a thread in the process that becomes the image.
    let (directory, story) = toiler("stop,begin,begin");
    let library = directory.path().join("toiler.so");
    let refusal = story.refusal();
    let expected = format!(
        "the process was forked, and handlers of pthread_atfork() have started a thread of {} (",
        library.display()
    );
    assert!(refusal.contains(&expected), "{refusal}");
}

/// OpenBLAS does this.
#[test]
fn threads_that_a_library_stops_when_the_process_forks_are_no_obstacle() {
    for handlers in ["stop,0,0", "stop,begin,0"] {
        let (_directory, story) = toiler(handlers);
        let outcome = story.same().success();
        assert_eq!(outcome.stdout, "42\n43\n44\n", "{handlers}");
    }
}

/// Taking an image waits a moment for a thread that is about to end.
#[test]
fn a_thread_that_is_about_to_end_is_no_obstacle() {
    let directory = tempfile::tempdir().unwrap();
    let source = "#include <pthread.h>\n#include <unistd.h>
static void *nap(void *unused) { usleep(50000); return unused; }
__attribute__((constructor)) static void load(void) { pthread_t thread; pthread_create(&thread, 0, nap, 0); pthread_detach(thread); }\n";
    let library = compile(
        &directory,
        "napper",
        source,
        &["-shared", "-fPIC", "-pthread"],
    );
    let path = library.display().to_string();
    let kept = format!("import ctypes\nctypes.CDLL({path:?})\n");
    Story::new(&kept, "import kept; print('done')\n")
        .same()
        .success();
}

/// Packages that work without their threads in a forked process also do so in a restored one. Packages that are not
/// installed are skipped.
#[test]
fn libraries_that_survive_a_fork() {
    for (package, kept) in [
        (
            "numpy",
            "import numpy
def work(): return float((numpy.arange(250_000.).reshape(500, 500) @ numpy.ones((500, 500))).sum())\n",
        ),
        (
            "pyarrow",
            "import pyarrow, pyarrow.compute
table = pyarrow.table({'k': [i % 7 for i in range(100_000)], 'v': range(100_000)})
def work(): return sorted(table.group_by('k', use_threads=True).aggregate([('v', 'sum')])['v_sum'].to_pylist())\n",
        ),
    ] {
        let story = Story::new(
            &format!("{kept}work()\n"),
            "import kept\nprint(kept.work())\nprint(kept.work())\n",
        );
        let probe = Outcome::of(&mut story.command(&["-c", &format!("import {package}")]));
        if probe.status == 0 {
            story.same().success();
        } else {
            skipped(format_args!("{package} is not installed for {}", python().display()));
        }
    }
}

/// State that the kernel keeps for a process and that imports have changed.
#[test]
fn what_the_kernel_keeps_is_compared() {
    const CALLS: &str = "import ctypes, os
libc = ctypes.CDLL(None, use_errno=True)
def must(result):
    if result < 0: raise SystemExit('not here')
";
    for (call, name) in [
        (
            "libc.prctl(4, 0, 0, 0, 0)",
            "whether other processes may read its memory (PR_SET_DUMPABLE)",
        ),
        (
            "libc.prctl(1, 15, 0, 0, 0)",
            "the signal at the end of its parent (PR_SET_PDEATHSIG)",
        ),
        (
            "libc.prctl(36, 1, 0, 0, 0)",
            "whether orphans become its children (PR_SET_CHILD_SUBREAPER)",
        ),
        (
            "libc.prctl(29, 77_000, 0, 0, 0)",
            "the timer slack (PR_SET_TIMERSLACK)",
        ),
        (
            "libc.prctl(41, 1, 0, 0, 0)",
            "whether it may use huge pages (PR_SET_THP_DISABLE)",
        ),
        (
            "libc.prctl(8, 1, 0, 0, 0)",
            "secure bits (PR_SET_SECUREBITS)",
        ),
        (
            "libc.prctl(38, 1, 0, 0, 0)",
            "whether it may gain privileges (PR_SET_NO_NEW_PRIVS)",
        ),
        (
            "libc.prctl(26, 2, 0, 0, 0)",
            "whether it may read the time stamp counter (PR_SET_TSC)",
        ),
        (
            "os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0)) or 0",
            "the scheduling policy",
        ),
        (
            // With only one processor, nothing changes.
            "os.sched_setaffinity(0, {max(os.sched_getaffinity(0))}) or os.cpu_count() - 2",
            "the processors that may be used",
        ),
        ("libc.syscall(251, 1, 0, (2 << 13) | 7)", "the I/O priority"),
        ("libc.personality(0x40000)", "the personality"),
        (
            "os.write(os.open('/proc/self/coredump_filter', os.O_WRONLY), b'0x1')",
            "coredump_filter",
        ),
        (
            "os.write(os.open('/proc/self/oom_score_adj', os.O_WRONLY), b'500')",
            "oom_score_adj",
        ),
        (
            "libc.timer_create(1, None, ctypes.byref(ctypes.c_void_p()))",
            "timers (timer_create)",
        ),
        ("os.setsid() or 0", "the session"),
        (
            "libc.syscall(238, 3, ctypes.byref(ctypes.c_ulong(1)), 64)",
            "the memory policy (set_mempolicy)",
        ),
    ] {
        // Close file descriptors of /proc, which would be refused, too.
        let kept = format!("{CALLS}must({call})\nos.closerange(3, 9)\n");
        let story = Story::new(&kept, "");
        let probe = Outcome::of(&mut story.command(&["-c", "import kept"]));
        if probe.status != 0 {
            skipped(format_args!("{name}: {}", probe.stderr));
            continue;
        }
        assert_eq!(
            story.refusal(),
            format!("imports have changed attributes of the process that no image keeps: {name}")
        );
    }
}

/// State from before the imports is inherited, also by restored processes.
#[test]
fn what_a_process_inherits_is_no_change() {
    let program = "import kept\nprint(kept.json.dumps(open('/proc/self/oom_score_adj').read()))\n";
    let story = Story::new("import json\n", program);
    let take = "echo 300 > /proc/self/oom_score_adj; exec nice -n 3 \"$0\" -m cds dump -q --image app.lst app.cds";
    let mut shell = Command::new("sh");
    cpython_cds_tests::clean(&mut shell);
    shell
        .current_dir(story.project.path(""))
        .envs(story.variables.iter().map(|(name, value)| (name, value)))
        .args(["-c", take])
        .arg(python());
    Outcome::of(&mut shell).success();
    story.same_as_plain().success();
}

/// Properties of memory that the process has set in the kernel.
#[test]
fn what_the_kernel_is_told_of_memory_is_named() {
    const KEY: &str = "import ctypes, mmap
libc = ctypes.CDLL(None)
key = mmap.mmap(-1, 8192, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
key[:] = b'k' * 8192
address = ctypes.c_void_p(ctypes.addressof(ctypes.c_char.from_buffer(key)))
";
    for (call, meaning) in [
        ("libc.mlock(address, 8192)", "locked (mlock)"),
        (
            "key.madvise(18)",
            "zeroed when the process forks (MADV_WIPEONFORK)",
        ),
        (
            "key.madvise(10)",
            "not inherited by forked processes (MADV_DONTFORK)",
        ),
        ("libc.mlockall(2)", "locked (mlock)"),
    ] {
        let story = Story::new(&format!("{KEY}assert not {call}\n"), "");
        let probe = Outcome::of(&mut story.command(&["-c", "import kept"]));
        if probe.status != 0 {
            skipped(format_args!("{meaning}: {}", probe.stderr));
            continue;
        }
        let refusal = story.refusal();
        let expected =
            format!("imports have left what cannot be restored: memory that is {meaning}: ");
        assert!(refusal.starts_with(&expected), "{refusal}");
    }
    // Advice that is repeated, or that only concerns the order of access.
    let advised = format!("{KEY}for advice in (2, 12, 14, 16): key.madvise(advice)\n");
    const SHOW: &str = "import kept
print(kept.key[:3], kept.key[-1])
for line in open('/proc/self/smaps'):
    if '-' in line.split()[0]:
        start, end = (int(n, 16) for n in line.split()[0].split('-'))
        inside = start <= kept.address.value < end
    elif inside and line.startswith('VmFlags'):
        print({'dd', 'mg', 'hg'}.issubset(line.split()))
";
    let story = Story::new(&advised, SHOW);
    story.same().success();
}

/// The program imports the module itself when that is possible. What the module does before it fails, happens only
/// once.
#[test]
fn an_import_that_fails_leaves_nothing() {
    for (kept, failure) in [
        (
            "import atexit, conf\natexit.register(print, 'bye')\nconf.names.append('kept')\nconf.settings\n",
            "AttributeError: module 'conf' has no attribute 'settings'",
        ),
        (
            "import sys, conf\nconf.names.append('kept')\nif not hasattr(conf, 'settings'): sys.exit('not configured')\n",
            "SystemExit: not configured",
        ),
    ] {
        let program = "import conf\nconf.settings = 1\nimport kept\nprint(conf.names)\n";
        let story = Story::new(kept, program);
        story.project.write("lib/conf.py", "names = []\n");
        story.project.write("app.lst", "conf\nkept\njson\n");
        let mut dump = story.command(&["-m", "cds", "dump", "-v", "--image", "app.lst", "app.cds"]);
        let dumped = Outcome::of(&mut dump).success();
        let told = format!("cds: not in the startup image: kept ({failure})\n");
        assert!(dumped.stderr.starts_with(&told), "{dumped:?}");
        // Other modules of the list are in the image.
        let mut probe = story.command(&["-X", "cds=app.cds", "-c"]);
        probe.arg("import sys; print('json' in sys.modules, 'conf' in sys.modules, 'kept' in sys.modules)");
        assert_eq!(Outcome::of(&mut probe).stdout, "True True False\n");
        let outcome = story.same().success();
        assert!(outcome.stdout.starts_with("['kept']\n"), "{outcome:?}");
    }
}

/// Modules may fail only because others have failed before. The attempts end after a few times.
#[test]
fn imports_that_fail_again_and_again_are_named() {
    let story = Story::new("", "");
    let mut list = String::new();
    for number in 0..9 {
        // One more module fails in each attempt.
        let text = format!(
            "import pathlib\ncount = pathlib.Path({:?})\nif count.stat().st_size == {number}:\n count.write_text('x' * {})\n raise ValueError\n",
            story.project.path("count").display().to_string(),
            number + 1
        );
        story.project.write(&format!("lib/m{number}.py"), &text);
        list = format!("m{number}\n{list}");
    }
    story.project.write("count", "");
    story.project.write("app.lst", &list);
    assert_eq!(
        story.refusal(),
        "imports fail each time: m4; leave them out of the LIST"
    );
}

/// The dump does not report an image.
#[test]
fn imports_that_end_the_process_are_told() {
    for (kept, reason) in [
        (
            "import os\nos._exit(0)\n",
            "imports ended the process before the image was taken",
        ),
        (
            "import os\nos.kill(os.getpid(), 9)\n",
            "imports: killed by signal 9",
        ),
    ] {
        assert_eq!(Story::new(kept, "").refusal(), reason);
    }
}

/// The code that watches imports needs frames, too, so imports get a RecursionError earlier than in a plain start.
#[test]
fn imports_that_exceed_the_limit_of_recursion_are_not_frozen() {
    let kept = "def deeper(): deeper()\ntry: deeper()\nexcept RecursionError: pass\n";
    assert_eq!(
        Story::new(kept, "").refusal(),
        "imports have exceeded the recursion limit, which is reached earlier while an image is taken"
    );
}

/// Tools that watch a start must see everything that a plain start does, so no image is taken or used with them.
#[test]
fn a_process_that_is_watched_is_not_frozen() {
    let left = |what| {
        format!("imports have left what cannot be restored: {what}, since kept was imported")
    };
    for (kept, what) in [
        ("import tracemalloc\ntracemalloc.start()\n", "tracemalloc"),
        (
            "import sys\nsys.settrace(lambda *_: None)\n",
            "a trace function (sys.settrace)",
        ),
        (
            "import sys\nsys.setprofile(lambda *_: None)\n",
            "a profile function (sys.setprofile)",
        ),
        (
            "import sys\nsys.monitoring.use_tool_id(2, 'watcher')\n",
            "a tool of sys.monitoring (watcher)",
        ),
        (
            "import sys\nsys.addaudithook(lambda *_: None)\n",
            "an audit hook",
        ),
        (
            "import ctypes\nhook = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_char_p, ctypes.py_object, ctypes.c_void_p)(lambda *_: 0)\nctypes.pythonapi.PySys_AddAuditHook(hook, None)\n",
            "an audit hook",
        ),
    ] {
        assert_eq!(Story::new(kept, "").refusal(), left(what));
    }
    let story = Story::new(
        "import faulthandler\nfaulthandler.dump_traceback_later(60)\n",
        "",
    );
    let refusal = story.refusal();
    assert!(refusal.contains(": a thread of /"), "{refusal}");
    for (name, value, reason) in [
        (
            "PYTHONTRACEMALLOC",
            "1",
            "tracemalloc is on (-X tracemalloc, PYTHONTRACEMALLOC)",
        ),
        (
            "PYTHONPROFILEIMPORTTIME",
            "1",
            "the times of imports are printed (-X importtime, PYTHONPROFILEIMPORTTIME)",
        ),
        (
            "PYTHONVERBOSE",
            "1",
            "imports are printed (-v, PYTHONVERBOSE)",
        ),
    ] {
        let mut story = Story::new("", "");
        story.variables.push((name.to_owned(), value.to_owned()));
        assert_eq!(story.refusal(), reason);
    }
    let story = Story::new("", "");
    let hook = "import sys\nsys.addaudithook(lambda *_: None)\n";
    story.project.write("lib/sitecustomize.py", hook);
    assert_eq!(
        story.refusal(),
        "the interpreter has an audit hook (of sitecustomize or a .pth file)"
    );
    for option in ["-Xtracemalloc", "-Ximporttime", "-v"] {
        let mut story = Story::new("import json\n", "import kept\n");
        story.take().success();
        // Also if there is an image.
        let options = [option, "-X", "cds=app.cds", "-X", "cds_stats=stats.json"];
        Outcome::of(story.command(&options).arg("app.py")).success();
        let report = Report::read(&story.project.path("stats.json")).unwrap();
        assert_eq!(report.startup_image, None, "{option}");
        fs::remove_file(story.project.path("app.cds.image")).unwrap();
        story.options.push(option.to_owned());
        assert_eq!(
            story.refusal(),
            "the options of this process allow no image; leave out options such as -v, -i or -X importtime"
        );
    }
}

/// An image is taken of a forked process, but the program does not notice this fork. Its handlers are called when it
/// forks itself.
#[test]
fn handlers_of_forks_are_not_called_when_an_image_is_taken() {
    let kept = "import concurrent.futures.thread, logging, os, random, threading
events = []
for name in ('before', 'after_in_parent', 'after_in_child'):
    for number in (1, 2):
        os.register_at_fork(**{name: lambda name=name, number=number: events.append((name, number))})
";
    let program = "import kept, os, sys
print(kept.events)
os.register_at_fork(after_in_child=lambda: kept.events.append('of the program'))
if os.fork() == 0:
    print(kept.events, kept.random.random() == 0, flush=True)
    kept.logging.warning('told by the child')
    os._exit(0)
os.wait()
print(kept.events)
";
    let outcome = Story::new(kept, program).same().success();
    assert!(
        outcome
            .stdout
            .starts_with("[]\n[('before', 2), ('before', 1), ('after_in_child', 1)")
    );
    // Handlers that would do harm are not called.
    for harm in [
        "threading.Thread(target=time.sleep, args=(60,), daemon=True).start()",
        "os.kill(os.getpid(), 9)",
        "os._exit(3)",
    ] {
        let kept = format!(
            "import os, threading, time\nos.register_at_fork(after_in_child=lambda: {harm})\n"
        );
        let program = "import kept, threading\nprint(threading.active_count())\n";
        Story::new(&kept, program).same().success();
    }
}

/// A plain start makes another temporary directory each time.
#[test]
fn files_and_directories_that_are_made_each_time_are_named() {
    const MAKE: [&str; 5] = [
        "import tempfile\nmade = tempfile.TemporaryDirectory(dir=place); path = made.name\n",
        "import tempfile\nmade, path = tempfile.mkstemp(dir=place)\nos.close(made)\n",
        "import ctypes\npath = f'{place}/{os.getpid()}'\nctypes.CDLL(None).mkdir(path.encode(), 0o700)\n",
        "path = f'{place}/{os.getpid()}'\nos.symlink('/', path)\n",
        "path = f'{place}/{os.getpid()}'\nopen('/tmp/' + str(os.getpid()) + '.cds', 'w').close()\nos.rename('/tmp/' + str(os.getpid()) + '.cds', path)\n",
    ];
    for make in MAKE {
        let story = Story::new("", "import kept, os\nprint(os.path.lexists(kept.path))\n");
        fs::create_dir(story.project.path("place")).unwrap();
        let place = story.project.path("place").display().to_string();
        let kept = format!("import os\nplace = {place:?}\n{make}");
        story.project.write("lib/kept.py", &kept);
        let refusal = story.refusal();
        let expected = format!("imports make files or directories each time: {place}/");
        assert!(refusal.starts_with(&expected), "{make}: {refusal}");
    }
}

/// A file that one process makes and others find, such as a cache, is allowed. So are files that are removed again, and
/// compiled code.
#[test]
fn files_that_are_made_once_are_found_again() {
    let kept = "import os, tempfile
here = os.path.dirname(__file__)
os.makedirs(here + '/cache/deep', exist_ok=True)
path = here + '/cache/deep/table'
if not os.path.exists(path):
    with open(path, 'w') as file: file.write('made once')
with open(path) as file: text = file.read()
with tempfile.TemporaryDirectory(): pass
import other
";
    let story = Story::new(kept, "import kept\nprint(kept.text)\n");
    story.project.write("lib/other.py", "");
    let outcome = story.same().success();
    assert_eq!(outcome.stdout, "made once\n");
}

/// The callbacks do not see the garbage collections that happen when the image is taken.
#[test]
fn callbacks_of_the_garbage_collector_are_not_called_meanwhile() {
    let kept =
        "import gc\nphases = []\ngc.callbacks.append(lambda phase, info: phases.append(phase))\n";
    let program = "import kept, gc\nprint(kept.phases)\ngc.collect()\nprint(kept.phases)\n";
    Story::new(kept, program).same().success();
}

/// State of the C library and of the processor is restored with the memory and the registers.
#[test]
fn what_the_c_library_keeps_is_restored() {
    let kept = "import ctypes, faulthandler, locale, signal
libm, libc = ctypes.CDLL('libm.so.6'), ctypes.CDLL(None)
locale.setlocale(locale.LC_ALL, 'C.UTF-8')
libm.fesetround(0x800)
libm.feenableexcept(4)
signal.signal(signal.SIGUSR1, lambda *_: print('received'))
signal.siginterrupt(signal.SIGUSR2, True)
faulthandler.enable()
def stack():
    told = (ctypes.c_void_p * 3)()
    libc.sigaltstack(None, told)
    return bool(told[0]), told[1], told[2]
";
    let program = "import kept, locale, os, signal, threading
libm = kept.libm
print(locale.setlocale(locale.LC_ALL), libm.fegetround(), libm.fegetexcept(), kept.stack())
libm.rint.restype = kept.ctypes.c_double; libm.rint.argtypes = [kept.ctypes.c_double]
print(libm.rint(0.25), libm.rint(-0.25), libm.rint(0.75))
os.kill(os.getpid(), signal.SIGUSR1)
seen = []
thread = threading.Thread(target=lambda: seen.append(libm.fegetround())); thread.start(); thread.join()
print(seen, signal.getsignal(signal.SIGUSR2), signal.pthread_sigmask(signal.SIG_BLOCK, []))
";
    Story::new(kept, program).same().success();
}

/// Without ptrace(2), only files that Python code makes are known.
#[test]
fn files_that_python_code_makes_are_known_where_nothing_can_be_traced() {
    let kept = "import tempfile\nmade = tempfile.TemporaryDirectory(dir=__file__[:-12])\n";
    let story = Story::new(kept, "");
    let mut strace = Command::new("strace");
    cpython_cds_tests::clean(&mut strace);
    strace
        .current_dir(story.project.path(""))
        .envs(story.variables.iter().map(|(name, value)| (name, value)))
        .args(["-f", "-qq", "-o", "calls.txt"])
        .args(["-e", "inject=ptrace:error=EPERM"])
        .arg(python())
        .args(DUMP_IMAGE);
    let outcome = Outcome::of(&mut strace);
    assert!(
        outcome
            .stderr
            .contains("imports make files or directories each time: "),
        "{outcome:?}"
    );
}
