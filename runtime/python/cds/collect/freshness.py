"""Reads a file or directory so that its timestamp identifies what was read.

An archive replaces reading a file as long as the file has the recorded timestamp.  This
is correct only if each later change gives another timestamp.  But a file system stamps
changes with a clock that ticks: every 1 to 10 ms on Linux, every one or two seconds on
file systems that store whole seconds.  Two changes within one tick have the same
timestamp.  Git calls this the racy index problem (Documentation/technical/racy-git).
So reading begins here only when the timestamp is older than one tick: then each later
change gives another timestamp.
"""

import os
import time
from collections.abc import Callable

_SECOND_NS = 1_000_000_000
# Several ticks of the coarsest kernel clock (CONFIG_HZ=100).
_TICK_NS = 50_000_000
# FAT stores even seconds; ext3, HFS+ and old NFS servers store whole seconds.
_COARSE_TICK_NS = 2 * _SECOND_NS
_SETTLE_ATTEMPTS = 10


class Unsettled(Exception):
    """The file changed during each attempt, so no timestamp identifies its contents."""


def observe[T](
    path: str, read: Callable[[os.stat_result], T], *, attempts: int
) -> tuple[os.stat_result, T]:
    """Return the status of `path`, and the result of `read(status)`.

    The file has not changed between the two, and each later change changes st_mtime_ns.
    Raise Unsettled if the file changes during each attempt, and OSError if `path` has no
    status.
    """
    for _ in range(attempts):
        before = _settled_status(path)
        result = read(before)
        if _version(os.stat(path)) == _version(before):
            return before, result
    raise Unsettled(path)


def _settled_status(path: str) -> os.stat_result:
    for _ in range(_SETTLE_ATTEMPTS):
        status = os.stat(path)
        mtime_ns = status.st_mtime_ns
        tick_ns = _COARSE_TICK_NS if mtime_ns % _SECOND_NS == 0 else _TICK_NS
        age_ns = time.time_ns() - mtime_ns
        # A timestamp far in the future was set on purpose; a later change sets the present
        # time, which is different.  A timestamp slightly in the future comes from a file
        # server whose clock is ahead.
        if not -tick_ns < age_ns < tick_ns:
            return status
        time.sleep((tick_ns - age_ns) / _SECOND_NS)
    raise Unsettled(path)


def _version(status: os.stat_result) -> tuple[int, int, int, int]:
    return (status.st_mtime_ns, status.st_size, status.st_ino, status.st_dev)
