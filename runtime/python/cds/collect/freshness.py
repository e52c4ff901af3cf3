"""Reading a file or directory so that its timestamp vouches for what was read.

An archive answers "this is what you would have read" whenever the timestamp is
still the recorded one.  That is only true if every later change gives another
timestamp, and a file system stamps changes with a clock that ticks: 1 to 10 ms
apart on Linux, one or two seconds apart on file systems that store whole seconds.
A second change within one tick leaves the timestamp as it was.  Git calls this
the racy index problem (Documentation/technical/racy-git).  The remedy here is to
begin reading only when the timestamp is older than one tick: whatever happens
after that is stamped differently.
"""

import os
import time
from collections.abc import Callable

_SECOND_NS = 1_000_000_000
# Several ticks of the coarsest kernel clock (CONFIG_HZ=100).
_TICK_NS = 50_000_000
# FAT stores even seconds; ext3, HFS+ and old NFS servers whole ones.
_COARSE_TICK_NS = 2 * _SECOND_NS
_SETTLE_ATTEMPTS = 10


class Unsettled(Exception):
    """The file kept changing, so no timestamp vouches for its content."""


def observe[T](
    path: str, read: Callable[[os.stat_result], T], *, attempts: int
) -> tuple[os.stat_result, T]:
    """Return the status of `path` and what `read(status)` returned for it.

    No change happened in between, and any later one changes st_mtime_ns.  Raise
    Unsettled when there was a change during each of the attempts, OSError when
    `path` has no status.
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
        # A timestamp well in the future was set on purpose; a later change brings
        # it back to the present, which is a difference.  One slightly in the
        # future comes from a file server whose clock is ahead.
        if not -tick_ns < age_ns < tick_ns:
            return status
        time.sleep((tick_ns - age_ns) / _SECOND_NS)
    raise Unsettled(path)


def _version(status: os.stat_result) -> tuple[int, int, int, int]:
    return (status.st_mtime_ns, status.st_size, status.st_ino, status.st_dev)
