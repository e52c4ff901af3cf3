"""Watches what a program, or `site` before it, does with the lists of its arguments.

This module is imported before `site`.  It imports nothing that a start imports later.
"""

import sys

from cds.image import variables

# As in `startup`.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import Any

NAME = "sys.argv"

# Methods that do not depend on the contents of a list.
_ABOUT_TYPE = (
    "__class_getitem__",
    "__getattribute__",
    "__init__",
    "__init_subclass__",
    "__new__",
)


class ArgumentWatch:
    """Watches what a program does with its arguments.

    The name of the program is the same in each start.  The key compares the number of arguments,
    and perhaps the arguments.  It does not compare `sys.orig_argv`.
    """

    def __init__(
        self,
        look: "Callable[[str], None]",
        count: "Callable[[], None]",
        look_at_arguments: "Callable[[], None]",
    ) -> None:
        def note(name: str, key: "Any") -> None:
            if name == "__len__":
                count()
            elif not (name in ("__getitem__", "__setitem__") and type(key) is int and key == 0):
                look_at_arguments()

        names = [
            name
            for name, method in vars(list).items()
            if callable(method) and name not in _ABOUT_TYPE
        ]
        # The library gives the lists these types, and later their old types again.
        self.lists = [
            (sys.argv, watched(note, [*names, "__radd__"])),
            (sys.orig_argv, watched(lambda name, key: look(NAME), [*names, "__radd__"])),
        ]


def watched(note: "Callable[[str, Any], None]", names: "Iterable[str]") -> type:
    """Return a class of lists that call `note` when one of these methods is called."""

    def telling(name: str) -> "Callable[..., Any]":
        plain = getattr(list, name, None)

        def method(self: "Any", *arguments: "Any", **keywords: "Any") -> "Any":
            note(name, arguments[0] if arguments else None)
            if plain is None:
                return NotImplemented
            return plain(self, *arguments, **keywords)

        return method

    namespace: dict[str, Any] = {name: telling(name) for name in names}
    return type("list", (list,), namespace | {"__slots__": ()})


# Follows the path of the request in a path that reports a look before the program begins
# (`point.rs`).
EARLY = ".early."

_early: list[ArgumentWatch] = []


def watch_early(request: str) -> ArgumentWatch:
    """Watch what `site` does with the arguments; the program gets another watch."""

    def look(what: str) -> None:
        variables.look_for((request + EARLY + what).encode("utf-8", "surrogateescape"))

    _early.append(ArgumentWatch(look, lambda: look(NAME), lambda: look(NAME)))
    return _early[0]


def end_early() -> ArgumentWatch:
    """Forget and return this watch; the caller removes it from the lists."""
    return _early.pop()
