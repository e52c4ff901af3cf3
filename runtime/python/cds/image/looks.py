"""What imports look at that differs from run to run, and what they do that others can see.

A process that is restored finds what was found when the image was taken.  What the image's key
compares is no such look (`looks.rs` has the system calls), nor what `_CATALOGUE` says to be
renewed, or not to be kept.
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

# What was looked at, the file of the function that did it, and those of the modules that were being
# imported, the innermost first.
Look = tuple[str, str, tuple[str, ...]]

# What may be looked at, the file of the module that may do so, and what is compared instead, if
# anything is (`excused()`).
Excused = tuple[str, str, str]

_PATH = "sys.path[0]"
_PROGRAM = "__main__"

_CLOCK = "the clock"
_LIMITS = "the set of resource limits"
_NETWORK = "the network"
_OUTPUT = "the standard output"
_ERRORS = "the standard error stream"
_RANDOM = "random bytes"
# From a generator that all modules share.
NUMBERS = "random numbers"
_STREAM = "the kind of a standard stream"
_PROCESS = "the process id"
_SYSTEM = "the name of the system or the host"
YEAR = "the year"
# In the place of a file of what comes before all imports.
BEFORE = "sitecustomize or a .pth file"
_OF_SYSTEM = ", which tells of the system"
_NAMESPACE = f"/proc/self/ns/pid{_OF_SYSTEM}"
_MEMORY = f"/proc/meminfo{_OF_SYSTEM}"
_PROCESSORS = f"/proc/stat{_OF_SYSTEM}"

# Modules, or all of a package (`.*`), what they look at when they are imported, and what becomes of it
# in a restored process.  With `()` behind it, it is the functions of a module, whoever calls them.
_CATALOGUE = {
    # As the secret of Python's hashes, it is the same in all processes of an image.
    ("lxml.etree()", _RANDOM): "the secret of libxml2's hashes",
    # Renewed: `startup.resumed()`.
    ("bson.objectid", _PROCESS): "the process whose random bytes they are",
    ("bson.objectid", _RANDOM): "what tells the ids of processes apart, and where they begin",
    ("dateutil.parser._parser", _CLOCK): "the year of dates that have none",
    ("filelock.*", _PROCESS): "it knows a forked child by it",
    ("filelock._core._fork", _NAMESPACE): "it knows a forked child by it",
    ("filelock._core._fork()", _PROCESS): "it knows a forked child by it",
    ("fsspec.*", _PROCESS): "classes of file systems know a forked child by it",
    ("hypothesis.internal.conjecture.engine", _RANDOM): "a generator that has no seed",
    ("flake8.main.application()", _CLOCK): "statistics tell the time since then",
    ("hypothesis.internal.observability", _CLOCK): "records tell the time since then",
    ("logging", _CLOCK): "records tell the time since then",
    ("loguru._logger", _CLOCK): "records tell the time since then",
    ("multiprocessing.heap", _PROCESS): "it knows a forked child by it",
    ("billiard.process", _RANDOM): "the authentication key",
    ("multiprocessing.process", _PROCESS): "the child after a fork renews it",
    ("multiprocessing.process", _RANDOM): "the authentication key",
    ("multiprocessing.util", _LIMITS): "how many files may be open",
    ("numpy.random", _RANDOM): "the seed of the generator that all share",
    ("numpy.random._pickle", _RANDOM): "a generator that has no state",
    ("pymongo.pool_options", _SYSTEM): "the release of the kernel",
    ("random", _RANDOM): "the seed of the generator that all share",
    ("rich.style", NUMBERS): "ids of links, which tell them apart within a process",
    ("pip._vendor.rich.style", NUMBERS): "the same",
    ("structlog.stdlib", _CLOCK): "a record of which the names of its parts are used",
    ("structlog.stdlib", _PROCESS): "a record of which the names of its parts are used",
    ("threading", _PROCESS): "the id of the main thread",
    ("s3fs.core", _PROCESS): "its class of file systems knows a forked child by it",
    ("secrets", _RANDOM): "a generator that has no state",
    ("sqlfluff.core.helpers.identity", _RANDOM): "what tells keys of processes apart",
    ("ssl", _PROCESS): "OpenSSL's generator gets more random bytes",
    ("ssl", _RANDOM): "OpenSSL's generator gets more random bytes",
    ("urllib3.util.connection", _NETWORK): "whether there is IPv6",
    ("psutil", _PROCESSORS): "what it has used of the processors by then",
    # Only the name of the system, which is Linux, or that of the processor's kind; `platform`
    # forgets the rest.
    ("aiohttp.helpers", _SYSTEM): "",
    ("hypothesis.internal.compat", _SYSTEM): "",
    ("numpy", _SYSTEM): "",
    ("numpy._core._add_newdocs_scalars", _SYSTEM): "",
    ("numpy.testing._private.utils", _SYSTEM): "",
    ("pandas.compat._constants", _SYSTEM): "",
    ("sqlalchemy.util.compat", _SYSTEM): "",
    ("truststore._api", _SYSTEM): "",
    ("uuid", _SYSTEM): "",
    # Of it is only kept what is compared instead: `_FACTS`.
    ("IPython.core.tips", _CLOCK): "how old things are, in years",
    ("distributed.system", _MEMORY): "how much there is",
    # Not kept, or it follows from what is compared.
    ("dask.system", _PROCESS): "how many processors may be used",
    ("dask.system", f"/proc/self/stat{_OF_SYSTEM}"): "when the process was started",
    ("pandas._libs.tslibs", _CLOCK): "names of time zones: TZ and its files are compared",
    ("psutil._pslinux", _PROCESS): "whether the kernel has certain files",
    ("psutil._pslinux", f"/proc/self/io{_OF_SYSTEM}"): "whether it is there",
    ("psutil._pslinux", f"/proc/self/smaps{_OF_SYSTEM}"): "whether it is there",
    ("psutil._pslinux", f"/proc/self/smaps_rollup{_OF_SYSTEM}"): "whether it is there",
    ("psutil._pslinux", _PROCESSORS): "how many numbers it has: the kernel is compared",
    ("hashlib", _PROCESS): "OpenSSL's generator is not used by it",
    ("hashlib", _RANDOM): "OpenSSL's generator is not used by it",
}


# What is compared where a module has looked at something: names of `facts.rs`.
_FACTS = {
    ("IPython.core.tips", _CLOCK): YEAR,
    ("distributed.system", _MEMORY): "the amount of memory",
}


def of_record(items: "Iterable[bytes]") -> "set[Look]":
    """Return the looks that the observer has recorded.

    Each has three lines: what it was, the files of functions that looked, and those of modules.
    What this package does is no look.
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
    """Return the looks of the catalogue, each with a file that such a module may be.

    Of a package it is the directory, with a slash behind it, and of functions the file with `()`
    behind it.  The modules are those of the standard library, or lie in one of these directories: a
    program may have others of the same name.
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
    """Return the module or package that a name of the catalogue has, and how its files end."""
    if name.endswith(".*"):
        return name.removesuffix(".*"), ("/",)
    if name.endswith("()"):
        suffixes = (".py", "/__init__.py", *_imp.extension_suffixes())
        return name.removesuffix("()"), tuple(f"{suffix}()" for suffix in suffixes)
    return name, (".py", "/__init__.py")


def excuse(what: str, file: str, excused: "Mapping[tuple[str, str], str]") -> str | None:
    """Return what is compared instead where a module, by its file, looks at something.

    It is nothing for a look that is harmless, and None if there is no such entry. `Watch` in watch.rs
    does the same.
    """
    found = excused.get((what, file))
    directory = os.path.dirname(file)
    while found is None and directory not in ("", "/"):
        found = excused.get((what, directory + "/"))
        directory = os.path.dirname(directory)
    return found


class Watch:
    """Looks that need no system call."""

    def __init__(self) -> None:
        self.looks: set[Look] = set()
        note = self._note
        # Whoever takes the image gives these lists these types, and takes them away.
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
                # The import statement asks for it.
                if name != "__spec__":
                    note(_PROGRAM)
                return super().__getattribute__(name)

        Program.__name__ = Program.__qualname__ = "module"
        self._program.__class__ = Program

        # What is written may stay in their buffers.
        self._streams = [
            (stream, what)
            for stream, what in ((sys.stdout, _OUTPUT), (sys.stderr, _ERRORS))
            if type(stream) is io.TextIOWrapper
        ]
        for stream, what in self._streams:
            stream.write = self._telling(stream.write, what)  # type: ignore[method-assign]
        self._stream_watch = StreamWatch(note)

    def end(self) -> None:
        """Watch `__main__` and the streams no longer."""
        self._stream_watch.end()
        self._program.__class__ = self._program_type
        for stream, _ in self._streams:
            vars(stream).pop("write", None)
        # Nothing is to hold them when the image is taken.
        del self._program, self._streams, self._stream_watch

    def _telling(self, plain: "Callable[[str], int]", what: str) -> "Callable[[str], int]":
        def write(text: str) -> int:
            self._note(what)
            return plain(text)

        return write

    def _path_used(self, name: str, key: "Any") -> None:
        # The directory of the program is put before all that imports have put there.
        if isinstance(key, slice) or key in (0, -len(sys.path)):
            self._note(_PATH)

    def _note(self, what: str) -> None:
        files = modules_being_imported()
        if files:
            self.looks.add((what, sys._getframe(2).f_code.co_filename, files))


class StreamWatch:
    """Whether a program asks of what kind the standard streams are: they know without a call."""

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
    """What counts of the looks of imports."""

    def __init__(
        self, looks: set[Look], excused: "Iterable[Excused]", compared: "Container[str]"
    ) -> None:
        excuses = {(what, file): fact for what, file, fact in excused}
        # Modules, and what they have looked at.
        self.found: dict[str, set[str]] = {}
        # What of it is compared (`facts.rs`).
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
                # A line of a `.pth` file is code by itself, as what a module gives to `exec()`.
                file = next((file for file in files if file[0] != "<"), BEFORE)
                self.found.setdefault(names.get(file, file), set()).add(what)

    def report(self) -> list[str]:
        """Return a text for each module that has looked at something."""
        return [f"{name}: {', '.join(sorted(self.found[name]))}" for name in sorted(self.found)]
