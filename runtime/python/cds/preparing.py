"""Doing the imports of a startup image, in the process that it is taken of.

What they look at is noted, and what they leave that cannot be restored.  When that is done,
this module is forgotten: processes that are restored have no use for it.
"""

import _signal
import _thread
import gc
import marshal
import os
import sys

import cds
from cds import atfork, creations, hooks, observed, seeds, startup, streams

# As in `startup`.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from importlib.machinery import ModuleSpec
    from typing import Any


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


class Preparation:
    """What imports leave and look at.

    It is made by importing what the request names; the process may do more that restored
    processes find done, until the preparation is concluded.
    """

    called_at_forks = staticmethod(atfork.known)

    def __init__(self, request: str) -> None:
        self._missing_stream = streams.watch()
        self._inherited = _open_files()
        self._request = request
        with open(request, "rb") as file:
            self._wanted = marshal.load(file)
        sys.path[:0] = self._wanted["path"]
        self._environment: dict[bytes, bytes] = os.environ._data  # type: ignore[attr-defined]
        self._watched = _Watched(self._environment)
        os.environ._data = self._watched  # type: ignore[attr-defined]
        self._seen: set[str] = set()
        self._counts_host = False
        self._creations = creations.Creations()
        self._is_audited = False
        # Whoever takes the image removes this hook. There is no other.
        sys.addaudithook(self._audit)
        # `-c` needs it for its tracebacks, and `-i` more.
        __import__("linecache")
        seed_watch = seeds.Watch()
        self._decisive: set[bytes] = set()
        self._makers: dict[str, str] = {}
        self._failed: list[str] = []
        all_asked = self._watched.asked
        for name, origin in self._wanted["modules"]:
            self._watched.asked = set()
            self._import(name, origin)
            all_asked |= self._watched.asked
        self._watched.asked = all_asked
        hooks.run_before_snapshot()
        self._note_makers("hooks were called")
        streams.leave_alone()
        self._flush()
        startup.keep_seeds(seed_watch.seeded())
        observed.tell_end_of_imports(request)
        # Nobody is to be told of the collections that come now.
        self._gc_callbacks = gc.callbacks[:]
        gc.callbacks.clear()

    def _audit(self, event: str, arguments: "tuple[Any, ...]") -> None:
        self._creations.note(event, arguments)
        if event == "sys.addaudithook":
            self._is_audited = True
        if event == "socket.gethostname":
            self._counts_host = True
        if event in ("open", "os.listdir", "os.scandir") and isinstance(arguments[0], (str, bytes)):
            if event != "open" or observed.is_read(arguments[2]):
                self._seen.add(os.path.abspath(os.fsdecode(arguments[0])))

    def _import(self, name: str, origin: str | None) -> None:
        try:
            _import(name, origin)
            self._decisive |= self._watched.asked
        except KeyboardInterrupt:
            raise
        except BaseException as error:
            # The program that was traced may have tried it, too.
            self._failed.append(name)
            if self._wanted["verbose"]:
                _tell_failure(name, error)
        self._note_makers(f"{name} was imported")

    def _note_makers(self, what_was_done: str) -> list[str]:
        things = list(_what_cannot_be_restored(self._inherited))
        if self._is_audited:
            things.append("an audit hook")
        for thing in things:
            self._makers.setdefault(thing, what_was_done)
        return things

    def _flush(self) -> None:
        streams.find_buffers()
        for stream in (sys.stdout, sys.stderr):
            if stream is not None:
                stream.flush()
        streams.flush()

    def _what_is_missing(self) -> str | None:
        if self._missing_stream is None:
            return None
        return f"it needs all standard streams, and {self._missing_stream} is closed"

    def _what_failed(self) -> str:
        """Have the image taken anew without modules that cannot be imported.

        What they have done before they failed would be done again when the program imports them.
        """
        if self._begin_anew("failed", self._failed):
            return ""
        return f"imports fail each time: {', '.join(self._failed)}"

    def _what_was_made(self, paths: set[str]) -> str | None:
        """Have the image taken anew if imports have made files: they may be there for good now."""
        made = creations.remaining(paths | self._creations.paths, os.path.dirname(self._request))
        if not made:
            return None
        if self._begin_anew("made", made):
            return ""
        return f"imports make files or directories each time: {', '.join(made)}"

    def _begin_anew(self, reason: str, names: list[str]) -> bool:
        if reason not in self._wanted["reasons_to_begin_anew"]:
            return False
        with open(self._wanted["anew"], "wb") as file:
            marshal.dump((reason, names), file)
        return True

    def is_restorable(self) -> bool:
        """Say whether imports have left nothing that cannot be restored."""
        left = any(_what_cannot_be_restored(self._inherited))
        return not (self._missing_stream or left or self._is_audited or self._failed)

    def conclude(
        self,
    ) -> tuple[
        str,
        list[bytes],
        list[observed.Looked],
        list[str],
        tuple[bool, bool, bool],
        list[tuple[int, bool]],
        str | None,
    ]:
        """Return what was looked at.

        That is: the image's path, the names of variables, files and directories, the first
        parts of the names of modules that come from files, whether the number of processors,
        the working directory and the name of the host count, which standard streams were asked
        whether they are terminals, and what makes an image impossible (nothing that is to be
        said, if it is to be taken anew).
        """
        wanted, watched, makers = self._wanted, self._watched, self._makers
        things = self._note_makers("a start was practised")
        left = [f"{thing}, since {makers[thing]}" for thing in things]
        # The observer lets this process go, and writes the record, when it is opened.
        record = observed.read(wanted["record"], self._request)

        os.environ._data = self._environment  # type: ignore[attr-defined]
        now = dict(dict.items(watched))
        then = self._environment
        changes: dict[bytes, bytes | None] = {name: None for name in then if name not in now}
        changes |= {name: value for name, value in now.items() if then.get(name) != value}
        del sys.path[: len(wanted["path"])]
        problem = (
            self._what_failed()
            if self._failed
            else f"imports have left what cannot be restored: {'; '.join(left)}"
            if left
            else self._what_is_missing()
            or _what_depends_on_the_directory()
            or _what_is_set_too_late(wanted["changes"], now, self._decisive)
            or self._what_was_made(record.made)
        )
        self._flush()
        names = {name.partition(".")[0] for name, _ in _from_files()}
        image = wanted["image"]
        own = (os.path.dirname(self._request), wanted["archive"], image)
        paths = observed.compared(_paths() | self._seen | record.opened, record.looked_at, own)
        variables = sorted(watched.asked | record.variables | {b"HOME"})
        asked = record.asked_for_directory
        counts_directory = asked is None or asked > _known_directories()
        for module in ("atfork", "creations", "preparing", "observed", "seeds"):
            del sys.modules[f"cds.{module}"]
            delattr(cds, module)
        startup.begins_with(changes)
        gc.collect()
        gc.callbacks[:] = self._gc_callbacks
        return (
            image,
            variables,
            paths,
            sorted(names),
            (record.counts_processors, counts_directory, self._counts_host),
            record.terminals,
            problem,
        )


