"""Finds a module by its name without importing anything.

The order is the order of sys.meta_path in a new interpreter: built-in modules, frozen
modules, then the path.  importlib.util.find_spec() is not suitable: it imports the
parents, and asks finders that start-up code may have added.
"""

import _imp
import enum
import os
import sys
import zipimport
from collections.abc import Iterable, Iterator, Sequence
from importlib.machinery import (
    BYTECODE_SUFFIXES,
    EXTENSION_SUFFIXES,
    FileFinder,
)
from typing import NamedTuple

from cds.collect.filefinder import SUFFIXES, Answer, find
from cds.collect.listing import Listing, Listings, join
from cds.collect.tracelist import Entry

_INIT_FILES = frozenset(f"__init__{suffix}" for suffix in SUFFIXES)


class Origin(enum.Enum):
    """What a module is made from; the value is the text for reports."""

    SOURCE = "source file"
    FROZEN = "frozen module"
    BUILTIN = "built-in module"
    EXTENSION = "extension module"
    BYTECODE = "bytecode without source"
    NAMESPACE = "namespace package"
    ZIP = "inside a zip file"


class Found(NamedTuple):
    """A module: its origin, its `__file__`, and its `__path__` if it is a package."""

    origin: Origin
    file: str | None = None
    locations: tuple[str, ...] | None = None


class Resolver:
    """Finds modules along a path, and records the directories that it searches.

    `traced` are entries of trace lists.  If an entry names the file of a package, its
    submodules are also searched for in the directory of this file.
    """

    def __init__(
        self, path: Sequence[str], listings: Listings, traced: Iterable[Entry] = ()
    ) -> None:
        self._path = path
        self._listings = listings
        self._finders: dict[str, Listing | zipimport.zipimporter | None] = {}
        self._found: dict[str, Found | None] = {}
        self._traced_packages: dict[str, list[str]] = {}
        for entry in traced:
            if entry.file is not None and os.path.basename(entry.file) in _INIT_FILES:
                package = os.path.dirname(entry.file)
                self._traced_packages.setdefault(entry.name, []).append(package)
        self.searched: dict[str, None] = {}

    def find(self, name: str) -> Found | None:
        """Find a module as an import statement does if nothing is imported yet."""
        if name not in self._found:
            self._found[name] = self._find(name)
        return self._found[name]

    @staticmethod
    def find_traced(file: str) -> Found | None:
        """Return the module in `file`, which a trace list names; None if the file is gone."""
        if not os.path.isfile(file):
            return None
        directory, basename = os.path.split(file)
        locations = (directory,) if basename in _INIT_FILES else None
        return Found(origin_of_file(file), file, locations)

    def _find(self, name: str) -> Found | None:
        if _imp.is_builtin(name):
            return Found(Origin.BUILTIN)
        if _imp.is_frozen(name):
            return Found(Origin.FROZEN, locations=_frozen_locations(name))
        parent, _, tail = name.rpartition(".")
        if not parent:
            return self._search(name, tail, self._path)
        for locations in self._parent_locations(parent):
            found = self._search(name, tail, locations)
            if found is not None:
                return found
        return None

    def _parent_locations(self, parent: str) -> Iterator[Sequence[str]]:
        found = self.find(parent)
        if found is not None and found.locations is not None:
            yield found.locations
        for directory in self._traced_packages.get(parent, ()):
            yield [directory]

    def _search(self, name: str, tail: str, path: Iterable[str]) -> Found | None:
        """Search as PathFinder does: the first module wins, namespace portions are collected."""
        portions: list[str] = []
        for entry in path:
            finder = self._finder(entry)
            if isinstance(finder, Listing):
                self.searched[finder.path] = None
                answer = find(finder, tail)
                if isinstance(answer, str):
                    return found_in(finder, tail, answer)
                if answer is Answer.PORTION:
                    portions.append(join(finder.path, tail))
            elif finder is not None:
                spec = finder.find_spec(name)
                if spec is None:
                    continue
                locations = spec.submodule_search_locations
                if spec.loader is not None:
                    return Found(
                        Origin.ZIP, spec.origin, None if locations is None else tuple(locations)
                    )
                portions.extend(locations or ())
        return Found(Origin.NAMESPACE, locations=tuple(portions)) if portions else None

    def _finder(self, entry: object) -> Listing | zipimport.zipimporter | None:
        # PathFinder also skips entries that are not strings.
        if not isinstance(entry, str):
            return None
        if entry not in self._finders:
            self._finders[entry] = self._new_finder(entry)
        return self._finders[entry]

    def _new_finder(self, entry: str) -> Listing | zipimport.zipimporter | None:
        try:
            # FileFinder normalises the directory; `__file__` begins with the result.
            listing = self._listings.get(FileFinder(entry).path)
        except FileNotFoundError:
            # The entry is relative, and the current directory was removed.
            return None
        if listing is not None:
            return listing
        try:
            return zipimport.zipimporter(entry)
        except zipimport.ZipImportError:
            return None


def found_in(listing: Listing, tail: str, file: str) -> Found:
    """Return the module `tail`, whose file FileFinder finds in the listed directory."""
    return Found(
        origin_of_file(file),
        join(listing.path, file),
        (join(listing.path, tail),) if "/" in file else None,
    )


def origin_of_file(file: str) -> Origin:
    """Return from the suffix of a file how an import loads it."""
    if file.endswith(tuple(EXTENSION_SUFFIXES)):
        return Origin.EXTENSION
    if file.endswith(tuple(BYTECODE_SUFFIXES)):
        return Origin.BYTECODE
    return Origin.SOURCE


def _frozen_locations(name: str) -> tuple[str, ...] | None:
    """Return a frozen package's `__path__`, as FrozenImporter.find_spec() makes it."""
    if not _imp.is_frozen_package(name):
        return None
    _, _, original_name = _imp.find_frozen(name)  # type: ignore[misc]
    stdlib = getattr(sys, "_stdlib_dir", None)
    # A frozen package has files only if it is a standard library module under its own name.
    if not stdlib or original_name != name:
        return ()
    return (join(stdlib, name.replace(".", "/")),)
