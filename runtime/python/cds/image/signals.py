"""Whether somebody asks what is done at a signal: Python knows without a call.

It is imported before `site`, and imports nothing that a start would import later.
"""

import _signal

from cds.image import variables

# As in `startup`.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

# What a path has behind that of the request then.
ASKED = ".signals"

_plain = _signal.getsignal


def watch(request: str) -> None:
    """Take notice of it from now on."""
    path = (request + ASKED).encode("utf-8", "surrogateescape")

    def getsignal(*arguments: "Any") -> "Any":
        variables.look_for(path)
        return _plain(*arguments)

    _signal.getsignal = getsignal


def end() -> None:
    _signal.getsignal = _plain