def _known_directories() -> int:
    """Count modules that have asked for the working directory, to no avail but what is renewed."""
    here = os.getcwd()
    found = [
        getattr(sys.modules.get(module), name, None) == here
        for module, name, _ in startup.DIRECTORIES
    ]
    if tempfile := sys.modules.get("tempfile"):
        # It was the last resort.
        found.append(tempfile.tempdir not in (None, here))
    return sum(found)


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


def _tell_failure(name: str, error: BaseException) -> None:
    reason = str(error).partition("\n")[0]
    told = f"cds: not in the startup image: {name} ({type(error).__name__}: {reason})"
    print(told, file=sys.stderr)


def _what_cannot_be_restored(inherited: dict[int, str]) -> "Iterator[str]":
    """Name threads, open files, timers, and what watches the program."""
    if _thread._count() > 0:  # type: ignore[attr-defined]
        yield from _threads()
    for number, target in _open_files().items():
        if inherited.get(number) != target:
            yield f"file descriptor {number} ({target})"
    for name in ("ITIMER_REAL", "ITIMER_VIRTUAL", "ITIMER_PROF"):
        if _signal.getitimer(getattr(_signal, name)) != (0.0, 0.0):
            yield f"a timer ({name})"
    if sys.gettrace() is not None:
        yield "a trace function (sys.settrace)"
    if sys.getprofile() is not None:
        yield "a profile function (sys.setprofile)"
    for number in range(6):
        if tool := sys.monitoring.get_tool(number):
            yield f"a tool of sys.monitoring ({tool})"
    if (tracer := sys.modules.get("_tracemalloc")) and tracer.is_tracing():
        yield "tracemalloc"


def _threads() -> "Iterator[str]":
    others = []
    if threading := sys.modules.get("threading"):
        others = [t.name for t in threading.enumerate() if t is not threading.main_thread()]
    if not others:
        yield "a thread (of the module _thread)"
    for name in others:
        yield f"a thread ({name})"


def _what_depends_on_the_directory() -> str | None:
    path = os.environ.get("PYTHONPATH")
    if not path or sys.flags.ignore_environment:
        return None
    relative = [part for part in path.split(os.pathsep) if not os.path.isabs(part)]
    # Processes in other directories would have other modules.
    if not relative:
        return None
    return f"PYTHONPATH has relative directories: {', '.join(map(repr, relative))}"


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
