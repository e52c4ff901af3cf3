//! The end of a restored process: objects of the run are finalized as in a plain run, whatever holds them. Objects of
//! the image are finalized if that has a visible effect.

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::process::Command;

use cpython_cds_tests::report::Report;
use cpython_cds_tests::{DUMP_IMAGE, Outcome, Project, clean, python};

/// A module of the image that can hold objects in all ways in which a module can.
const HOLDING: &str = r#"
import contextvars, functools, threading, weakref
values = {}
items = []
class Holder: pass
holder = Holder()
@functools.lru_cache
def cached(make): return make()
context = contextvars.ContextVar("context")
local = threading.local()
weak = weakref.WeakValueDictionary()
def say(text): print(text)
class Named:
    def __init__(self, name): self.name = name
    def __del__(self): say(f"end of {self.name}")
def numbers(name):
    try: yield from range(9)
    finally: say(f"{name} is closed")
def function(kept=None): return kept
def enclosed():
    kept = None
    def put(value):
        nonlocal kept
        kept = value
    return put
put = enclosed()
"#;

/// A module without functions and classes, so that it is freed as soon as nothing refers to it.
const PLAIN: &str = "values = {}\nvariable = None\n";

/// Objects of the image whose end has a visible effect.
const OWNING: &str = r#"
import weakref
from holding import Holder, Named, numbers
own = Named("own")
own_cycle = Named("own cycle"); own_cycle.itself = own_cycle
own_list = [Named("in own list")]
own_numbers = numbers("own generator"); next(own_numbers)
class Slotted:
    __slots__ = ()
    def __del__(self): print("end of slotted")
slotted = {"slotted": (Slotted(),)}
members = weakref.WeakSet()
watched = Holder(); members.add(watched)
references = [weakref.ref(watched, lambda _: print("watched is gone"))]
"#;

/// The modules in the order in which programs import them. Modules are cleared in the reverse order.
const MODULES: [&str; 7] = [
    "atexit",
    "json",
    "threading",
    "weakref",
    "owning",
    "holding",
    "plain",
];

/// A directory for programs, with an image of their modules.
struct Programs {
    project: Project,
    modules: Vec<&'static str>,
}

