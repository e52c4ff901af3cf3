"""Watches what Python code reads and changes in the environment.

One dict is behind `os.environ`, `os.environb` and `posix.environ`.  In the process that becomes an
image, its class is `Watched`, from before the import of `site` until the imports are done.
"""

import gc
import posix
import sys

from cds.image import usersite

# As in `startup`.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from typing import Any

# Suffixes of the path of the request.  A look at the path with a suffix tells the tracer that the
# import of `site` begins.
START = ".start"

# A process that imports have forked has read a variable, or all variables.
ASKED = ".asked."
WALKED = ".walked"

# Shells change these variables with each command.  If imports go through all variables, these
# count only if their values were kept.
OF_SHELLS = (b"_", b"OLDPWD", b"PWD", b"SHLVL")

# The number of objects that are searched at once.
_AT_ONCE = 10_000


class Changes:
    """Changes of variables, independent of their earlier values."""

    def __init__(self) -> None:
        # A dict, for its order.  A variable that is removed and set again comes last.
        self.removed: dict[bytes, None] = {}
        self.assigned: dict[bytes, bytes] = {}

    def assign(self, name: bytes, value: bytes) -> None:
        self.assigned[name] = value

    def remove(self, name: bytes) -> None:
        self.removed[name] = None
        self.assigned.pop(name, None)

    def made_to(self, variables: dict[bytes, bytes]) -> dict[bytes, bytes]:
        """Return the variables after the changes."""
        kept = {name: value for name, value in variables.items() if name not in self.removed}
        return kept | self.assigned

    @classmethod
    def between(cls, then: dict[bytes, bytes], now: dict[bytes, bytes]) -> "Changes":
        """Return changes that lead from one environment to another, apart from the order."""
        changes = cls()
        changes.removed = {name: None for name in then if name not in now}
        changes.assigned = {name: now[name] for name in now if then.get(name) != now[name]}
        return changes


class Watch:
    """Records what Python code reads and changes in the environment."""

    def __init__(
        self, environ: dict[bytes, bytes], started: dict[bytes, bytes], request: bytes = b""
    ) -> None:
        self._request = request
        self.environ = environ
        self.started = started
        # The callback does not refer to this object: nothing would free the reference cycle.
        self.user_site = usersite.Watch(_ask_for_home)
        # Locale coercion (PEP 538) has changed the environment before.
        self.changes = Changes.between(started, dict(dict.items(environ)))
        self._process = posix.getpid()
        self._asked: set[bytes] = set()
        # Whether code has looked at all variables.
        self.has_walked = False
        # The next names if code reads all values in turn, and the names that it has read so.
        self._expected: list[bytes] = []
        self._followed: list[bytes] = []

    def read(self, name: object) -> None:
        """Record that code reads a variable, alone or as part of reading all in turn."""
        if not isinstance(name, bytes):
            return
        if self._expected:
            if name == self._expected[-1]:
                self._followed.append(self._expected.pop())
                if not self._expected:
                    self._followed.clear()
                return
            self._end_walk()
        if name == usersite.HOME and self._is_start_of_site():
            return
        self.ask(name)

    def _is_start_of_site(self) -> bool:
        # Without HOME, the directory comes from the user database (pwd).
        return usersite.HOME in self.started and self.user_site.is_start(sys._getframe())

    def ask(self, name: bytes) -> None:
        """Record that code knows the value of a variable."""
        self._asked.add(name)
        self._tell(ASKED.encode() + name)

    def walk(self, follows: bool = False) -> None:
        """Record that code looks at all variables; with `follows`, it may read all values next."""
        self.has_walked = True
        self._tell(WALKED.encode())
        if follows:
            self._end_walk()
            self._expected = list(dict.keys(self.environ))[::-1]

    def _tell(self, what: bytes) -> None:
        """Tell the tracer, if this is a forked process."""
        if posix.getpid() != self._process:
            look_for(self._request + what)

    def _end_walk(self) -> None:
        self._asked.update(self._followed)
        self._followed.clear()
        self._expected.clear()

    def asked(self) -> set[bytes]:
        """Return the names of variables that were read."""
        self._end_walk()
        return self._asked

    def take_asked(self) -> set[bytes]:
        """Return the names of variables that were read, and forget them."""
        asked, self._asked = self.asked(), set()
        return asked

    def keeps_walk(self) -> bool:
        """Return whether code that looked at all variables may have kept variables of shells."""
        has_removed = bool(self.changes.removed)
        return self.has_walked and (has_removed or are_kept((self.environ, self.started)))

    def exact_changes(self) -> tuple[Changes, bool]:
        """Return the changes, and whether the recorded changes explain the environment."""
        now = dict(dict.items(self.environ))
        if list(self.changes.made_to(self.started).items()) == list(now.items()):
            return self.changes, True
        return Changes.between(self.started, now), False


