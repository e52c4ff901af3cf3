"""Postpones the set-up of readline until the module is used, or the image is restored.

The set-up depends on the terminal, on HOME and other variables, and on files of the user.  Most
programs load the module with pdb or rlcompleter, and do not use it.
"""

import sys

# As in `startup`.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from types import ModuleType
    from typing import Any
else:
    # A start does not import `types`.
    ModuleType = type(sys)

# Attributes that do not depend on the set-up.  The other attributes may depend on it, or give
# access to the library.
_INDEPENDENT = frozenset(
    ("__class__", "__doc__", "__loader__", "__name__", "__package__", "__path__", "__spec__")
    + ("get_completer", "set_completer")
)

# An import reads more attributes, but does not pass them on.
_IMPORTER = "<frozen importlib._bootstrap>"

# Variables that the C library, readline and its terminal library read (readline(3), ncurses(3X),
# setlocale(3)).
_VARIABLES = (b"COLUMNS", b"HOME", b"INPUTRC", b"LANG", b"LINES")
_BEGINNINGS = (b"LC_", b"TERM", b"NCURSES_")

# The module, as long as its set-up is postponed.
_waiting: "list[ModuleType]" = []
_set_up: "Callable[[], object]"


def begin(set_up: "Callable[[], object]") -> None:
    """Store the function that does the set-up."""
    global _set_up
    _set_up = set_up


class Waiting(ModuleType):
    """The class of a module that is set up when it is used."""

    def __getattribute__(self, name: str) -> "Any":
        if name not in _INDEPENDENT and sys._getframe(1).f_code.co_filename != _IMPORTER:
            finish()
        return ModuleType.__getattribute__(self, name)


def watch(module: ModuleType) -> None:
    """Postpone the set-up of a module until it is used."""
    module.__class__ = Waiting
    _waiting.append(module)


def finish() -> None:
    """Do the postponed set-up now."""
    if _waiting:
        end()
        _set_up()


def end() -> None:
    """Make the module an ordinary module again, without the set-up."""
    while _waiting:
        _waiting.pop().__class__ = ModuleType


def is_waiting() -> bool:
    """Return whether a set-up is postponed."""
    return bool(_waiting)


def changed_by_c(python: "Mapping[bytes, bytes]", c: "Mapping[bytes, bytes]") -> "Iterable[bytes]":
    """Yield variables that the set-up reads, and that C code has changed."""
    for name in sorted({*python, *c}):
        counts = name in _VARIABLES or name.startswith(_BEGINNINGS)
        if counts and python.get(name) != c.get(name):
            yield name