impl Programs {
    fn new(modules: &[&'static str]) -> Self {
        let project = Project::new(&[
            ("path/holding.py", HOLDING),
            ("path/plain.py", PLAIN),
            ("path/owning.py", OWNING),
        ]);
        let programs = Self {
            project,
            modules: modules.to_vec(),
        };
        let list = programs.modules.join("\n") + "\n";
        programs.project.write("app.lst", &list);
        // Python writes `.pyc` files beside sources before the image is taken.
        let import = format!("import {}", programs.modules.join(", "));
        Outcome::of(&mut programs.command(&["-X", "cds=off", "-c", &import])).success();
        let outcome = Outcome::of(&mut programs.command(&DUMP_IMAGE)).success();
        assert_eq!(outcome.stdout, "", "what is in the image does not end here");
        programs
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = self.project.command(arguments);
        command.env("PYTHONPATH", self.project.path("path"));
        command
    }

    /// Runs a program. Returns its outcome and the files that it has created.
    fn run(&self, options: &[&str], program: &str) -> Ending {
        let directory = self.project.path("run");
        let _ = fs::remove_dir_all(&directory);
        self.project.write("run/app.py", program);
        let image = self.project.path("app.cds");
        let options = options
            .iter()
            .map(|option| option.replace("app.cds", &image.to_string_lossy()));
        let mut command = self.command(&[]);
        command.args(options).arg("app.py").current_dir(&directory);
        let outcome = Outcome::of(&mut command);
        let files = fs::read_dir(&directory).unwrap().map(|entry| {
            let path = entry.unwrap().path();
            (
                path.file_name().unwrap().to_string_lossy().into_owned(),
                path,
            )
        });
        Ending {
            files: files
                .filter(|(name, _)| name != "app.py")
                .map(|(name, path)| (name, fs::read(path).unwrap()))
                .collect(),
            outcome: Outcome {
                stdout: without_addresses(&outcome.stdout),
                stderr: without_addresses(&outcome.stderr),
                status: outcome.status,
            },
        }
    }

    fn plain(&self, program: &str) -> Ending {
        self.run(&["-X", "cds=off"], program)
    }

    #[track_caller]
    fn restored(&self, options: &[&str], program: &str) -> Ending {
        let stats = self.project.path("stats.json");
        let _ = fs::remove_file(&stats);
        let stats_option = format!("cds_stats={}", stats.display());
        // A strict process also examines objects that it takes for unchanged.
        let image = ["-X", "cds=app.cds", "-X", &stats_option, "-X", "cds_strict"];
        let ending = self.run(&[&image, options].concat(), program);
        let report = Report::read(&stats).expect("it was written");
        assert_eq!(report.startup_image_refused, None, "{program}");
        assert!(report.startup_image.is_some(), "{program}");
        ending
    }

    /// How often a restored process searches for changed objects of the image to find garbage.
    #[track_caller]
    fn searches(&self, program: &str) -> usize {
        let calls = self.project.path("calls.txt");
        let _ = fs::remove_dir_all(self.project.path("run"));
        self.project.write("run/app.py", program);
        let mut command = Command::new("strace");
        clean(&mut command);
        command.args(["-qq", "-f", "-e", "trace=openat", "-o"]);
        command.arg(&calls).arg(python());
        command
            .arg("-Xcds_stats")
            .arg(format!("-Xcds={}", self.project.path("app.cds").display()));
        command.arg("app.py").current_dir(self.project.path("run"));
        command.env("PYTHONPATH", self.project.path("path"));
        let outcome = Outcome::of(&mut command);
        assert!(
            outcome.stderr.contains("started from"),
            "{program}\n{outcome:?}"
        );
        let calls = fs::read_to_string(calls).unwrap();
        calls.matches("\"/proc/self/pagemap\"").count()
    }

    /// Asserts that a program has the same ending plainly, restored, and restored with `cds_full_exit`.
    #[track_caller]
    fn assert_same(&self, program: &str) -> Ending {
        let plain = self.plain(program);
        assert_eq!(self.restored(&[], program), plain, "{program}");
        let full = self.restored(&["-X", "cds_full_exit"], program);
        assert_eq!(full, plain, "{program}");
        plain
    }
}

#[derive(Clone, PartialEq, Eq)]
struct Ending {
    outcome: Outcome,
    files: BTreeMap<String, Vec<u8>>,
}

impl fmt::Debug for Ending {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sizes = self.files.iter().map(|(name, data)| (name, data.len()));
        let sizes: Vec<_> = sizes.collect();
        write!(formatter, "{:?}, bytes of files: {sizes:?}", self.outcome)
    }
}

impl Ending {
    /// The ending without the contents of the files.
    fn without_contents(mut self) -> Self {
        self.files.values_mut().for_each(Vec::clear);
        self
    }

    /// The ending with sorted lines.
    fn in_any_order(mut self) -> Self {
        for text in [&mut self.outcome.stdout, &mut self.outcome.stderr] {
            let mut lines: Vec<&str> = text.lines().collect();
            lines.sort_unstable();
            *text = lines.join("\n");
        }
        self
    }
}

fn without_addresses(text: &str) -> String {
    let mut parts = text.split("0x");
    let first = parts.next().unwrap_or_default().to_owned();
    parts.fold(first, |text, part| {
        let rest = part.trim_start_matches(|digit: char| digit.is_ascii_hexdigit());
        text + "0x" + rest
    })
}

/// All places in which a program or a module can keep an object. `{}` is the object.
const PLACES: [&str; 28] = [
    "kept = {}",
    "_kept = {}",
    "holding.kept = {}",
    "holding._kept = {}",
    "holding.values['key'] = {}",
    "holding.values['key'] = dict(key=[(1, {})])",
    "holding.items.append({})",
    "holding.holder.kept = {}",
    "holding.Holder.kept = {}",
    "holding.function.__defaults__ = ({},)",
    "holding.function.kept = {}",
    "holding.values['key'] = lambda kept={}: kept",
    "holding.put({})",
    "holding.cached(lambda: {})",
    "holding.context.set({})",
    "holding.local.kept = {}",
    "kept = holding.weak['key'] = {}",
    "plain.values['key'] = {}",
    "plain.variable = {}",
    "json.kept = {}",
    "sys.kept = {}",
    "builtins.kept = {}",
    "threading.current_thread().kept = {}",
    "late.kept = {}",
    "late.kept = {}; holding.values['key'] = late",
    "kept = [{}]; kept.append(kept); holding.items.append(kept)",
    "def function(kept={}): pass",
    "class Class: kept = {}",
];

