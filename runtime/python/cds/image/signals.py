"""Watches calls of `signal.getsignal()`, which needs no system call.

This module is imported before `site`.  It imports nothing that a start imports later.
"""

import _signal

from cds.image import variables

# As in `startup`.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

# Follows the path of the request in the path that reports such a call.
ASKED = ".signals"

_plain = _signal.getsignal


def watch(request: str) -> None:
    """Report such calls from now on."""
    path = (request + ASKED).encode("utf-8", "surrogateescape")

    def getsignal(*arguments: "Any") -> "Any":
        variables.look_for(path)
        return _plain(*arguments)

    _signal.getsignal = getsignal


def end() -> None:
    _signal.getsignal = _plain
