"""The directories of a cache: one for each build of the interpreter, in it one for each program."""

import os
import re
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
    except FileNotFoundError:
        return
    for child in found:
        path = os.path.join(parent, child)
        if name.fullmatch(child) and os.path.isdir(path) and not os.path.islink(path):
            yield path