class Watched(dict[bytes, bytes]):
    """The environment, which reports each access to `current`.

    C code cannot bypass the methods: it accesses a dict directly only if the class is exactly
    `dict`, or if it has the iterator of `dict`.
    """

    __slots__ = ()

    def __getitem__(self, name: bytes) -> bytes:
        current.read(name)
        return dict.__getitem__(self, name)

    def get(self, name: bytes, default: "Any" = None) -> "Any":
        current.read(name)
        return dict.get(self, name, default)

    def __contains__(self, name: object) -> bool:
        current.read(name)
        return dict.__contains__(self, name)

    def __iter__(self) -> "Iterator[bytes]":
        current.walk(follows=True)
        return dict.__iter__(self)

    def keys(self) -> "Any":
        current.walk(follows=True)
        return dict.keys(self)

    def values(self) -> "Any":
        current.walk()
        return dict.values(self)

    def items(self) -> "Any":
        current.walk()
        return dict.items(self)

    def __len__(self) -> int:
        current.walk()
        return dict.__len__(self)

    def __reversed__(self) -> "Iterator[bytes]":
        current.walk()
        return dict.__reversed__(self)

    def __repr__(self) -> str:
        current.walk()
        return dict.__repr__(self)

    def __eq__(self, other: object) -> bool:
        current.walk()
        return dict.__eq__(self, other)

    def __ne__(self, other: object) -> bool:
        current.walk()
        return dict.__ne__(self, other)

    def __or__(self, other: "Any") -> "Any":
        current.walk()
        return dict.__or__(self, other)

    def __ror__(self, other: "Any") -> "Any":
        current.walk()
        return dict.__ror__(self, other)

    def copy(self) -> dict[bytes, bytes]:
        current.walk()
        return dict.copy(self)

    def __reduce_ex__(self, _protocol: object) -> "Any":
        # A copy is an ordinary dict.
        return dict, (self.copy(),)

    def __setitem__(self, name: bytes, value: bytes) -> None:
        dict.__setitem__(self, name, value)
        current.changes.assign(name, value)

    def setdefault(self, name: bytes, default: "Any" = None) -> "Any":
        if name not in self:
            self[name] = default
        return dict.__getitem__(self, name)

    def update(self, *args: "Any", **kwargs: "Any") -> None:
        for name, value in dict(*args, **kwargs).items():
            self[name] = value

    def __ior__(self, other: "Any") -> "Any":
        self.update(other)
        return self

    def __delitem__(self, name: bytes) -> None:
        # The result shows whether the variable was set.
        current.read(name)
        dict.__delitem__(self, name)
        current.changes.remove(name)

    def pop(self, name: bytes, *default: "Any") -> "Any":
        current.read(name)
        value = dict.pop(self, name, *default)
        current.changes.remove(name)
        return value

    def popitem(self) -> tuple[bytes, bytes]:
        current.walk()
        name, value = dict.popitem(self)
        current.changes.remove(name)
        return name, value

    def clear(self) -> None:
        current.walk()
        for name in dict.keys(self):
            current.changes.remove(name)
        dict.clear(self)


current: Watch


def _ask_for_home() -> None:
    current.ask(usersite.HOME)


def watch(request: str) -> dict[bytes, bytes]:
    """Begin to watch; the caller sets the class of the returned dict to `Watched`."""
    global current
    with open("/proc/self/environ", "rb") as file:
        started = of_texts(file.read().split(b"\0"))
    begins = request.encode("utf-8", "surrogateescape")
    current = Watch(posix.environ, started, begins)
    look_for(begins + START.encode())
    return posix.environ


def look_for(path: bytes) -> None:
    """Make a system call that the tracer sees."""
    try:
        posix.readlink(path)
    except OSError:
        pass


def of_texts(texts: "Iterable[bytes]") -> dict[bytes, bytes]:
    """Return variables from texts; as in the interpreter, the first text with a name counts."""
    variables: dict[bytes, bytes] = {}
    for text in texts:
        name, equals, value = text.partition(b"=")
        if equals:
            variables.setdefault(name, value)
    return variables


def changes_in_c(
    started: dict[bytes, bytes], recorded: "Iterable[tuple[str, bytes]]", now: dict[bytes, bytes]
) -> tuple[Changes, bool]:
    """Return the changes of C code, and whether the recorded calls explain the environment.

    `recorded` are the calls since the start: kinds (`entries.rs`) and texts.
    """
    changes = Changes()
    for kind, text in recorded:
        name, _, value = text.partition(b"=")
        variables = changes.made_to(started)
        if kind == "set" or (kind == "set default" and name not in variables):
            changes.assign(name, value)
        elif kind == "removed":
            changes.remove(name)
        elif kind == "cleared":
            for name in variables:
                changes.remove(name)
    if list(changes.made_to(started).items()) == list(now.items()):
        return changes, True
    return Changes.between(started, now), False


def are_kept(own: "Iterable[dict[bytes, bytes]]") -> bool:
    """Return whether an object has kept a variable of shells.

    Such an object is a mapping, a pair of name and value, or a text `NAME=VALUE`.  The dicts of
    `own` do not count.
    """
    # `_` is the name of many things.  Code that keeps all variables also keeps the other names.
    names = OF_SHELLS[1:]
    texts = tuple(name.decode() for name in names)
    known = {*names, *texts}
    starts = tuple(f"{text}=" for text in texts), tuple(name + b"=" for name in names)
    excluded = set(map(id, own))

    def is_kept(item: "Any") -> bool:
        kind = type(item)
        if kind is str or kind is bytes:
            begins = starts[kind is bytes]
            return item.startswith(begins) and item not in begins
        if kind is tuple or kind is list:
            return len(item) == 2 and type(item[0]) in (str, bytes) and item[0] in known
        if issubclass(kind, dict) and id(item) not in excluded:
            return any(dict.__contains__(item, name) for name in known)
        return False

    tracked = gc.get_objects()
    for first in range(0, len(tracked), _AT_ONCE):
        containers = tracked[first : first + _AT_ONCE]
        if any(map(is_kept, containers)):
            return True
        while containers:
            found = gc.get_referents(*containers)
            if any(map(is_kept, found)):
                return True
            # The garbage collector does not track containers that have only texts and the like.
            containers = [
                item for item in found if type(item) in (dict, tuple) and not gc.is_tracked(item)
            ]
    return False