const HEAD: &str = r#"
import atexit, builtins, json, sys, threading, types, weakref
import holding, plain
late = types.ModuleType("late"); sys.modules["late"] = late
def say(text): print(text)
def written(name, mode="w"):
    file = open(f"{name}.txt", mode)
    file.write(f"text of {name}" if mode == "w" else b"bytes")
    return file
def started(generator):
    next(generator)
    return generator
def cycle(thing):
    thing.itself = thing
    return thing
references = []
def watched(thing, name):
    references.append(weakref.ref(thing, lambda _: say(f"{name} is gone")))
    return thing
def finalized(thing, name):
    weakref.finalize(thing, print, f"{name} is finalized").atexit = len(name) % 2 == 0
    return thing
class Mine:
    def __init__(self, name): self.name = name
    def __del__(self): say(f"end of my {self.name}")
def mine(name):
    try: yield 1
    finally: say(f"my {name} is closed")
here = []
"#;

fn kept(place: &str, thing: &str) -> String {
    format!("{HEAD}{}\nprint('end')\n", kept_in(place, thing))
}

fn kept_in(place: &str, thing: &str) -> String {
    place.replace("{}", thing)
}

/// Buffered data is written to its file, wherever the file object is kept.
#[test]
fn files_are_written_wherever_they_are() {
    let programs = Programs::new(&["holding", "plain", "json", "atexit"]);
    for place in PLACES {
        let ending = programs.assert_same(&kept(place, "written('name')"));
        assert_eq!(ending.files["name.txt"], b"text of name", "{place}");
    }
    // A second file object for standard output is flushed, too.
    let ending = programs.assert_same(
        "import os, holding\nholding.kept = os.fdopen(os.dup(1), 'w')\nholding.kept.write('written\\n')\n",
    );
    assert_eq!(ending.outcome.stdout, "written\n");
}

#[test]
fn finalizers_are_called_wherever_an_object_is() {
    let programs = Programs::new(&["holding", "plain", "json", "atexit"]);
    for place in PLACES {
        for thing in ["holding.Named('x')", "Mine('x')", "started(mine('x'))"] {
            programs.assert_same(&kept(place, thing));
        }
    }
}

/// The directory of a zip file is written, a temporary file is removed, a process gets its buffered input.
#[test]
fn what_libraries_do_at_the_end_is_done() {
    let programs = Programs::new(&[
        "holding",
        "plain",
        "json",
        "subprocess",
        "zipfile",
        "tempfile",
    ]);
    let zip = "import holding, zipfile
archive = holding.values['archive'] = zipfile.ZipFile('archive.zip', 'w')
archive.writestr(zipfile.ZipInfo('member'), 'data')
";
    let ending = programs.assert_same(zip);
    let end_of_directory = b"PK\x05\x06";
    let archive = &ending.files["archive.zip"];
    assert!(archive.windows(4).any(|bytes| bytes == end_of_directory));
    let temporary = "import holding, tempfile
holding.values['file'] = tempfile.NamedTemporaryFile(dir='.')
holding.values['directory'] = tempfile.TemporaryDirectory(dir='.')
";
    assert!(programs.assert_same(temporary).files.is_empty());
    // The process inherits the standard output of the program, so the output is complete when the process has ended.
    let pipe = "import holding, subprocess
process = holding.values['process'] = subprocess.Popen(['cat'], stdin=-1, text=True)
process.stdin.write('piped')
";
    assert_eq!(programs.assert_same(pipe).outcome.stdout, "piped");
    let database = "import holding, sqlite3
connection = holding.values['connection'] = sqlite3.connect('data.db')
connection.execute('pragma journal_mode = wal')
connection.execute('create table numbers (number)')
connection.commit()
";
    let ending = programs.assert_same(database);
    let names: Vec<&String> = ending.files.keys().collect();
    assert_eq!(names, ["data.db"], "the log was merged into it");
}

