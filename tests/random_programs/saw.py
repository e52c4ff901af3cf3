"""Collects what modules have seen, until the program prints it."""

import contextvars
import os
import sys
import types
import weakref
from collections.abc import Callable
from typing import Any

# Each line with its place.
NOTES: list[tuple[str, str]] = []
# Place, kind and function.
LATER: list[tuple[str, str, Callable[[], object]]] = []
FLAGS: dict[str, Any] = {}
KEPT: dict[str, object] = {}
VALUES: list[str] = []
WATCHED: weakref.WeakValueDictionary[str, "Watched"] = weakref.WeakValueDictionary()
VARIABLE = contextvars.ContextVar("VARIABLE", default="default")

_PROJECT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
OUT = os.path.join(_PROJECT, "out")
EXTRA = os.path.join(_PROJECT, "extra")
# The random values of earlier runs.
_VALUES = os.path.join(_PROJECT, "made", "values")
EXECUTABLE = sys.executable

_is_finished = False


def note(*what: object) -> None:
    _tell(sys._getframe(1).f_globals["__name__"], " ".join(map(str, what)))


def _tell(place: str, line: str) -> None:
    if _is_finished:
        os.write(1, f"{line}\n".encode())
    else:
        NOTES.append((place, line))


def _looked(place: str, kind: str, look: Callable[[], object], when: str = "") -> None:
    try:
        value = look()
    except Exception as error:  # noqa: BLE001
        value = type(error).__name__
    _tell(place, f"{place}{when} [{kind}] {value}")


def look(place: str, kind: str, look: Callable[[], object]) -> None:
    """Look now, and again at the end."""
    _looked(place, kind, look)
    LATER.append((place, kind, look))


def at_end(kind: str, look: Callable[[], object]) -> None:
    LATER.append(("at the end", kind, look))


def keep[T](name: str, value: T) -> T:
    """Return the first value that has been kept under a name."""
    return KEPT.setdefault(name, value)  # type: ignore[return-value]


def finish() -> None:
    """Print all lines, by place or in the order of events."""
    global _is_finished
    is_ordered = "ordered" in FLAGS
    for place, kind, look in LATER if is_ordered else sorted(LATER, key=lambda of: of[0]):
        _looked(place, kind, look, " later")
    if VALUES:
        note("random values are new:", _are_new())
    for _, line in NOTES if is_ordered else sorted(NOTES, key=lambda of: of[0]):
        print(line)
    sys.stdout.flush()
    sys.stderr.flush()
    _is_finished = True


class Resource:
    """Notes its end."""

    def __init__(self, name: str) -> None:
        self.name = name

    def __del__(self, tell: Callable[[str, str], None] = _tell) -> None:
        tell(f"resource {self.name}", f"closed {self.name}")


class Watched:
    """An object for weak references."""

    def __init__(self, name: str) -> None:
        self.name = name


def append(name: str, text: str) -> None:
    with open(os.path.join(OUT, name), "a") as file:
        file.write(f"{text}\n")


def fork(text: str) -> None:
    child = os.fork()
    if child == 0:
        append("fork.txt", text)
        os._exit(0)
    note("fork", os.waitpid(child, 0)[1])


def umask() -> int:
    with open("/proc/self/status") as file:
        return next(int(line.split()[1], 8) for line in file if line.startswith("Umask"))


def started_monotonic() -> float:
    """Return the start time of this process, by the clock that starts with the machine."""
    with open("/proc/self/stat") as file:
        return int(file.read().rpartition(")")[2].split()[19]) / os.sysconf("SC_CLK_TCK")


def started() -> float:
    import time

    return time.time() - time.clock_gettime(time.CLOCK_BOOTTIME) + started_monotonic()


def unique(value: str) -> None:
    """Keep a random value, which must differ from those of all other runs."""
    VALUES.append(value)


def _are_new() -> bool:
    """Return whether no earlier run had these random values."""
    known: set[str] = set()
    if os.path.exists(_VALUES):
        with open(_VALUES) as file:
            known.update(file.read().split())
    with open(_VALUES, "a") as file:
        file.writelines(f"{value}\n" for value in VALUES)
    return known.isdisjoint(VALUES) and len(set(VALUES)) == len(VALUES)


def is_made_up(name: str | None) -> bool:
    # Names are None when modules are cleared at the end.
    return name is not None and name[:1] in ("m", "p") and name[1:2].isdigit()


def callers() -> list[str]:
    """Return the modules whose frames are on the stack."""
    names: list[str] = []
    frame: types.FrameType | None = sys._getframe(1)
    while frame is not None:
        names.append(str(frame.f_globals.get("__name__")))
        frame = frame.f_back
    return [name for name in names if name == "__main__" or is_made_up(name)]
