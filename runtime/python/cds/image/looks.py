"""Looks: imports read what differs from run to run, or do what others can see.

A restored process has the values from the time when the image was taken.  A look does not count
if the key of the image compares the value (`looks.rs` has the system calls), or if `_CATALOGUE`
says that the value is renewed or not kept.
"""

import _imp
import io
import os
import sys

import cds
from cds.image import arguments, startup

# As in `startup`.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Container, Iterable, Mapping
    from typing import Any

# What was looked at, the file of the function that looked, and the files of the modules that were
# being imported, the innermost module first.
Look = tuple[str, str, tuple[str, ...]]

# What may be looked at, the file of the module that may look, and the name of what is compared
# instead; empty if nothing is compared (`excused()`).
Excused = tuple[str, str, str]

_PATH = "sys.path[0]"
_PROGRAM = "__main__"

_CLOCK = "the clock"
_LIMITS = "the set of resource limits"
_NETWORK = "the network"
_OUTPUT = "the standard output"
_ERRORS = "the standard error stream"
_RANDOM = "random bytes"
# Numbers of the generator that all modules share.
NUMBERS = "random numbers"
_STREAM = "the kind of a standard stream"
_PROCESS = "the process id"
_SYSTEM = "the name of the system or the host"
YEAR = "the year"
# Stands for a file, for code that runs before all imports.
BEFORE = "sitecustomize or a .pth file"
_OF_SYSTEM = ", which describes the system"
_NAMESPACE = f"/proc/self/ns/pid{_OF_SYSTEM}"
_MEMORY = f"/proc/meminfo{_OF_SYSTEM}"
_PROCESSORS = f"/proc/stat{_OF_SYSTEM}"

# Keys: a module, or all of a package (`.*`), and what it looks at when it is imported.  With `()`,
# functions of a module, also if other code calls them.  Values: why the look does not count.
_CATALOGUE = {
    # Like the secret of Python's hashes, it is the same in all processes of an image.
    ("lxml.etree()", _RANDOM): "the secret of libxml2's hashes",
    # Renewed: `startup.resumed()`.
    ("bson.objectid", _PROCESS): "the process to which the random bytes belong",
    ("bson.objectid", _RANDOM): "distinguishes the ids of processes; the start of the counter",
    ("dateutil.parser._parser", _CLOCK): "the year for dates without one",
    ("filelock.*", _PROCESS): "detects a forked child",
    ("filelock._core._fork", _NAMESPACE): "detects a forked child",
    ("filelock._core._fork()", _PROCESS): "detects a forked child",
    ("fsspec.*", _PROCESS): "classes of file systems detect a forked child",
    ("hypothesis.internal.conjecture.engine", _RANDOM): "a generator without a seed",
    ("flake8.main.application()", _CLOCK): "statistics contain the time since then",
    ("hypothesis.internal.observability", _CLOCK): "records contain the time since then",
    ("logging", _CLOCK): "records contain the time since then",
    ("loguru._logger", _CLOCK): "records contain the time since then",
    ("multiprocessing.heap", _PROCESS): "detects a forked child",
    ("billiard.process", _RANDOM): "the authentication key",
    ("multiprocessing.process", _PROCESS): "the child renews it after a fork",
    ("multiprocessing.process", _RANDOM): "the authentication key",
    ("multiprocessing.util", _LIMITS): "the limit of open files",
    ("numpy.random", _RANDOM): "the seed of the shared generator",
    ("numpy.random._pickle", _RANDOM): "a generator without state",
    ("pymongo.pool_options", _SYSTEM): "the release of the kernel",
    ("random", _RANDOM): "the seed of the shared generator",
    ("rich.style", NUMBERS): "ids of links, which must differ only within a process",
    ("pip._vendor.rich.style", NUMBERS): "the same",
    ("structlog.stdlib", _CLOCK): "a record; only the names of its attributes are used",
    ("structlog.stdlib", _PROCESS): "a record; only the names of its attributes are used",
    ("threading", _PROCESS): "the id of the main thread",
    ("s3fs.core", _PROCESS): "its class of file systems detects a forked child",
    ("secrets", _RANDOM): "a generator without state",
    ("sqlfluff.core.helpers.identity", _RANDOM): "distinguishes the keys of processes",
    ("ssl", _PROCESS): "OpenSSL's generator gets more random bytes",
    ("ssl", _RANDOM): "OpenSSL's generator gets more random bytes",
    ("urllib3.util.connection", _NETWORK): "whether IPv6 is available",
    ("psutil", _PROCESSORS): "the processor times so far",
    # Only the name of the system, which is Linux, or the kind of processor; `platform` forgets
    # the rest.
    ("aiohttp.helpers", _SYSTEM): "",
    ("hypothesis.internal.compat", _SYSTEM): "",
    ("numpy", _SYSTEM): "",
    ("numpy._core._add_newdocs_scalars", _SYSTEM): "",
    ("numpy.testing._private.utils", _SYSTEM): "",
    ("pandas.compat._constants", _SYSTEM): "",
    ("sqlalchemy.util.compat", _SYSTEM): "",
    ("truststore._api", _SYSTEM): "",
    ("uuid", _SYSTEM): "",
    # The module keeps only what is compared instead: `_FACTS`.
    ("IPython.core.tips", _CLOCK): "ages, in years",
    ("distributed.system", _MEMORY): "the amount of memory",
    # Not kept, or it follows from what is compared.
    ("dask.system", _PROCESS): "the number of usable processors",
    ("dask.system", f"/proc/self/stat{_OF_SYSTEM}"): "the start time of the process",
    ("pandas._libs.tslibs", _CLOCK): "names of time zones: TZ and its files are compared",
    ("psutil._pslinux", _PROCESS): "whether the kernel has certain files",
    ("psutil._pslinux", f"/proc/self/io{_OF_SYSTEM}"): "whether the file exists",
    ("psutil._pslinux", f"/proc/self/smaps{_OF_SYSTEM}"): "whether the file exists",
    ("psutil._pslinux", f"/proc/self/smaps_rollup{_OF_SYSTEM}"): "whether the file exists",
    ("psutil._pslinux", _PROCESSORS): "the number of columns: the kernel is compared",
    ("hashlib", _PROCESS): "hashlib does not use OpenSSL's generator",
    ("hashlib", _RANDOM): "hashlib does not use OpenSSL's generator",
}


