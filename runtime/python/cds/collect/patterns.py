"""Compiling regular expressions for an archive.

`re` parses and compiles patterns in Python.  The result is the arguments of
`_sre.compile()`.  They depend only on the pattern and the flags.
"""

import contextlib
import re
import warnings
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

from cds.collect.tracelist import Pattern

# DEBUG prints, and LOCALE depends on the locale at the time of the match.
_NOT_ARCHIVED = re.DEBUG | re.LOCALE


def compiled(pattern: Pattern) -> tuple[Any, ...] | None:
    """Return a compiled pattern in the form that `_cds_archive.write()` takes, or None.

    A pattern with an error or a warning is not archived: each program that compiles it must
    get the error or the warning.
    """
    if pattern.flags & _NOT_ARCHIVED:
        return None
    try:
        with warnings.catch_warnings(), _captured() as calls:
            warnings.simplefilter("error")
            re._compiler.compile(pattern.pattern, pattern.flags)  # type: ignore[attr-defined]
    except (re.error, Warning, ValueError, OverflowError, RecursionError):
        return None
    (arguments,) = calls
    _, flags, code, groups, group_index, index_group = arguments
    return (
        pattern.pattern,
        pattern.flags,
        flags,
        tuple(map(int, code)),
        groups,
        tuple(group_index.items()),
        index_group,
    )


@contextlib.contextmanager
def _captured() -> Iterator[list[tuple[Any, ...]]]:
    """Collect the arguments that the compiler passes to `_sre.compile()` in the block."""
    calls: list[tuple[Any, ...]] = []
    compiler = re._compiler  # type: ignore[attr-defined]
    sre = compiler._sre
    compiler._sre = SimpleNamespace(
        **{**vars(sre), "compile": lambda *arguments: calls.append(arguments)}
    )
    try:
        yield calls
    finally:
        compiler._sre = sre