/// Finalizers without a visible effect are not called and cause no search.
#[test]
fn code_without_effect_is_not_called() {
    let programs = Programs::new(&["holding", "plain", "weakref"]);
    let head = "import holding, weakref
class Idle:
    def __init__(self, kept=None): self.kept, self.flag = kept, False
    def __del__(self): del self.kept
    def flagged(self, reference=None): self.flag = True
class Empty:
    def __del__(self): pass
class Plain: pass
idle = Idle()
";
    for lines in [
        "holding.values['x'] = Idle(Idle())",
        "holding.values['x'] = Empty()",
        "thing = holding.values['x'] = Plain()\nholding.items.append(weakref.ref(thing, Idle().flagged))",
        "thing = holding.values['x'] = Plain()\nholding.items.append(weakref.ref(thing, lambda reference: None))",
        "holding.values['x'] = thing = Plain()\nweakref.finalize(thing, print, 'finalized').atexit = False",
    ] {
        let program = format!("{head}{lines}\n");
        programs.assert_same(&program);
        assert_eq!(programs.searches(&program), 0, "{lines}");
    }
}

/// Finalizers that look idle but have an effect, or that other code can observe, are called.
#[test]
fn code_that_only_looks_idle_is_called() {
    let programs = Programs::new(&["holding", "plain", "weakref"]);
    let idle = "import holding, sys, weakref
class Idle:
    def __init__(self, kept=None): self.kept, self.flag = kept, False
    def __del__(self): del self.kept
    def flagged(self, reference=None): self.flag = True
class Plain: pass
class Seeing:
    def __init__(self, *things): self.things = things
    def __del__(self): print([sorted(vars(thing).items()) for thing in self.things])
";
    let finalizer = |class: &str| {
        format!("import holding\n{class}\nholding.values['x'] = x = Class()\nprint('end')\n")
    };
    let mut programs_to_run = vec![
        finalizer("class Class:\n kept = 1\n def __del__(self): del self.kept"),
        finalizer("class Class:\n __slots__ = ('__weakref__',)\n def __del__(self): self.kept = 1"),
        finalizer("class Class:\n def __init__(self): self.kept = 1\n def __del__(self): del self.kept; del self.kept"),
        finalizer("class Class:\n def __setattr__(self, name, value): print(name, value)\n def __del__(self): self.kept = 1"),
        finalizer("class Class:\n def __init__(self): self.__dict__['kept'] = 1\n def __delattr__(self, name): print(name)\n def __del__(self): del self.kept"),
        finalizer("class Class:\n kept = property(fset=lambda self, value: print(value))\n def __del__(self): self.kept = 1"),
        finalizer("class Class:\n def __init__(self): self.kept = 1\n def __del__(self, more): del self.kept"),
        finalizer("class Class:\n def __init__(self): self.kept = 1\n def __del__(self, *, more): del self.kept"),
        finalizer("import sys\nclass Class:\n def __del__(self): pass\nsys.setprofile(lambda frame, event, what: print(event) if frame.f_code.co_name == '__del__' else None)"),
        finalizer("import sys\nclass Class:\n def __del__(self): pass\nsys.settrace(lambda frame, event, what: print(event) if frame.f_code.co_name == '__del__' else None)"),
        finalizer("import sys\nclass Class:\n def __del__(self): pass\nsys.monitoring.use_tool_id(3, 'tests')\nsys.monitoring.register_callback(3, sys.monitoring.events.PY_START, lambda code, offset: print(code.co_name) if code.co_name == '__del__' else None)\nsys.monitoring.set_events(3, sys.monitoring.events.PY_START)"),
        finalizer("import sys\nclass Class:\n def __del__(self): pass\nsys.monitoring.use_tool_id(3, 'tests')\nsys.monitoring.register_callback(3, sys.monitoring.events.PY_START, lambda code, offset: print(code.co_name))\nsys.monitoring.set_local_events(3, Class.__del__.__code__, sys.monitoring.events.PY_START)"),
        // `weakref.finalize` calls its function at exit.
        "import holding, weakref\nclass C: pass\nc = holding.values['c'] = C()\nweakref.finalize(c, print, 'finalized')\n".to_owned(),
    ];
    // Another finalizer can see the attribute.
    for lines in [
        "holding.values['x'] = idle = Idle(); seeing = Seeing(idle)",
        "holding.values['x'] = idle = Idle(); holding.values['y'] = Seeing(idle)",
        "idle = Idle(); holding.values['y'] = Seeing(idle)",
        "idle = Idle(); seeing = Seeing(idle)",
        "thing = holding.values['thing'] = Plain(); idle = Idle(); kept = weakref.ref(thing, idle.flagged); seeing = Seeing(idle)",
        "thing = Plain(); idle = holding.values['idle'] = Idle(); holding.items.append(weakref.ref(thing, idle.flagged)); seeing = Seeing(idle)",
        "thing = Plain(); thing.itself = thing; idle = holding.values['idle'] = Idle(); holding.items.append(weakref.ref(thing, idle.flagged)); seeing = Seeing(idle)",
    ] {
        programs_to_run.push(format!("{idle}{lines}\n"));
    }
    for program in &programs_to_run {
        programs.assert_same(program);
    }
}

