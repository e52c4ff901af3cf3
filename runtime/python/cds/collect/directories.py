"""The directory index of an archive: what FileFinder finds in each path entry.

For each recorded directory, the index has its mtime and its importable names.  For each
name, it has the file that FileFinder finds, or None: then the file system must be asked.
As long as the directory's mtime is the recorded one, or its importable names and their
kinds are, the following holds:

- The directory has no importable name that is not listed.
- FileFinder finds the listed file.  If the file is a package's `__init__`, the package's
  own directory is recorded, too, and must also be unchanged in this sense.

The file is None if the answer can change without a change of these mtimes: for symbolic
links, packages whose directory is not recorded, and directories without `__init__`.  One
change is not noticed: the directory is replaced by another one with the same mtime.
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
        """Record a directory, unless its listing is not reliable."""
        listing = self._listings.get(path)
        if listing is None or listing.mtime_ns is None:
            return
        # Strings in the archive are UTF-8.  A name that is not UTF-8 cannot be written, and
        # must not be left out: the index would say that it is absent.
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