# What the key compares if a module has looked at something: names in `facts.rs`.
_FACTS = {
    ("IPython.core.tips", _CLOCK): YEAR,
    ("distributed.system", _MEMORY): "the amount of memory",
}


def of_record(items: "Iterable[bytes]") -> "set[Look]":
    """Return the looks that the observer has recorded.

    Each item has three lines: what was looked at, the files of functions, and the files of
    modules.  Looks of this package itself are left out.
    """
    own = os.path.join(os.path.dirname(cds.__file__), "")
    looks = set()
    for item in items:
        what, *lines = os.fsdecode(item).split("\n")
        functions, modules = (line.split("\t") for line in lines)
        if not any(function.startswith(own) for function in functions):
            looks.add((what, functions[0], tuple(modules)))
    return looks


def excused(directories: "Iterable[str]") -> "list[Excused]":
    """Return the looks of the catalogue, each with a possible file of the module.

    For a package, the file is the directory with a slash at the end.  For functions, it has `()`
    at the end.  The modules must be in the standard library or in one of `directories`: a program
    may have other modules with the same names.
    """
    places = [os.path.dirname(os.__file__), *directories]
    return [
        (what, os.path.join(place, *module.split(".")) + end, _FACTS.get((name, what), ""))
        for name, what in _CATALOGUE
        for module, ends in [_parted(name)]
        for place in places
        for end in ends
    ]


def _parted(name: str) -> tuple[str, tuple[str, ...]]:
    """Return the module or package of a name in the catalogue, and the ends of its files."""
    if name.endswith(".*"):
        return name.removesuffix(".*"), ("/",)
    if name.endswith("()"):
        suffixes = (".py", "/__init__.py", *_imp.extension_suffixes())
        return name.removesuffix("()"), tuple(f"{suffix}()" for suffix in suffixes)
    return name, (".py", "/__init__.py")


def excuse(what: str, file: str, excused: "Mapping[tuple[str, str], str]") -> str | None:
    """Return what is compared instead if the module with this file looks at something.

    The result is empty if the look is harmless, and None if the catalogue has no entry for it.
    `Watch` in watch.rs does the same.
    """
    found = excused.get((what, file))
    directory = os.path.dirname(file)
    while found is None and directory not in ("", "/"):
        found = excused.get((what, directory + "/"))
        directory = os.path.dirname(directory)
    return found


