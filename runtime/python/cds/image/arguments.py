"""What a program, or `site` before it, does with its arguments: the lists tell.

It is imported before `site`, and imports nothing that a start would import later.
"""

import sys

from cds.image import variables

# As in `startup`.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import Any

NAME = "sys.argv"

# Methods that do not say what is in a list.
_ABOUT_TYPE = (
    "__class_getitem__",
    "__getattribute__",
    "__init__",
    "__init_subclass__",
    "__new__",
)


class ArgumentWatch:
    """What a program does with its arguments.

    Its own name is the same in each start.  How many there are is compared, and perhaps what they
    are; what the interpreter has got is not.
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
        # Whoever takes the image gives these lists these types, and takes them away.
        self.lists = [
            (sys.argv, watched(note, [*names, "__radd__"])),
            (sys.orig_argv, watched(lambda name, key: look(NAME), [*names, "__radd__"])),
        ]


def watched(note: "Callable[[str, Any], None]", names: "Iterable[str]") -> type:
    """Return a class of lists that tell when one of these methods is called."""

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


# What a path has behind that of the request, for a look before the program begins: see `point.rs`.
EARLY = ".early."

_early: list[ArgumentWatch] = []


def watch_early(request: str) -> ArgumentWatch:
    """Watch what `site` does with the arguments; what comes then has a watch of its own."""

    def look(what: str) -> None:
        variables.look_for((request + EARLY + what).encode("utf-8", "surrogateescape"))

    _early.append(ArgumentWatch(look, lambda: look(NAME), lambda: look(NAME)))
    return _early[0]


def end_early() -> ArgumentWatch:
    """Forget that watch; the caller takes it from the arguments."""
    return _early.pop()