/// A database is closed as in a plain process, with as few searches as possible.
#[test]
fn databases_are_closed_at_once() {
    let programs = Programs::new(&["holding", "plain", "sqlite3"]);
    let connected = |place: &str| {
        format!(
            "import holding, sqlite3
connection = sqlite3.connect('data.db')
connection.execute('pragma journal_mode = wal')
connection.execute('create table numbers (number)')
connection.commit()
{place}
"
        )
    };
    for (place, searches) in [
        ("", 0),
        (
            "cycle = [connection]; cycle.append(cycle); del connection",
            0,
        ),
        ("holding.values['connection'] = connection", 1),
        ("holding.connection = connection\ndel connection", 1),
        ("holding.put(connection)", 1),
    ] {
        // A debug build warns about connections that are left open.
        let unwarned = "import warnings; warnings.simplefilter('ignore')\n";
        let program = unwarned.to_owned() + &connected(place);
        let ending = programs.assert_same(&program);
        let names: Vec<&String> = ending.files.keys().collect();
        assert_eq!(names, ["data.db"], "the log was merged into it");
        assert_eq!(programs.searches(&program), searches, "{place}");
    }
    for place in [
        "connection.execute('insert into numbers values (1)'); holding.connection = connection",
        "holding.connection = connection; holding.other = sqlite3.connect('data.db')",
        "holding.connection = connection; holding.named = holding.Named('x')",
        "holding.connection = connection; named = holding.Named('x')",
        "import warnings; warnings.simplefilter('always'); holding.connection = connection",
        "connection.set_trace_callback(print); holding.connection = connection",
        "connection.create_function('named', 0, holding.Named('x').__del__); holding.connection = connection",
        "holding.connection = sqlite3.connect('other.db', autocommit=False); holding.connection.set_trace_callback(print)",
        "class Connection(sqlite3.Connection):\n def __repr__(self): print('asked'); return 'mine'\nholding.connection = Connection('data.db')",
        "class Connection(sqlite3.Connection):\n def __del__(self): print('mine')\nholding.connection = Connection('data.db')",
        "class Connection(sqlite3.Connection): pass\nholding.connection = Connection('data.db'); holding.connection.named = holding.Named('x')",
        "import threading\nready = threading.Event()\ndef work():\n own = sqlite3.connect('own.db', check_same_thread=False); own.execute('pragma journal_mode = wal'); own.execute('create table numbers (number)'); ready.set(); threading.Event().wait()\nthreading.Thread(target=work, daemon=True).start(); ready.wait()",
    ] {
        // A log that is not removed contains random numbers.
        let program = connected(place);
        let plain = programs.plain(&program).without_contents();
        for options in [&[][..], &["-X", "cds_full_exit"]] {
            let restored = programs.restored(options, &program).without_contents();
            assert_eq!(restored, plain, "{place}, {options:?}");
        }
    }
}

/// Objects of the image are finalized when the last reference is dropped, and at exit.
#[test]
fn objects_of_the_image_are_finalized() {
    let programs = Programs::new(&MODULES);
    let own = |action: &str| format!("import owning\n{action}\nprint('end')\n");
    let same = |action: &str| {
        let program = own(action);
        let plain = programs.plain(&program).in_any_order();
        let restored = programs.restored(&[], &program).in_any_order();
        assert_eq!(restored, plain, "{action}");
        let full = programs.restored(&["-X", "cds_full_exit"], &program);
        assert_eq!(full.in_any_order(), plain, "{action}");
    };
    for action in [
        "pass",
        "owning.own = None",
        "del owning.own_list[0]",
        "owning.own_cycle = None; import gc; gc.collect()",
        "print(next(owning.own_numbers))",
        "owning.own_numbers.close()",
        "owning.slotted.clear()",
        "print(len(owning.members)); owning.watched = None; print(len(owning.members))",
        "owning.references.clear(); owning.watched = None",
        "kept = owning.own; owning.own = None; print('still'); del kept",
    ] {
        same(action);
    }
}