class Watch:
    """Records looks that need no system call."""

    def __init__(self) -> None:
        self.looks: set[Look] = set()
        note = self._note
        # The library gives the lists these types, and later their old types again.
        self.lists = [
            (sys.argv, arguments.watched(lambda name, key: note(arguments.NAME), _READING)),
            (
                sys.path,
                arguments.watched(self._path_used, ("__getitem__", "__setitem__", "insert")),
            ),
        ]
        self._program = sys.modules["__main__"]
        self._program_type = type(self._program)

        class Program(type(self._program)):  # type: ignore[misc]
            def __getattribute__(self, name: str) -> "Any":
                # The import statement itself reads `__spec__`.
                if name != "__spec__":
                    note(_PROGRAM)
                return super().__getattribute__(name)

        Program.__name__ = Program.__qualname__ = "module"
        self._program.__class__ = Program

        # Text may stay in the buffers of the streams, so that there is no system call.
        self._streams = [
            (stream, what)
            for stream, what in ((sys.stdout, _OUTPUT), (sys.stderr, _ERRORS))
            if type(stream) is io.TextIOWrapper
        ]
        for stream, what in self._streams:
            stream.write = self._telling(stream.write, what)  # type: ignore[method-assign]
        self._stream_watch = StreamWatch(note)

    def end(self) -> None:
        """Stop watching `__main__` and the streams."""
        self._stream_watch.end()
        self._program.__class__ = self._program_type
        for stream, _ in self._streams:
            vars(stream).pop("write", None)
        # This object must not hold references to them when the image is taken.
        del self._program, self._streams, self._stream_watch

    def _telling(self, plain: "Callable[[str], int]", what: str) -> "Callable[[str], int]":
        def write(text: str) -> int:
            self._note(what)
            return plain(text)

        return write

    def _path_used(self, name: str, key: "Any") -> None:
        # A restored process inserts the directory of the program before all other entries.
        if isinstance(key, slice) or key in (0, -len(sys.path)):
            self._note(_PATH)

    def _note(self, what: str) -> None:
        files = modules_being_imported()
        if files:
            self.looks.add((what, sys._getframe(2).f_code.co_filename, files))


class StreamWatch:
    """Watches whether a program asks for the kind of a standard stream, without a system call."""

    def __init__(self, look: "Callable[[str], None]") -> None:
        def telling(plain: "Callable[..., Any]") -> "Callable[..., Any]":
            def method(*arguments: "Any", **keywords: "Any") -> "Any":
                look(_STREAM)
                return plain(*arguments, **keywords)

            return method

        self._parts: list[Any] = []
        for stream in (sys.__stdin__, sys.__stdout__, sys.__stderr__):
            buffer = getattr(stream, "buffer", None)
            parts = (stream, buffer, getattr(buffer, "raw", None))
            self._parts += [part for part in parts if part is not None]
        for part in self._parts:
            for name in _OF_KIND:
                setattr(part, name, telling(getattr(part, name)))

    def end(self) -> None:
        for part in self._parts:
            for name in _OF_KIND:
                vars(part).pop(name, None)


_OF_KIND = ("seek", "seekable", "tell", "truncate")

_READING = (
    "__contains__",
    "__eq__",
    "__getitem__",
    "__iter__",
    "__len__",
    "__repr__",
    "copy",
    "count",
    "index",
    "pop",
    "remove",
)


def modules_being_imported() -> tuple[str, ...]:
    files = []
    frame = sys._getframe()
    while frame is not None:
        code = frame.f_code
        if code.co_name == "<module>" and not code.co_filename.startswith("<frozen "):
            files.append(code.co_filename)
        frame = frame.f_back  # type: ignore[assignment]
    return tuple(files)


class Counting:
    """The looks of imports that count."""

    def __init__(
        self, looks: set[Look], excused: "Iterable[Excused]", compared: "Container[str]"
    ) -> None:
        excuses = {(what, file): fact for what, file, fact in excused}
        # Modules, and what they have looked at.
        self.found: dict[str, set[str]] = {}
        # Looks whose values are compared (`facts.rs`).
        self.facts: set[str] = set()
        names: dict[str, str] = {}
        for name, module in list(sys.modules.items()):
            if file := startup.variables_of(module).get("__file__"):
                names.setdefault(file, name)
        for what, function, files in looks:
            fact = excuse(what, files[0], excuses)
            if fact is None:
                fact = excuses.get((what, f"{function}()"), what if what in compared else None)
            if fact is not None:
                self.facts.update([fact] if fact else [])
            else:
                # The file of code in a `.pth` file, or in a call of `exec()`, begins with `<`.
                file = next((file for file in files if file[0] != "<"), BEFORE)
                self.found.setdefault(names.get(file, file), set()).add(what)

    def report(self) -> list[str]:
        """Return one text per module that has looked at something."""
        return [f"{name}: {', '.join(sorted(self.found[name]))}" for name in sorted(self.found)]
