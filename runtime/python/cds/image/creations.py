"""Records files and directories that imports make.

In each plain start, imports make files again if they do not find them: a temporary directory, for
example.  But restored processes would all use the files of the image.
"""

import os

# As in `startup`.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any

# Audit events that come before a path is made, and the index of the path in their arguments.
_EVENTS = {"os.mkdir": 0, "os.symlink": 1, "os.link": 1, "os.rename": 1}


class Creations:
    """Paths that Python code makes, and that did not exist before.

    If this process is observed, the observer records such paths.  Then this class does nothing,
    because its own look at a path would be recorded.
    """

    def __init__(self) -> None:
        self.paths: set[str] = set()
        self._is_observed = _is_observed()

    def note(self, event: str, arguments: "tuple[Any, ...]") -> None:
        """Record the path of an audit event; the event comes before the action."""
        index = _EVENTS.get(event)
        if event == "open" and arguments[2] & os.O_CREAT:
            index = 0
        if self._is_observed or index is None or not isinstance(arguments[index], (str, bytes)):
            return
        path = os.path.abspath(os.fsdecode(arguments[index]))
        if not os.path.lexists(path):
            self.paths.add(path)


def _is_observed() -> bool:
    """Return whether a thread of the parent traces this process."""
    with open("/proc/self/status", encoding="utf-8", errors="replace") as file:
        fields = dict(line.partition(":")[::2] for line in file)
    return os.path.exists(f"/proc/{os.getppid()}/task/{fields['TracerPid'].strip()}")


def remaining(paths: "Iterable[str]", own: str) -> list[str]:
    """Return the paths that exist now, without compiled code and without paths below `own`."""
    return sorted(path for path in paths if _counts(path, own) and os.path.lexists(path))


def _counts(path: str, own: str) -> bool:
    return not (path.startswith(f"{own}/") or path.endswith(".pyc") or "__pycache__" in path)
