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
from cds import atfork, creations, hooks, looks, observed, seeds, startup, streams, variables

# As in `startup`.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from importlib.machinery import ModuleSpec
    from typing import Any

    # Variables that the process was started with, names that were read, whether all count, and
    # what C code finds changed: values, or None for what is removed first.
    _Environment = tuple[
        list[tuple[bytes, bytes]], list[bytes], bool, list[tuple[bytes, bytes | None]]
    ]


class Observation:
    """What the imports have looked at: what the image's key compares, and what it cannot."""

    def __init__(self, image: str, program: bytes | None, record: observed.Record) -> None:
        self.image = image
        # The only one that the image is for, if it is for one.
        self.program = program
        self.counts_processors = record.counts_processors
        # Standard streams that were asked whether they are terminals.
        self.terminals = record.terminals
        asked = record.asked_for_directory
        self.counts_directory = asked is None or asked > _known_directories()
        self.counts_host = False
        self.environment: "_Environment | None" = None
        # Files and directories.
        self.paths: list[observed.Looked] = []
        # The first parts of the names of modules that come from files, or were not found.
        self.names: list[str] = []
        # Modules, and what they looked at that cannot be compared.
        self.reported: list[str] = []
        # What makes an image impossible; nothing that is to be said, if it is to be taken anew.
        self.problem: str | None = None


