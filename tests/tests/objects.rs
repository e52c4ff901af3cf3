//! Constants of all kinds are archived correctly, and archived objects are correct in memory.

use cpython_cds_tests::{Mode, Project};

const CONSTANTS: &str = r#"
import math

SINGLETONS = (None, True, False, ...)
INTS = (0, 1, -1, 5, 256, 257, -5, -6, 2**30, 2**60 - 1, -2**64, 10**200, -10**200)
FLOATS = (0.0, -0.0, 1.5, 1e308 * 10, -1e308 * 10, 5e-324)
ZEROS = (0, 0.0, -0.0, False, 0j, -0j)
COMPLEX = (0j, -0j, 1.5j, 2 - 3j, complex(0.0, -0.0))
STRINGS = ("", "a", "é", "name", "two words", "nul\0inside", "ünïcode", "日本", "𝄞 clef", "\ud800 lone", "x" * 300)
BYTES = (b"", b"a", b"\xff", b"some bytes", bytes(range(256)))
NESTED = ((), ((),), (1, (2.0, ("three", (b"four", (5j, (None,)))))))

def sets(value):
    return (
        value in {1, 2, 3},
        value in {"a", "b", "long one", b"bytes", 1.5, None, (1, 2)},
        value in {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20},
        value in {"0", "1", "2", "3", "4", "5", "6", "7", "8", "9", "a", "b", "c", "d", "e", "f"},
    )

def constant_sets():
    return [c for c in sets.__code__.co_consts if isinstance(c, frozenset)]

def call(a, b=2, /, c=3, *args, d=4, **kwargs):
    "A docstring."
    def inner(x):
        nonlocal a
        a += x
        return lambda: (a, b, c, args, d, kwargs)
    return inner

class Thing:
    """A class with a docstring."""
    limit = 10

    async def wait(self):
        async for x in self:
            yield x
        try:
            pass
        except* ValueError:
            raise
"#;

const SHOW: &str = r#"
import constants as c
for name in ("SINGLETONS", "INTS", "FLOATS", "ZEROS", "COMPLEX", "STRINGS", "BYTES", "NESTED"):
    for value in getattr(c, name):
        print(name, type(value).__name__, ascii(value))
for value in (1, 3, 20, "a", "f", "g", 1.5, None, (1, 2), b"bytes", "long one"):
    print("in", ascii(value), c.sets(value))
for s in c.constant_sets():
    print(type(s).__name__, len(s), hash(s) == hash(frozenset(s)), s == set(s), list(s))
try:
    print([] in {1, 2, 3}, c.sets([]))
except TypeError as error:
    print("TypeError:", error)
print(c.call(1, 2, 3, 5, e=6)(10)())
print(c.call.__doc__, c.Thing.__doc__)
"#;

#[test]
fn constants_of_every_kind_are_what_they_were() {
    let project = Project::new(&[("constants.py", CONSTANTS), ("show.py", SHOW)]);
    for seed in ["0", "1", "42"] {
        // The hash seed determines the order of sets, with and without the archive.
        let outputs: Vec<String> = {
            project.dump(["show.py"]);
            let run = |mode| {
                let options: &[&str] = match mode {
                    Mode::Off => &["-X", "cds=off"],
                    _ => &["-X", "cds=app.cds", "-X", "cds_strict"],
                };
                let mut command = project.command(options);
                command.arg("show.py").env("PYTHONHASHSEED", seed);
                cpython_cds_tests::Outcome::of(&mut command)
                    .success()
                    .stdout
            };
            [Mode::Off, Mode::Archive].map(run).to_vec()
        };
        assert_eq!(outputs[0], outputs[1], "seed {seed}");
        assert!(
            outputs[0].contains("TypeError: unhashable type: 'list'"),
            "{}",
            outputs[0]
        );
    }
}

/// Compares all code objects of a module with those that its source compiles to.
const COMPARE: &str = r#"
import dis, io, sys, types

ATTRIBUTES = [name for name in dir(types.CodeType) if name.startswith("co_") and name != "co_lnotab"]

def describe(code):
    for name in ATTRIBUTES:
        value = getattr(code, name)
        if callable(value):
            value = list(value())
        if name == "co_consts":
            nested = [c for c in value if isinstance(c, types.CodeType)]
            value = [(type(c).__name__, c) for c in value if not isinstance(c, types.CodeType)]
        if name == "co_consts":
            yield name, ascii([(t, sorted(map(ascii, c)) if t == "frozenset" else c) for t, c in value])
        else:
            yield name, ascii(value)
    out = io.StringIO()
    dis.dis(code, file=out, depth=0, adaptive=True, show_caches=True)
    yield "dis", "\n".join(line.partition("<code object")[0] for line in out.getvalue().splitlines())
    for inner in nested:
        yield from describe(inner)

