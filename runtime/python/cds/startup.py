"""The life of a startup image, as far as Python code is concerned.

`prepare()` runs in the process that an image is taken of, `resumed()` in each that is
restored from it, `finalize()` when such a one ends.
"""

import _signal
import _thread
import _weakref
import atexit
import gc
import marshal
import os
import posix
import sys
import time

from cds import hooks, observed

# What is imported here is in every image, and has to be looked at whenever one is
# restored: so it is only what the interpreter has anyway.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from importlib.machinery import ModuleSpec
    from typing import Any

# Modules of the image.
_modules: frozenset[str] = frozenset()

# The id of the process that did the imports, which libraries may have remembered.
_pid = 0

# What imports did to the environment: values, or None for variables that they removed.
_changes: dict[bytes, bytes | None] = {}


class _Watched(dict[bytes, bytes]):
    """The environment, with the names that were asked for."""

    def __init__(self, contents: dict[bytes, bytes]) -> None:
        super().__init__(contents)
        self.asked: set[bytes] = set()

    def __getitem__(self, name: bytes) -> bytes:
        self.asked.add(name)
        return super().__getitem__(name)

    def __contains__(self, name: object) -> bool:
        if isinstance(name, bytes):
            self.asked.add(name)
        return super().__contains__(name)

    def __iter__(self) -> "Iterator[bytes]":
        # Whoever looks at all of them may have found any, but hardly cares for what shells
        # change with each command.
        self.asked.update(super().keys() - {b"_", b"OLDPWD", b"PWD", b"SHLVL"})
        return super().__iter__()


def prepare(
    request: str,
) -> tuple[str, list[bytes], list[observed.Looked], list[str], bool, str | None]:
    """Import what the request names and return what the imports looked at.

    That is: the image's path, the names of variables, files and directories, the first
    parts of the names of modules that come from files, whether the number of processors
    counts, and what makes an image impossible.
    """
    global _modules, _changes, _pid
    inherited = _open_files()
    with open(request, "rb") as file:
        wanted = marshal.load(file)
    sys.path[:0] = wanted["path"]
    environment: dict[bytes, bytes] = os.environ._data  # type: ignore[attr-defined]
    watched = _Watched(environment)
    os.environ._data = watched  # type: ignore[attr-defined]
    seen: set[str] = set()

    def audit(event: str, arguments: "tuple[Any, ...]") -> None:
        if event in ("open", "os.listdir", "os.scandir") and isinstance(arguments[0], (str, bytes)):
            if event != "open" or observed.is_read(arguments[2]):
                seen.add(os.path.abspath(os.fsdecode(arguments[0])))

    # The image has no audit hooks: whoever takes it removes this one.
    sys.addaudithook(audit)
    # `-c` needs it for its tracebacks, and `-i` more.
    __import__("linecache")
    all_asked, decisive = watched.asked, set[bytes]()
    for name, origin in wanted["modules"]:
        watched.asked = set()
        try:
            _import(name, origin)
            decisive |= watched.asked
        except Exception as error:
            # The program that was traced may have tried it, too.
            if wanted["verbose"]:
                _tell_failure(name, error)
        all_asked |= watched.asked
    watched.asked = all_asked
    hooks.run_before_snapshot()
    # The observer lets this process go, and writes the record, when it is opened.
    opened, looked_at, asked, counts = observed.read(wanted["record"], request)

    os.environ._data = environment  # type: ignore[attr-defined]
    now = dict(dict.items(watched))
    _changes = {name: value for name, value in now.items() if environment.get(name) != value}
    _changes |= {name: None for name in environment if name not in now}
    del sys.path[: len(wanted["path"])]
    problem = _what_cannot_be_restored(inherited) or _what_is_set_too_late(
        wanted["changes"], now, decisive
    )
    for stream in (sys.stdout, sys.stderr):
        if stream is not None:
            stream.flush()
    _modules = frozenset(sys.modules)
    _pid = os.getpid()
    names = {name.partition(".")[0] for name, _ in _from_files()}
    image = wanted["image"]
    own = (os.path.dirname(request), wanted["archive"], image)
    paths = observed.compared(_paths() | seen | opened, looked_at, own)
    variables = sorted(watched.asked | asked | {b"HOME"})
    gc.collect()
    return image, variables, paths, sorted(names), counts, problem


def _from_files() -> "Iterator[tuple[str, str]]":
    for name, module in list(sys.modules.items()):
        spec = getattr(module, "__spec__", None)
        if spec is not None and spec.has_location and spec.origin:
            yield name, spec.origin


def _paths() -> set[str]:
    """Return the sources of modules, and all directories that were searched for modules."""
    paths = {origin for _, origin in _from_files()}
    paths.update(path for path in [*sys.path, *sys.path_importer_cache] if path)
    paths.add(os.path.join(sys.prefix, "pyvenv.cfg"))
    return {os.path.abspath(path) for path in paths}


def _import(name: str, origin: str | None) -> None:
    """Import a module, if it comes from the file that it should come from."""
    if name not in sys.modules:
        spec = _find(name)
        # What lies beside a script is found by the script only.
        if spec is not None and origin in (None, spec.origin):
            __import__(name)


def _find(name: str) -> "ModuleSpec | None":
    """Find a module, as `importlib.util.find_spec()` does."""
    parent = name.rpartition(".")[0]
    if parent:
        __import__(parent)
    path = sys.modules[parent].__path__ if parent else None
    specs = (finder.find_spec(name, path) for finder in sys.meta_path)
    return next((spec for spec in specs if spec is not None), None)


def _tell_failure(name: str, error: Exception) -> None:
    reason = str(error).partition("\n")[0]
    told = f"cds: not in the startup image: {name} ({type(error).__name__}: {reason})"
    print(told, file=sys.stderr)


