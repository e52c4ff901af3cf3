"""Listings of directories, each read at one moment.

The search for modules and the directory index use the same listings.  So they cannot
disagree about a directory that changes during the dump.
"""

import enum
import os
from collections.abc import Mapping
from typing import NamedTuple

from cds.collect.freshness import Unsettled, observe

_ATTEMPTS = 5


class Kind(enum.Enum):
    """The kind of a directory entry, as far as the directory's mtime guarantees it."""

    FILE = enum.auto()
    DIRECTORY = enum.auto()
    # A symbolic link, device, socket or pipe.  The target of a link can change without a change
    # of the directory, so only the file system knows the answer.
    UNCERTAIN = enum.auto()
    ABSENT = enum.auto()


class Listing(NamedTuple):
    """The entries of one directory.

    `mtime_ns` is None if the directory could not be read, or changed during each attempt.
    Such a listing is good enough to find modules, but is not recorded in the archive.
    """

    path: str
    mtime_ns: int | None
    kinds: Mapping[str, Kind]

    def kind(self, name: str) -> Kind:
        return self.kinds.get(name, Kind.ABSENT)


class Listings:
    """The listings so far; each directory is read once."""

    def __init__(self) -> None:
        self._listings: dict[str, Listing | None] = {}

    def get(self, path: str) -> Listing | None:
        """Return the listing of a directory; None if there is no such directory."""
        try:
            return self._listings[path]
        except KeyError:
            listing = self._listings[path] = _take(path) if os.path.isdir(path) else None
            return listing


def join(directory: str, name: str) -> str:
    """Join paths as importlib does: avoid a double separator, but normalise nothing else."""
    return f"{directory.rstrip('/')}/{name}"


def _take(path: str) -> Listing:
    try:
        status, kinds = observe(path, lambda _: _kinds(path), attempts=_ATTEMPTS)
    except (OSError, Unsettled):
        pass
    else:
        return Listing(path, status.st_mtime_ns, kinds)
    try:
        return Listing(path, None, _kinds(path))
    except OSError:
        # FileFinder treats an unreadable directory as an empty one.
        return Listing(path, None, {})


def _kinds(path: str) -> dict[str, Kind]:
    with os.scandir(path) as entries:
        return {entry.name: _kind(entry) for entry in entries}


def _kind(entry: os.DirEntry[str]) -> Kind:
    try:
        if entry.is_dir(follow_symlinks=False):
            return Kind.DIRECTORY
        if entry.is_file(follow_symlinks=False):
            return Kind.FILE
    except OSError:
        pass
    return Kind.UNCERTAIN
