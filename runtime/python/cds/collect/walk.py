"""Finding all modules below a directory."""

import os
from collections.abc import Iterator, Set

from cds.collect.filefinder import Answer, find, importable_names
from cds.collect.listing import Listings, join
from cds.collect.resolve import Found, found_in
from cds.collect.tracelist import is_module_name

# `__init__` is the package itself under another name.
_NOT_MODULES = frozenset({"__init__", "__pycache__"})


def modules_below(
    directory: str, package: str, listings: Listings, *, leave_out: Set[str] = frozenset()
) -> Iterator[tuple[str, Found]]:
    """Yield the name and place of each module that can be imported from below a directory.

    `directory` is a path entry (then `package` is ""), or part of the `__path__` of
    `package`.  `leave_out` are names to skip in `directory` itself.  Directories without
    `__init__` are namespace packages: they are searched if their name is an identifier.
    """
    return _walk(directory, package, listings, leave_out, frozenset())


def _walk(
    directory: str,
    package: str,
    listings: Listings,
    leave_out: Set[str],
    above: Set[tuple[int, int]],
) -> Iterator[tuple[str, Found]]:
    listing = listings.get(directory)
    if listing is None:
        return
    status = os.stat(directory)
    identity = (status.st_dev, status.st_ino)
    if identity in above:
        # A symbolic link leads to a directory that contains the link.
        return
    for tail in sorted(importable_names(listing) - _NOT_MODULES - leave_out):
        if not is_module_name(tail):
            continue
        name = f"{package}.{tail}" if package else tail
        answer = find(listing, tail)
        if isinstance(answer, str):
            found = found_in(listing, tail, answer)
            yield name, found
            descend = found.locations is not None
        else:
            descend = answer is Answer.PORTION and tail.isidentifier()
        if descend:
            inner = join(listing.path, tail)
            yield from _walk(inner, name, listings, frozenset(), above | {identity})
