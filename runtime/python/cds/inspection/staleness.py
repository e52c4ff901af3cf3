"""Finds the files that have changed since an archive was made from them.

The rules are those of a start (runtime/library/src/answer/unchanged.rs): if the modification
time differs, the contents decide.
"""

import os
from typing import NamedTuple

from cds.inspection.archive import Inspection, Module

_SECOND_NS = 1_000_000_000
# A hash that the archive does not have.
_UNKNOWN = "0" * 16


class Stale(NamedTuple):
    """A module whose source is gone or has changed, and the reason."""

    name: str
    reason: str
    file: str


def stale_modules(archive: Inspection) -> list[Stale]:
    """Return the modules whose files are gone or have changed, also with policy `unchecked`."""
    found = []
    for module in archive.modules:
        file = module.file
        if file is not None:
            reason = _reason(archive, module, file)
            if reason is not None:
                found.append(Stale(module.name, reason, file))
    return found


def changed_directories(archive: Inspection) -> list[str]:
    """Return the directories that have changed: a start searches them as without an archive."""
    return [
        path
        for path, mtime_ns, listing in archive.directories
        if not _is_from(path, mtime_ns) and not _has_listing(path, listing)
    ]


def _reason(archive: Inspection, module: Module, file: str) -> str | None:
    try:
        status = os.stat(file)
    except OSError:
        return "source gone"
    if status.st_size != module.size:
        return "source changed"
    if archive.freshness != "hash" and _is_from(file, module.mtime_ns):
        return None
    return None if _has_hash(file, module.content_hash) else "source changed"


def _has_hash(file: str, digest: str) -> bool:
    from _cds_archive import hash_file

    try:
        return digest != _UNKNOWN and hash_file(file) == digest
    except OSError:
        return False


def _has_listing(directory: str, digest: str) -> bool:
    from _cds_archive import hash_listing

    try:
        return digest != _UNKNOWN and hash_listing(directory) == digest
    except OSError:
        return False


def _is_from(path: str, mtime_ns: int) -> bool:
    """Return whether a file has this modification time, or this time in whole seconds."""
    try:
        found = os.stat(path).st_mtime_ns
    except OSError:
        return False
    return found in (mtime_ns, mtime_ns - mtime_ns % _SECOND_NS)
