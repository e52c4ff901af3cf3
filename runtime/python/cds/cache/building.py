"""One process at a time builds archives and images in a cache, when nothing else needs the disk."""

import os

from cds.cache.place import cache_of

_LOCK = "building"


def begin_building(archive: str) -> None:
    """Make this process the only one that builds in the cache, until it ends.

    Raise BlockingIOError if another process builds.
    """
    import fcntl

    from _cds_archive import make_idle

    # The descriptor stays open, and keeps the lock.
    flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
    lock = os.open(os.path.join(cache_of(archive), _LOCK), flags, 0o600)
    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    make_idle()