/// Objects that a running thread holds are not finalized: the thread may hold a lock that a finalizer would wait for.
#[test]
fn objects_of_threads_are_left_alone() {
    let programs = Programs::new(&["holding", "os", "threading", "time"]);
    for program in [
        "import holding, os, threading, time\nread, write = os.pipe()\ndef work():\n with os.fdopen(read, 'rb') as file: file.read()\nthreading.Thread(target=work, daemon=True).start()\nholding.values['x'] = holding.Named('x')\ntime.sleep(0.1)\n",
        "import holding, threading\nready = threading.Event()\ndef work():\n named, file = holding.Named('of a thread'), open('lost.txt', 'w')\n file.write('lost'); ready.set(); threading.Event().wait()\nthreading.Thread(target=work, daemon=True).start()\nready.wait()\nholding.values['x'] = holding.Named('x')\n",
        "import holding, threading\nready = threading.Event()\ndef work():\n holding.local.named = holding.Named('of a thread')\n holding.context.set(holding.Named('of a context')); ready.set(); threading.Event().wait()\nthreading.Thread(target=work, daemon=True).start()\nready.wait()\nholding.local.named = holding.Named('x')\n",
    ] {
        programs.assert_same(program);
    }
}

/// A finalizer can use its module and other modules, and its exceptions are printed.
#[test]
fn finalizers_find_what_they_need() {
    let programs = Programs::new(&["holding", "plain", "json", "atexit"]);
    for program in [
        "import json, sys\ndef helper(self): print(json.dumps(self.name), sys.argv)\nclass C:\n def __init__(self): self.name = 'c'\n def __del__(self): helper(self)\nc = C()\n",
        "import holding\nclass C:\n def __del__(self): holding.say(sorted(holding.values))\nholding.values['c'] = C()\n",
        "import holding\nclass C:\n def __del__(self): import json; print('imported')\nholding.values['c'] = C()\n",
        "import holding\nclass C:\n def __del__(self): 1 / 0\nholding.values['c'] = C()\n",
        "import holding\nclass C:\n def __del__(self): holding.values['d'] = self; holding.named = holding.Named('late')\nholding.values['c'] = C()\n",
        "import holding, sys\nclass C:\n def __del__(self): print(sys.modules, sys.path, sys.meta_path)\nholding.values['c'] = C()\n",
        "import builtins\nclass C:\n def __del__(self): print('replaced')\nbuiltins.len = C()\n",
        "import io, sys\nsys.stdout = io.TextIOWrapper(sys.stdout.detach(), 'utf-16')\nprint('wrapped')\n",
        "import sys\nsys.stdout = open('out.txt', 'w')\nprint('elsewhere')\n",
        "import atexit, holding\natexit.register(print, 'at exit')\nholding.named = holding.Named('x')\natexit.register(holding.values.update, a=holding.Named('y'))\n",
        "import holding, threading\nthreading.Thread(target=threading.Event().wait, daemon=True).start()\nholding.values['x'] = holding.Named('x')\n",
        "import holding, socket, warnings\nwarnings.simplefilter('always')\nholding.values['socket'] = socket.socket()\nholding.items.append(socket.socket())\nholding.items[0].close()\n",
        "import holding, socket\nclass C:\n def __del__(self): print(holding.values['socket'].fileno(), holding.file.closed)\nholding.file = open(__file__); holding.values.update(socket=socket.socket(), c=C())\nholding.values['socket'].close()\n",
        "import gc\ngc.callbacks.append(lambda phase, told: print(phase, told['generation']))\n",
        "import gc, holding\ngc.disable()\nholding.values['x'] = holding.Named('x')\n",
        "import gc\ngc.disable()\nclass C:\n def __del__(self): print('end of a cycle')\nc = C(); c.c = c; del c\n",
        "import holding\nasync def f(): pass\nholding.values['f'] = f()\n",
        "import holding, warnings\nwarnings.simplefilter('always')\nholding.values['file'] = open('data.txt', 'w')\n",
        "import holding, weakref\nclass C: pass\nc = C()\nholding.items.append(weakref.ref(c, print))\n",
        "import holding, weakref\nclass C: pass\nholding.values['c'] = c = C()\nkept = weakref.ref(c, print)\ndel c\n",
    ] {
        programs.assert_same(program);
    }
}