import importlib.util, marshal
checked = different = 0
for name in sys.argv[1:]:
    spec = importlib.util.find_spec(name)
    archived = spec.loader.get_code(name)
    compiled = compile(spec.loader.get_data(spec.origin), spec.origin, "exec", dont_inherit=True)
    # As importing leaves it: after a round through marshal.
    compiled = marshal.loads(marshal.dumps(compiled))
    assert id(archived) >> 36 == 0x280000000000 >> 36 or id(archived) >> 36 == 0x281000000000 >> 36, hex(id(archived))
    assert id(compiled) >> 36 != id(archived) >> 36
    assert archived == compiled and hash(archived) == hash(compiled), name
    assert marshal.loads(marshal.dumps(archived)) == compiled
    for (what, a), (_, b) in zip(describe(archived), describe(compiled), strict=True):
        checked += 1
        if a != b:
            different += 1
            print(name, what, a[:300], b[:300], sep="\n  ")
print("different:", different)
assert checked > 100
"#;

#[test]
fn archived_code_is_the_code_that_compiling_gives() {
    let modules = [
        "constants",
        "pyclbr",
        "colorsys",
        "sched",
        "wave",
        "mailbox",
        "statistics",
    ];
    let project = Project::new(&[("constants.py", CONSTANTS), ("compare.py", COMPARE)]);
    project.write(
        "app.lst",
        &format!("constants  # {}\n", project.path("constants.py").display()),
    );
    project.run(["-c", "import constants"]);
    project.dump_list();
    let arguments: Vec<&str> = ["compare.py"].into_iter().chain(modules).collect();
    let outcome = project.run_in(Mode::Archive, &arguments).success();
    assert_eq!(outcome.stdout, "different: 0\n");
}

const MEMORY: &str = r#"
import gc, sys
import constants

code = constants.call.__code__
immortal = sys.getrefcount(None)
for archived in (code, code.co_consts, code.co_names, code.co_linetable, code.co_name, *constants.NESTED[2:]):
    assert sys.getrefcount(archived) == immortal, archived
    assert not gc.is_tracked(archived), archived
# The interned string is the archived one, whoever interns it and however it came to be.
for name in constants.Thing.wait.__code__.co_varnames + constants.sets.__code__.co_varnames:
    assert sys.intern("".join(list(name))) is name
assert next(iter(k for k in vars(constants) if k == "SINGLETONS")) is sys.intern("SINGLE" + "TONS".lower().upper())
assert constants.STRINGS[0] is "".join([]) and constants.BYTES[0] is bytes()
assert constants.INTS[4] is int("256")
print("ok")
"#;

#[test]
fn archived_objects_are_immortal_untracked_and_interned() {
    let project = Project::new(&[("constants.py", CONSTANTS), ("memory.py", MEMORY)]);
    project.dump(["memory.py"]);
    for mode in [Mode::Archive, Mode::Relocated] {
        assert_eq!(
            project
                .run_in(mode, ["-W", "ignore", "memory.py"])
                .success()
                .stdout,
            "ok\n"
        );
    }
}

/// Changes reference counts as an extension module does that was compiled for the stable ABI of Python 3.11 or older.
const OLD_EXTENSION: &str = r#"
#include <Python.h>
static PyObject *hold(PyObject *self, PyObject *o) { *(Py_ssize_t *)o += 1; *(Py_ssize_t *)o -= 1; *(Py_ssize_t *)o += 1; return o; }
static PyMethodDef methods[] = {{"hold", hold, METH_O, NULL}, {NULL}};
static struct PyModuleDef def = {PyModuleDef_HEAD_INIT, "oldabi", NULL, 0, methods};
PyMODINIT_FUNC PyInit_oldabi(void) { return PyModule_Create(&def); }
"#;

#[test]
fn an_extension_of_the_old_stable_abi_may_count_references() {
    let program = "import oldabi, constants\nfor c in constants.NESTED + constants.FLOATS: oldabi.hold(c)\nprint('ok')\n";
    let project = Project::new(&[("constants.py", CONSTANTS), ("hold.py", program)]);
    let include = project
        .run([
            "-c",
            "import sysconfig; print(sysconfig.get_path('include'))",
        ])
        .success()
        .stdout;
    let directory = tempfile::tempdir().unwrap();
    let options = [&format!("-I{}", include.trim()), "-shared", "-fPIC", "-w"];
    let library = cpython_cds_tests::compile(&directory, "oldabi", OLD_EXTENSION, &options);
    std::fs::copy(library, project.path("oldabi.so")).unwrap();
    project.dump(["hold.py"]);
    let outcome = project.run(["-X", "cds=app.cds", "hold.py"]).success();
    assert_eq!(
        (outcome.stdout.as_str(), outcome.stderr.as_str()),
        ("ok\n", "")
    );
}

/// compile() interns the name of the file, which may be an archived constant. A debug build frees interned strings at
/// exit.
#[test]
fn code_may_be_compiled_under_an_archived_name() {
    let compiling = "def compiled(): return compile('x = 1', '<an archived name>', 'exec')\n";
    let program =
        "import code, compiling, sys, timeit\nprint(compiling.compiled().co_filename, timeit.timeit('1', number=1) > 0)\n
name = compiling.compiled.__code__.co_consts[2]
print(name, sys.intern(name) is name, code.InteractiveInterpreter().runsource('1'))\n";
    let project = Project::new(&[("compiling.py", compiling), ("app.py", program)]);
    let outcome = project.assert_same(&["app.py"]).success();
    let expected = "<an archived name> True\n1\n<an archived name> True False\n";
    assert_eq!(outcome.stdout, expected);
}
