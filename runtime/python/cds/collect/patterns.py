"""Compiling regular expressions for an archive.

`re` parses and compiles in Python.  The result, what it passes to `_sre.compile()`,
follows from the pattern and the flags alone.
"""

import contextlib
import re
import warnings
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

from cds.collect.tracelist import Pattern

# DEBUG prints, and what LOCALE matches is not known before the match.
_NOT_ARCHIVED = re.DEBUG | re.LOCALE


def compiled(pattern: Pattern) -> tuple[Any, ...] | None:
    """Return what `_cds_archive.write()` wants of a pattern, or None.

    There is nothing to archive of a pattern that is wrong or that `re` warns about:
    each program that compiles it has to hear of it.
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
    """Give a list of what the compiler passes to `_sre.compile()` meanwhile."""
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
