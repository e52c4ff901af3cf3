"""The rule by which a path entry finder chooses a module's file in a directory.

It follows importlib.machinery.FileFinder.find_spec() (Lib/importlib/
_bootstrap_external.py).  The order is: a package's `__init__`, a file with the module's
name, and last a namespace package's portion.  For files, the suffixes of extensions come
first, then source, then bytecode.  FileFinder itself cannot be used: in a running
interpreter, its answer may come from the archive that this dump replaces.
"""

import enum
import os
import stat
from collections.abc import Callable, Set
from importlib.machinery import BYTECODE_SUFFIXES, EXTENSION_SUFFIXES, SOURCE_SUFFIXES

from cds.collect.listing import Kind, Listing, join

SUFFIXES = (*EXTENSION_SUFFIXES, *SOURCE_SUFFIXES, *BYTECODE_SUFFIXES)


class Answer(enum.Enum):
    """What a directory may have under a name, other than a module's file."""

    ABSENT = enum.auto()
    # A directory without `__init__`: part of a namespace package, unless a later path
    # entry has a module with this name.
    PORTION = enum.auto()
    UNCERTAIN = enum.auto()


def importable_names(listing: Listing) -> Set[str]:
    """Return the last components of all module names that this directory may answer.

    A component need not be an identifier: import_module("foo-bar") finds foo-bar.py.  It
    cannot contain a dot.
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

    If the listing does not decide, the file system is asked.  So the answer is never
    UNCERTAIN.
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
    """Return what FileFinder finds for `tail`, as long as the directories do not change.

    `inner_listing(name)` is the listing of a subdirectory, or None if no reliable listing
    is known.  The answer depends on `listing`; if it is an `__init__` file, it also depends
    on the listing of the package's directory.
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
        # The answer depends on the *lack* of an `__init__` in the subdirectory.
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
    # A device, socket or pipe is no module, and contains none.
    return Kind.ABSENT
