"""The rule by which a path entry finder picks a module's file in a directory.

It is importlib.machinery.FileFinder.find_spec() (Lib/importlib/
_bootstrap_external.py): a package's `__init__` first, then a file of the module's
name, each with the suffixes of extensions, source and bytecode in this order, and
lastly a namespace package's portion.  FileFinder itself cannot be asked, because in
a running interpreter it may answer out of the very archive that is to be replaced.
"""

import enum
import os
import stat
from collections.abc import Callable, Set
from importlib.machinery import BYTECODE_SUFFIXES, EXTENSION_SUFFIXES, SOURCE_SUFFIXES

from cds.collect.listing import Kind, Listing, join

SUFFIXES = (*EXTENSION_SUFFIXES, *SOURCE_SUFFIXES, *BYTECODE_SUFFIXES)


class Answer(enum.Enum):
    """What a directory may hold under a name, if not a module's file."""

    ABSENT = enum.auto()
    # A directory without `__init__`: a namespace package, if no later path entry
    # has a module of that name.
    PORTION = enum.auto()
    UNCERTAIN = enum.auto()


def importable_names(listing: Listing) -> Set[str]:
    """Return every last component of a module name that might be found here.

    A name need not be an identifier, import_module("foo-bar") finds foo-bar.py,
    but it cannot have a dot.
    """
    names = {
        name for name, kind in listing.kinds.items() if kind is not Kind.FILE and "." not in name
    }
    for name in listing.kinds:
        for suffix in SUFFIXES:
            tail = name.removesuffix(suffix)
            if tail != name and "." not in tail:
                names.add(tail)
    return names


def find(listing: Listing, tail: str) -> str | Answer:
    """Return the file that FileFinder finds for `tail`, relative to the directory.

    What the listing leaves open is looked up in the file system, so the answer is
    never UNCERTAIN.
    """

    def kind_of(name: str) -> Kind:
        head, _, rest = name.partition("/")
        kind = listing.kind(head)
        if kind is Kind.ABSENT or (not rest and kind is not Kind.UNCERTAIN):
            return kind
        return _kind_in_file_system(join(listing.path, name))

    return _pick(tail, kind_of)


def find_certain(
    listing: Listing, tail: str, inner_listing: Callable[[str], Listing | None]
) -> str | Answer:
    """Return what FileFinder finds for `tail` as long as the listings stay true.

    `inner_listing(name)` is the listing of a subdirectory, or None if there is none
    to rely on.  The answer depends on this listing, and, if it is an `__init__` file,
    on that of the package's directory.
    """

    def kind_of(name: str) -> Kind:
        head, _, rest = name.partition("/")
        if not rest:
            return listing.kind(head)
        inner = inner_listing(head)
        return Kind.UNCERTAIN if inner is None else inner.kind(rest)

    answer = _pick(tail, kind_of)
    in_package = isinstance(answer, str) and "/" in answer
    if listing.kind(tail) is Kind.DIRECTORY and not in_package:
        # Decided by the *lack* of an `__init__` in the subdirectory.
        return Answer.UNCERTAIN
    return answer


def _pick(tail: str, kind_of: Callable[[str], Kind]) -> str | Answer:
    container = kind_of(tail)
    if container is Kind.UNCERTAIN:
        return Answer.UNCERTAIN
    candidates = [tail + suffix for suffix in SUFFIXES]
    if container is Kind.DIRECTORY:
        candidates = [f"{tail}/__init__{suffix}" for suffix in SUFFIXES] + candidates
    for candidate in candidates:
        kind = kind_of(candidate)
        if kind is Kind.FILE:
            return candidate
        if kind is Kind.UNCERTAIN:
            return Answer.UNCERTAIN
    return Answer.PORTION if container is Kind.DIRECTORY else Answer.ABSENT


def _kind_in_file_system(path: str) -> Kind:
    try:
        mode = os.stat(path).st_mode
    except (OSError, ValueError):
        return Kind.ABSENT
    if stat.S_ISREG(mode):
        return Kind.FILE
    if stat.S_ISDIR(mode):
        return Kind.DIRECTORY
    # Neither can a module be loaded from it nor can it hold one.
    return Kind.ABSENT
