"""The size of a cache, and the removal of what was not used for the longest time."""

import contextlib
import os
from typing import NamedTuple

from cds.cache.place import cache_of, entries
from cds.inspection.archive import InspectionError, ask
from cds.interpreter import interpreter_in

# The cache is smaller on a small or full disk.
_MOST_BYTES = 1 << 30
_SHARE_OF_FREE = 10
_BLOCK = 512
_MOST_ATTEMPTS = 5


class Usage(NamedTuple):
    """What an entry takes, and when it was last used."""

    entry: str
    bytes: int
    used: float


def usage(cache: str) -> list[Usage]:
    """Return the entries of a cache, the least recently used first."""
    return sorted(map(usage_of, entries(cache)), key=lambda usage: usage.used)


def limit(cache: str, used: int) -> int:
    """Return the size in bytes that a cache may have, which now has `used` bytes."""
    status = os.statvfs(cache)
    free = status.f_bavail * status.f_frsize
    return min(_MOST_BYTES, (free + used) // _SHARE_OF_FREE)


def keep_to_the_limit(archive: str) -> None:
    """Remove the least recently used programs if the cache with this archive is too large.

    Also remove the programs of virtual environments that do not exist any more.
    """
    cache = cache_of(archive)
    found = [usage for usage in usage(cache) if not (_is_left(usage.entry) and remove(usage.entry))]
    total = sum(usage.bytes for usage in found)
    most = limit(cache, total)
    for oldest in found:
        if total <= most:
            break
        if remove(oldest.entry):
            total -= oldest.bytes


def _is_left(entry: str) -> bool:
    """Return whether the interpreter of an entry was removed."""
    archive = os.path.join(entry, "0.cds")
    try:
        interpreter = interpreter_in(ask("command_of", archive))
    except InspectionError:
        return False
    return interpreter is not None and not os.path.lexists(interpreter)


def remove(entry: str) -> bool:
    """Remove a program from the cache.

    Processes that use its files go on.  A process that builds for it fails to write its files.
    """
    # Seldom needed, and slow to import.
    import shutil

    for _ in range(_MOST_ATTEMPTS):
        # A process that builds may add a file meanwhile.
        with contextlib.suppress(OSError):
            shutil.rmtree(entry)
            return True
    return not os.path.lexists(entry)


def usage_of(entry: str) -> Usage:
    """Return what an entry takes."""
    sizes: dict[int, int] = {}
    used = 0.0
    for directory, _, files in os.walk(entry):
        for name in files:
            # Another process may remove it.
            with contextlib.suppress(FileNotFoundError):
                status = os.lstat(os.path.join(directory, name))
                sizes[status.st_ino] = status.st_blocks * _BLOCK
                used = max(used, status.st_atime, status.st_mtime)
    return Usage(entry, sum(sizes.values()), used)
