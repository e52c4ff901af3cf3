"""Files and directories that imports make.

A program that starts anew makes its own, if it does not find what another has made: a temporary
directory, for one.  A restored process would have that of the image.
"""

import os

# As in `startup`.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any

# Audit events about a path that may be made, and which argument that is.
_EVENTS = {"os.mkdir": 0, "os.symlink": 1, "os.link": 1, "os.rename": 1}


class Creations:
    """What was not there when it was to be made, as far as Python code made it.

    If this process is observed, that is known from outside, and to look here would be noted.
    """

    def __init__(self) -> None:
        self.paths: set[str] = set()
        self._is_observed = _is_observed()

    def note(self, event: str, arguments: "tuple[Any, ...]") -> None:
        """Take notice of an audit event, before what it is about is done."""
        index = _EVENTS.get(event)
        if event == "open" and arguments[2] & os.O_CREAT:
            index = 0
        if self._is_observed or index is None or not isinstance(arguments[index], (str, bytes)):
            return
        path = os.path.abspath(os.fsdecode(arguments[index]))
        if not os.path.lexists(path):
            self.paths.add(path)


def _is_observed() -> bool:
    """Say whether a thread of the parent traces this process."""
    with open("/proc/self/status", encoding="utf-8", errors="replace") as file:
        fields = dict(line.partition(":")[::2] for line in file)
    return os.path.exists(f"/proc/{os.getppid()}/task/{fields['TracerPid'].strip()}")


def remaining(paths: "Iterable[str]", own: str) -> list[str]:
    """Return what is there now, but what is below `own`, or is compiled code."""
    return sorted(path for path in paths if _counts(path, own) and os.path.lexists(path))


def _counts(path: str, own: str) -> bool:
    return not (path.startswith(f"{own}/") or path.endswith(".pyc") or "__pycache__" in path)
