"""The directory index: what each path entry would answer, for the archive.

For every directory recorded here, with the mtime it had, the archive knows its
importable names and for each the file that FileFinder would find, or None: ask the
file system.  The promise is this.  As long as a directory's mtime is the recorded
one,

- a name that is not listed is not there, and
- a name's file is what FileFinder finds there; if it is a package's `__init__`,
  provided that the package's own directory, which is then recorded too, also has
  its recorded mtime.

Whatever can change without touching these mtimes is None: symbolic links, packages
whose directory is not recorded, directories without `__init__`.  What the mtime cannot
tell is that another directory with the very same mtime was put in place of this one.
"""

from collections.abc import Iterator

from cds.collect.filefinder import Answer, find_certain, importable_names
from cds.collect.listing import Listing, Listings, join

Directory = tuple[str, int, list[tuple[str, str | None]]]


class DirectoryIndex:
    """Collects the directories to record."""

    def __init__(self, listings: Listings) -> None:
        self._listings = listings
        self._recorded: dict[str, tuple[int, Listing]] = {}

    def add(self, path: str) -> None:
        """Record a directory, unless its listing cannot be relied upon."""
        listing = self._listings.get(path)
        if listing is None or listing.mtime_ns is None:
            return
        # The archive's strings are UTF-8.  A name that is not could neither be
        # written down nor be left out, which would mean that it is absent.
        if _is_utf8(path) and all(map(_is_utf8, importable_names(listing))):
            self._recorded[path] = (listing.mtime_ns, listing)

    def directories(self) -> list[Directory]:
        """Return (path, mtime_ns, [(name, file or None)]), sorted by path and name."""
        return [
            (path, mtime_ns, list(self._entries(listing)))
            for path, (mtime_ns, listing) in sorted(self._recorded.items())
        ]

    def _entries(self, listing: Listing) -> Iterator[tuple[str, str | None]]:
        def inner_listing(name: str) -> Listing | None:
            recorded = self._recorded.get(join(listing.path, name))
            return None if recorded is None else recorded[1]

        for name in sorted(importable_names(listing)):
            answer = find_certain(listing, name, inner_listing)
            if answer is not Answer.ABSENT:
                yield name, answer if isinstance(answer, str) else None


def _is_utf8(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