/// Random programs print the same lines in any order and write the same files as in a plain run. `CDS_FUZZ_ROUNDS` sets
/// their number.
#[test]
fn random_programs_leave_what_they_leave_in_a_plain_run() {
    const THINGS: [&str; 11] = [
        "holding.Named('{n}')",
        "Mine('{n}')",
        "written('{n}')",
        "written('{n}', 'wb')",
        "started(holding.numbers('{n}'))",
        "started(mine('{n}'))",
        "cycle(holding.Named('{n}'))",
        "cycle(Mine('{n}'))",
        "watched(holding.Holder(), '{n}')",
        "finalized(holding.Holder(), '{n}')",
        "object()",
    ];
    const ACTIONS: [&str; 11] = [
        "owning.own = None",
        "owning.own_list.clear()",
        "owning.own_list.append(holding.Named('{n}'))",
        "holding.values.clear()",
        "here.clear()",
        "owning.own_numbers = None",
        "owning.own_cycle = None",
        "next(owning.own_numbers)",
        "holding.references = references",
        "owning.watched = None",
        "atexit.register(print, 'at exit {n}')",
    ];
    let rounds = std::env::var("CDS_FUZZ_ROUNDS").map_or(150, |rounds| rounds.parse().unwrap());
    let programs = Programs::new(&MODULES);
    for seed in 0..rounds {
        let mut random = Random(seed);
        let mut program = HEAD.replace("import holding", "import owning, holding");
        for number in 0..=random.below(6) {
            let name = format!("n{number}{}", ["", "x"][number % 2]);
            let statement = if random.below(5) == 0 {
                ACTIONS[random.below(ACTIONS.len())].to_owned()
            } else {
                let place = PLACES[random.below(PLACES.len())];
                let place = place.replace("kept", &format!("kept_{name}"));
                let thing = THINGS[random.below(THINGS.len())];
                kept_in(&place, thing)
            };
            program += &(statement.replace("{n}", &name) + "\n");
        }
        program += "print('end')\n";
        let plain = programs.plain(&program).in_any_order();
        let full = [&[][..], &["-X", "cds_full_exit"]][random.below(2)];
        let restored = programs.restored(full, &program).in_any_order();
        assert_eq!(restored, plain, "seed {seed}, {full:?}\n{program}");
    }
}

/// Random numbers that depend only on the seed (splitmix64).
struct Random(u64);

impl Random {
    fn below(&mut self, limit: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut word = self.0;
        word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((word ^ (word >> 31)) % limit as u64) as usize
    }
}

/// Objects that the interpreter or the thread refers to keep the variables of the program alive until the end.
#[test]
fn what_the_interpreter_holds_is_finalized() {
    const CLOSED: &str = "
import codecs, contextvars, os, sys, warnings
class Closed:
    def __del__(self, write=os.write): write(1, b'closed\\n')
kept = Closed()
def function(*_, **__): return None
print('end', flush=True)
";
    let programs = Programs::new(&["json"]);
    for held in [
        "sys.settrace(function)",
        "sys.setprofile(function)",
        "sys.addaudithook(function)",
        "sys.set_asyncgen_hooks(firstiter=function)",
        "sys.set_asyncgen_hooks(finalizer=function)",
        "sys.monitoring.use_tool_id(1, 'mine'); sys.monitoring.register_callback(1, sys.monitoring.events.LINE, function)",
        "codecs.register(function)",
        "codecs.register_error('mine', function)",
        "os.register_at_fork(before=function)",
        "class Mine(Warning):\n def method(self): pass\nwarnings.simplefilter('ignore', Mine)",
        "contextvars.ContextVar('mine').set(function)",
    ] {
        let program = format!("{CLOSED}{held}\n");
        let plain = programs.run(&["-X", "cds=off"], &program);
        let restored = programs.run(&["-X", "cds=app.cds"], &program);
        assert_eq!(restored, plain, "{held}");
    }
}