class Preparation:
    """What imports leave and look at.

    When they are done, the process may do more that restored processes find done, until the
    preparation is concluded.
    """

    called_at_forks = staticmethod(atfork.known)

    def __init__(self, request: str) -> None:
        self._missing_stream = streams.watch()
        self._inherited = _open_files()
        self._request = request
        with open(request, "rb") as file:
            self._wanted = marshal.load(file)
        # The only one that the image is for, if it is for one.
        self.program: bytes | None = self._wanted["program"]
        sys.path[:0] = self._wanted["path"]
        self._environment = variables.current
        self._environment.expect(self._wanted["changes"])
        self._asked_before = self._environment.take_asked()
        self._seen: set[str] = set()
        self._counts_host = False
        self._creations = creations.Creations()
        # Names of modules that were searched for, and by which.
        self._searched: dict[str, set[tuple[str, ...]]] = {}
        self._is_audited = False
        # Whoever takes the image removes this hook. There is no other.
        sys.addaudithook(self._audit)
        # `-c` needs it for its tracebacks, and `-i` more.
        __import__("linecache")
        self._makers: dict[str, str] = {}
        self._failed: list[str] = []
        self.looks = looks.Watch()

    def do_imports(self) -> None:
        """Import what the request names."""
        seed_watch = seeds.Watch()
        for name, origin in self._wanted["modules"]:
            self._import(name, origin)
        hooks.run_before_snapshot()
        self._note_makers("hooks were called")
        streams.leave_alone()
        self._flush()
        startup.keep_seeds(seed_watch.seeded())
        observed.tell_end_of_imports(self._request)
        self.looks.end()
        # Nobody is to be told of the collections that come now.
        self._gc_callbacks = gc.callbacks[:]
        gc.callbacks.clear()
        self._keeps_walk = self._environment.keeps_walk()

    def keep_environment(self, of_c: list[bytes]) -> list[bytes]:
        """Have restored processes begin with what imports have made of the environment.

        `of_c` is that which C code sees.  Return that which this process was started with.
        """
        self._of_c = variables.of_texts(of_c)
        changes, self._is_exact = self._environment.exact_changes()
        startup.keep_environment(list(changes.removed), changes.assigned)
        return [b"%b=%b" % item for item in self._environment.started.items()]

    def _looked_at_environment(self, record: observed.Record) -> "_Environment":
        watch = self._environment
        started, told = watch.started, record.changed_variables
        changes, is_exact = variables.changes_in_c(started, told, self._of_c)
        names = self._asked_before | watch.asked() | record.variables
        is_blind = record.is_blind or not (is_exact and self._is_exact)
        if is_blind or self._keeps_walk:
            names.update(variables.OF_SHELLS)
        removed = [(name, None) for name in changes.removed]
        return (
            [*started.items()],
            sorted(names),
            is_blind or record.walks_environment or watch.has_walked,
            [*removed, *changes.assigned.items()],
        )

    def _audit(self, event: str, arguments: "tuple[Any, ...]") -> None:
        self._creations.note(event, arguments)
        if event == "import":
            name = str(arguments[0]).partition(".")[0]
            self._searched.setdefault(name, set()).add(looks.modules_being_imported())
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

    def _problem(
        self, left: list[str], record: observed.Record, counting: looks.Counting
    ) -> str | None:
        """Name the first thing that makes an image impossible.

        An empty text says that the image is to be taken anew.
        """
        if self._failed:
            return self._what_failed()
        if left:
            return f"imports have left what cannot be restored: {'; '.join(left)}"
        problem = self._what_is_missing()
        if problem is None:
            problem = _what_depends_on_the_directory()
        if problem is None:
            problem = self._what_is_set_too_late(record)
        if problem is None:
            problem = self._what_was_made(record.made)
        if problem is None:
            problem = self._what_was_looked_at(record, counting)
        return problem

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

    def _what_was_looked_at(self, record: observed.Record, counting: looks.Counting) -> str | None:
        """Have an image that makes itself taken anew without modules that look at what differs.

        Who takes another one is told of it.
        """
        report = counting.report()
        if self.program and not record.is_traced:
            return (
                "imports cannot be watched (ptrace), and may look at what differs from run to run"
            )
        if self._wanted["tells"] and report:
            told = "imports looked at, or changed, what differs from run to run"
            print(f"cds: {told}; programs that are restored keep what was found:", file=sys.stderr)
            for text in report:
                print(f"  {text}", file=sys.stderr)
        if not report or not (self.program or self._wanted["strict"]):
            return None
        if self.program and self._begin_anew("looked", sorted(counting.with_users())):
            return ""
        return f"imports look at, or change, what differs from run to run: {'; '.join(report)}"

    def _begin_anew(self, reason: str, names: list[str]) -> bool:
        if reason not in self._wanted["reasons_to_begin_anew"]:
            return False
        with open(self._wanted["anew"], "wb") as file:
            marshal.dump((reason, names), file)
        return True

    def _what_is_set_too_late(self, record: observed.Record) -> str | None:
        """Name variables that the program sets before it imports what depends on them.

        If it is known which modules these are, have the image taken anew without them.
        """
        libraries = record.variables_of_libraries
        if libraries is None:
            libraries = set(map(os.fsencode, self._wanted["for_libraries"])) | record.variables
        modules: set[str] = set()
        problem = None
        for name in self._environment.foreign():
            readers = self._environment.readers(name)
            is_unknown = record.walks_environment or name in libraries or "" in readers
            # One whose import has failed is not in the image.
            readers.intersection_update(sys.modules)
            if readers or is_unknown:
                shown = os.fsdecode(name)
                problem = (
                    f"the program changes the variable {shown}, which imports or libraries read"
                )
            if is_unknown:
                return problem
            modules |= readers
        if problem is not None and self._begin_anew("late", sorted(modules)):
            return ""
        return problem

    def is_restorable(self) -> bool:
        """Say whether imports have left nothing that cannot be restored."""
        left = any(_what_cannot_be_restored(self._inherited))
        return not (self._missing_stream or left or self._is_audited or self._failed)

    def conclude(self) -> Observation:
        """Return what was looked at."""
        wanted, makers = self._wanted, self._makers
        things = self._note_makers("a start was practised")
        left = [f"{thing}, since {makers[thing]}" for thing in things]
        # The observer lets this process go, and writes the record, when it is opened.
        record = observed.read(wanted["record"], self._request)
        image = wanted["image"]
        observation = Observation(image, self.program, record)
        observation.counts_host = self._counts_host
        observation.environment = self._looked_at_environment(record)
        del sys.path[: len(wanted["path"])]
        contents = _paths() | self._seen | record.opened | set(wanted["sources"])
        missing = {name: self._searched[name] for name in self._searched if name not in sys.modules}
        beside = looks.of_modules_beside(wanted["beside"], missing)
        counting = looks.Counting(self.looks.looks | record.looks | beside)
        observation.reported = counting.report()
        observation.problem = self._problem(left, record, counting)
        self._flush()
        # A program could have others beside it.
        found = {name.partition(".")[0] for name, _ in _from_files()}
        observation.names = sorted(found.union(missing))
        own = (os.path.dirname(self._request), wanted["archive"], image)
        observation.paths = observed.compared(contents, record.looked_at, own)
        own_modules = (
            "atfork",
            "creations",
            "looks",
            "preparing",
            "observed",
            "seeds",
            "variables",
        )
        for module in own_modules:
            del sys.modules[f"cds.{module}"]
            delattr(cds, module)
        # What only the start has asked for, it asks for before any program can change it.
        startup.begins_with(self._environment.asked() | record.variables)
        gc.collect()
        gc.callbacks[:] = self._gc_callbacks
        return observation


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