def _what_cannot_be_restored(inherited: dict[int, str]) -> str | None:
    if _thread._count() > 0:  # type: ignore[attr-defined]
        return f"imports have started threads: {', '.join(_threads())}"
    left = {n: target for n, target in _open_files().items() if inherited.get(n) != target}
    if left:
        shown = ", ".join(f"{number} ({target})" for number, target in left.items())
        return f"imports have left files open: {shown}"
    timers = ("ITIMER_REAL", "ITIMER_VIRTUAL", "ITIMER_PROF")
    running = [name for name in timers if _signal.getitimer(getattr(_signal, name)) != (0.0, 0.0)]
    if running:
        return f"imports have started timers: {', '.join(running)}"
    path = os.environ.get("PYTHONPATH")
    if path and not sys.flags.ignore_environment:
        relative = [part for part in path.split(os.pathsep) if not os.path.isabs(part)]
        if relative:
            # Processes in other directories would have other modules.
            return f"PYTHONPATH has relative directories: {', '.join(map(repr, relative))}"
    return None


def _what_is_set_too_late(
    changes: dict[str, tuple[str | None, bool]], now: dict[bytes, bytes], asked: set[bytes]
) -> str | None:
    """Name a variable that the program sets before it imports what depends on it."""
    for name, (value, is_for_libraries) in changes.items():
        key = os.fsencode(name)
        is_as_in_program = now.get(key) == (None if value is None else os.fsencode(value))
        if not is_as_in_program and (is_for_libraries or key in asked):
            return f"the program changes the variable {name}, which imports or libraries read"
    return None


def _threads() -> "Iterator[str]":
    threading = sys.modules.get("threading")
    if threading is None:
        return iter(["(of the module _thread)"])
    others = (t.name for t in threading.enumerate() if t is not threading.main_thread())
    return iter(list(others) or ["(of the module _thread)"])


def _open_files() -> dict[int, str]:
    """Return what file descriptors behind the standard streams refer to."""
    files = {}
    for name in os.listdir("/proc/self/fd"):
        try:
            files[int(name)] = os.readlink(f"/proc/self/fd/{name}")
        except FileNotFoundError:
            # That of the listing itself.
            pass
    return {number: target for number, target in files.items() if number > 2}


def resumed(
    argv: list[bytes],
    orig_argv: list[bytes],
    options: list[bytes],
    environment: list[bytes],
    ignored_signals: list[int],
) -> None:
    """Make a restored process one that was started with these arguments."""
    variables = dict(variable.partition(b"=")[::2] for variable in environment if b"=" in variable)
    posix.environ.clear()
    posix.environ.update(variables)
    for name, value in _changes.items():
        if value is None:
            os.environb.pop(name, None)
        else:
            os.environb[name] = value
    sys.argv[:] = map(os.fsdecode, argv)
    sys.orig_argv[:] = map(os.fsdecode, orig_argv)
    for name in [name for name in sys._xoptions if name.startswith("cds")]:
        del sys._xoptions[name]
    for option in options:
        key, _, setting = os.fsdecode(option).partition("=")
        sys._xoptions[key] = setting or True
    for number in ignored_signals:
        _signal.signal(number, _signal.SIG_IGN)
    # The rules of the time zone may have been changed.
    time.tzset()
    if platform := sys.modules.get("platform"):
        # It remembers the name of the host.
        vars(platform)["_uname_cache"] = None
    _renew_secrets()
    hooks.run_after_restore()


def _renew_secrets() -> None:
    """Renew what must not repeat; `random` has done so as after a fork."""
    modules: "dict[str, Any]" = sys.modules
    if (ssl := modules.get("_ssl")) and os.getpid() == _pid:
        # OpenSSL knows a fork by the process id, which repeats in containers.
        ssl.RAND_add(os.urandom(64), 64.0)
    if numpy_random := modules.get("numpy.random"):
        numpy_random.seed()
    if process := modules.get("multiprocessing.process"):
        key = process.AuthenticationString(os.urandom(32))
        process.current_process()._config["authkey"] = key
    if tempfile := modules.get("tempfile"):
        tempfile._name_sequence = None
    if uuid := modules.get("uuid"):
        uuid._node = uuid._last_timestamp = None


def rehearse() -> None:
    """Forget what packages want to be done: it is not for this process, which is to end."""
    hooks.after_restore.clear()
    atexit._clear()


def finalize() -> None:
    """Destroy what was loaded since, as finalize_modules() in Python/pylifecycle.c does."""
    for name in ("last_exc", "last_type", "last_value", "last_traceback"):
        if hasattr(sys, name):
            delattr(sys, name)
    main = sys.modules["__main__"]
    new = [(name, module) for name, module in sys.modules.items() if name not in _modules]
    alive = [_weakref.ref(module) for _, module in new if isinstance(module, type(sys))]
    while new:
        del sys.modules[new.pop(0)[0]]
    _clear(vars(main))
    gc.collect()
    module = None
    for reference in reversed(alive):
        module = reference()
        if module is not None:
            _clear(vars(module))
    del module
    gc.collect()
    # What destructors have printed; as when the streams themselves are destroyed.
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except Exception:
            pass


def _clear(namespace: "dict[str, Any]") -> None:
    """Set all names to None, in the order of _PyModule_ClearDict() in Objects/moduleobject.c."""

    def names(is_first: bool) -> "Iterable[str]":
        for name in list(namespace):
            is_private = name.startswith("_") and not name.startswith("__")
            if is_private == is_first and name != "__builtins__" and namespace[name] is not None:
                yield name

    for is_first in (True, False):
        for name in names(is_first):
            namespace[name] = None
