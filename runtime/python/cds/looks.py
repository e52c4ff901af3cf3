"""What imports look at that differs from run to run, and what they do that others can see.

A process that is restored finds what was found when the image was taken.  What the image's key
compares is no such look (`looks.rs` has the system calls), nor what `_CATALOGUE` says to be
renewed, or not to be kept.
"""

import io
import os
import sys

# As in `startup`.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import Any

# What was looked at, and the files of the modules that were being imported, the innermost first.
Look = tuple[str, tuple[str, ...]]

_ARGUMENTS = "sys.argv"
_PATH = "sys.path[0]"
_PROGRAM = "__main__"

_CLOCK = "the clock"
_LIMITS = "its limits"
_NETWORK = "the network"
_OUTPUT = "the standard output"
_ERRORS = "the standard error stream"
_RANDOM = "random bytes"
_PROCESS = "the process id"
_SYSTEM = "the name of the system or the host"

# Modules, what they look at when they are imported, and what becomes of it in a restored process.
_CATALOGUE = {
    # Renewed: `startup.resumed()`.
    ("dateutil.parser._parser", _CLOCK): "the year of dates that have none",
    ("logging", _CLOCK): "records tell the time since then",
    ("multiprocessing.process", _PROCESS): "the child after a fork renews it",
    ("multiprocessing.process", _RANDOM): "the authentication key",
    ("multiprocessing.util", _LIMITS): "how many files may be open",
    ("numpy.random", _RANDOM): "the seed of the generator that all share",
    ("random", _RANDOM): "the seed of the generator that all share",
    ("ssl", _PROCESS): "OpenSSL's generator gets more random bytes",
    ("ssl", _RANDOM): "OpenSSL's generator gets more random bytes",
    ("urllib3.util.connection", _NETWORK): "whether there is IPv6",
    # Only the name of the system, which is Linux, or that of the processor's kind; `platform`
    # forgets the rest.
    ("numpy", _SYSTEM): "",
    ("numpy._core._add_newdocs_scalars", _SYSTEM): "",
    ("pandas.compat._constants", _SYSTEM): "",
    ("sqlalchemy.util.compat", _SYSTEM): "",
    ("uuid", _SYSTEM): "",
    # Not kept, or it follows from what is compared.
    ("_strptime", _CLOCK): "names of time zones: TZ and its files are compared",
    ("pandas._libs.tslibs", _CLOCK): "names of time zones: TZ and its files are compared",
    ("readline", _CLOCK): "the time of a line of its history, which is removed",
    ("rlcompleter", _CLOCK): "the time of a line of readline's history, which is removed",
    ("hashlib", _PROCESS): "OpenSSL's generator is not used by it",
    ("hashlib", _RANDOM): "OpenSSL's generator is not used by it",
}


def of_record(items: "Iterable[bytes]") -> "set[Look]":
    """Return the looks that the observer has recorded.

    Each has three lines: what it was, the files of functions that looked, and those of modules.
    What this package does is no look.
    """
    own = os.path.dirname(__file__)
    looks = set()
    for item in items:
        what, *lines = os.fsdecode(item).split("\n")
        functions, modules = (line.split("\t") for line in lines)
        if own not in map(os.path.dirname, functions):
            looks.add((what, tuple(modules)))
    return looks


def of_modules_beside(
    directory: str | None, missing: "dict[str, set[tuple[str, ...]]]"
) -> "set[Look]":
    """Return looks for modules that imports have not found, and that are in a directory."""
    if directory is None:
        return set()
    found = {name.partition(".")[0] for name in os.listdir(directory)}
    return {
        (f"the module {name} beside the program", files)
        for name in found.intersection(missing)
        for files in missing[name]
        if files
    }


class Watch:
    """Looks that need no system call."""

    def __init__(self) -> None:
        self.looks: set[Look] = set()
        note = self._note
        # Whoever takes the image gives these lists these types, and takes them away.
        self.lists = [
            (sys.argv, _watched(lambda name, key: note(_ARGUMENTS), _READING)),
            (sys.path, _watched(self._path_read, ("__getitem__",))),
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

    def end(self) -> None:
        """Watch `__main__` and the streams no longer."""
        self._program.__class__ = self._program_type
        for stream, _ in self._streams:
            vars(stream).pop("write", None)
        # Nothing is to hold them when the image is taken.
        del self._program, self._streams

    def _telling(self, plain: "Callable[[str], int]", what: str) -> "Callable[[str], int]":
        def write(text: str) -> int:
            self._note(what)
            return plain(text)

        return write

    def _path_read(self, name: str, key: "Any") -> None:
        if isinstance(key, slice) or key in (0, -len(sys.path)):
            self._note(_PATH)

    def _note(self, what: str) -> None:
        files = modules_being_imported()
        if files:
            self.looks.add((what, files))


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


def _watched(note: "Callable[[str, Any], None]", names: tuple[str, ...]) -> type:
    """Return a class of lists that tell when one of these methods is called."""

    def telling(name: str) -> "Callable[..., Any]":
        plain = getattr(list, name)

        def method(self: "Any", *arguments: "Any") -> "Any":
            note(name, arguments[0] if arguments else None)
            return plain(self, *arguments)

        return method

    namespace: dict[str, Any] = {name: telling(name) for name in names}
    return type("list", (list,), namespace | {"__slots__": ()})


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

    def __init__(self, looks: set[Look]) -> None:
        # Modules, and what they have looked at.
        self.found: dict[str, set[str]] = {}
        # These and others that were being imported then, since they had it look at that.
        self.modules: set[str] = set()
        names: dict[str, str] = {}
        for name, module in list(sys.modules.items()):
            if file := getattr(module, "__file__", None):
                names.setdefault(file, name)
        for what, files in looks:
            modules = [names.get(file, file) for file in files]
            if (modules[0], what) not in _CATALOGUE:
                self.found.setdefault(modules[0], set()).add(what)
                self.modules.update(modules)

    def report(self) -> list[str]:
        """Return a text for each module that has looked at something."""
        return [f"{name}: {', '.join(sorted(self.found[name]))}" for name in sorted(self.found)]

    def with_users(self) -> set[str]:
        """Return these modules, and those that have something of them."""
        found = set(self.modules)
        while True:
            users = {name for name in sys.modules if name not in found and _uses(name, found)}
            if not users:
                return found
            found |= users


def _uses(name: str, modules: set[str]) -> bool:
    for thing in list(getattr(sys.modules[name], "__dict__", {}).values()):
        own = getattr(thing, "__name__" if isinstance(thing, type(sys)) else "__module__", None)
        if isinstance(own, str) and own in modules:
            return True
    return False
