"""The directories of a cache: one for each build of the interpreter, in it one for each program."""

import os
import re
import stat
from collections.abc import Iterator

# The name of an entry (runtime/startup-image/src/cache.rs).
_ENTRY = re.compile(r"[0-9a-f]{32}")
# The name of a build: the build id of the interpreter.
_BUILD = re.compile(r"[0-9a-f]{16,}")


def own_cache() -> str | None:
    """Return the directory of this user's cache; None if no variable leads to one."""
    from _cds_archive import cache_directory

    found: str | None = cache_directory()
    return found


def obstacle(cache: str) -> str | None:
    """Return why a directory is not used as the cache of this user, or None if nothing is wrong.

    The rules are those of runtime/startup-image/src/cache.rs and runtime/library/src/cache.rs.
    """
    place = cache
    while not os.path.lexists(place):
        place = os.path.dirname(place)
    try:
        status = os.stat(place)
    except OSError as error:
        return f"{place} cannot be read: {error.strerror}"
    if not stat.S_ISDIR(status.st_mode):
        return f"{place} is not a directory"
    if status.st_uid != os.geteuid():
        return f"{place} belongs to another user"
    if place == cache and status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        return f"other users can write to {place}"
    return None


def cache_of(archive: str) -> str:
    """Return the directory of the cache that an archive is in."""
    return os.path.dirname(os.path.dirname(os.path.dirname(archive)))


def entries(cache: str) -> Iterator[str]:
    """Yield the directories of the programs in a cache."""
    for build in _directories(cache, _BUILD):
        yield from _directories(build, _ENTRY)


def builds(cache: str) -> Iterator[str]:
    """Yield the directories of the builds in a cache."""
    yield from _directories(cache, _BUILD)


def _directories(parent: str, name: re.Pattern[str]) -> Iterator[str]:
    try:
        found = sorted(os.listdir(parent))
    except OSError:
        return
    for child in found:
        path = os.path.join(parent, child)
        if name.fullmatch(child) and os.path.isdir(path) and not os.path.islink(path):
            yield path
