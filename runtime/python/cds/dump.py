"""Writing an archive: choose modules, load their code, record directories, write the file.

No module is imported or executed.  `_cds_archive.write()` of the interpreter turns the
code objects into a file.
"""

import _imp
import contextlib
import marshal
import os
import stat
import sys
import warnings
from collections.abc import Iterable, Iterator, Sequence
from types import CodeType
from typing import Any, NamedTuple, NoReturn

from cds import interpreter
from cds.collect.directories import Directory, DirectoryIndex
from cds.collect.installation import (
    STDLIB_LEFT_OUT,
    site_directories,
    stdlib_directory,
    stdlib_extension_directories,
)
from cds.collect.listing import Listings, join
from cds.collect.patterns import compiled
from cds.collect.resolve import Found, Origin, Resolver, origin_of_file
from cds.collect.source import SourceCode, Unusable, load
from cds.collect.tracelist import Entry, Pattern
from cds.collect.walk import modules_below
from cds.text.progress import Progress

# Writing takes about one millisecond per module, in one call that shows no progress.
_MANY_MODULES = 1500
_TEXT_PROBE_SIZE = 4096

# Name, file, mtime_ns, size, code, and whether programs are known to load the module.
Module = tuple[str, str | None, int, int, CodeType | None, bool]

# The same without the last item.
_Loaded = tuple[str, str | None, int, int, CodeType | None]


class Skipped(NamedTuple):
    """A module that is not in the archive; `reason` names a class, `detail` this case."""

    name: str
    reason: str
    detail: str | None = None


class Selection(NamedTuple):
    """The modules to archive: the union of all parts."""

    entries: Sequence[Entry] = ()
    packages: Sequence[str] = ()
    stdlib: bool = False
    site_packages: bool = False


class PackageSizes(NamedTuple):
    """The size of a top-level package in .pyc files and in the archive.

    Objects that several modules share count for the first of these modules.
    """

    name: str
    modules: int
    pyc_bytes: int
    archive_bytes: int


class Summary(NamedTuple):
    """The result of a dump."""

    archive: str
    modules: int
    shared: int
    patterns: int
    extensions: int
    directories: int
    bytes: int
    objects: dict[str, int]
    sections: dict[str, int]
    skipped: list[Skipped]
    packages: list[PackageSizes]


class DumpError(Exception):
    """No archive was written; the text says why, and what to do."""


class NothingToArchive(DumpError):
    """None of the selected modules can be archived."""

    def __init__(self, skipped: list[Skipped]) -> None:
        super().__init__("nothing to archive: name at least one module that has a source file")
        self.skipped = skipped


def dump(
    archive: str,
    selection: Selection,
    *,
    path: Sequence[str] | None = None,
    profiles: Sequence[Sequence[str]] = (),
    freshness: str = "mtime",
    note_skipped: bool = False,
    command: str = "",
    progress: Progress | None = None,
) -> Summary:
    """Archive the selected modules, found along `path` (by default sys.path).

    `freshness` is the policy for source files: mtime, hash or unchecked.
    `profiles` are the lines of `-X cds_profile` files.  The objects that they name are
    stored together.
    With `note_skipped`, the archive names the source files that cannot be archived.  A run
    that misses such a file then does not ask for another dump.
    `command` writes the archive; the archive keeps it, to show it to people.
    The summary names the modules that cannot be archived.  Raise DumpError if no archive
    was written.
    """
    try:
        from _cds_archive import write
    except ImportError as error:
        raise DumpError(
            f"{sys.executable} cannot write archives: it has no module _cds_archive; "
            "run this command with the interpreter that will use the archive"
        ) from error
    _check_target(archive)
    progress = progress or Progress()
    collector = _Collector(sys.path if path is None else path, selection.entries, progress)
    collector.collect(selection)
    modules = collector.modules()
    if note_skipped:
        modules += collector.skipped_files()
    if not modules:
        raise NothingToArchive(collector.skipped())
    if len(modules) >= _MANY_MODULES:
        progress.announce(f"writing {len(modules)} modules")
    try:
        written = write(
            archive,
            modules,
            collector.patterns(),
            collector.directories(),
            profiles,
            freshness,
            interpreter.kept_command(command),
        )
    except (OSError, ValueError) as error:
        raise DumpError(str(error)) from error
    return Summary(
        archive,
        written["modules"],
        written["shared"],
        written["patterns"],
        written["extensions"],
        written["directories"],
        written["bytes"],
        written["objects"],
        written["sections"],
        collector.skipped(Skipped(*left_out) for left_out in written["skipped"]),
        _packages(written["sizes"]),
    )


def run_dump(class_list: str, archive: str) -> NoReturn:
    """Archive the modules of a list and exit, as in code-data-share 0.1.0, but run no module."""
    from cds.code_data_share import manual
    from cds.code_data_share.environment import say
    from cds.collect import tracelist

    manual._enter(manual.DUMPER)
    try:
        summary = dump(archive, Selection(tracelist.read(class_list)))
    except DumpError as error:
        raise manual.CDSException(str(error)) from error
    for name, reason, _ in summary.skipped:
        say(f"no module named {name}" if reason == "not found" else f"{name}: {reason}", 1)
    sys.exit(0)


class _Collector:
    """Collects what goes into the archive, in any order."""

    def __init__(self, path: Sequence[str], entries: Sequence[Entry], progress: Progress) -> None:
        self._path = path
        self._progress = progress
        self._listings = Listings()
        self._index = DirectoryIndex(self._listings)
        self._resolver = Resolver(path, self._listings, entries)
        self._sources: dict[str, SourceCode | Unusable] = {}
        names = dict.fromkeys(entry.name for entry in entries)
        self._ranks = {name: rank for rank, name in enumerate(names)}
        # Keys are (file or "", name).
        self._modules: dict[tuple[str, str], _Loaded] = {}
        # Keys are (flags, literal).
        self._patterns: dict[tuple[int, str], tuple[Any, ...]] = {}
        self._skipped: set[Skipped] = set()

    def collect(self, selection: Selection) -> None:
        found: dict[tuple[str, Found], None] = {}
        for choice in self._choices(selection):
            found[choice] = None
            self._progress.show(f"looking for modules: {len(found)}")
        with warnings.catch_warnings():
            # The compiler may warn about the sources; such warnings are not about this command.
            warnings.simplefilter("ignore")
            for number, (name, module) in enumerate(found, start=1):
                self._progress.show(f"reading modules: {number}/{len(found)} {name}")
                self._add(name, module)
        for directory in self._resolver.searched:
            self._index.add(directory)

    def modules(self) -> list[Module]:
        """Return the listed modules in the order of the lists, then the others.

        A traced run loads modules in the order of its list.  The next run loads them in the
        same order, and so reads the file from start to end if the page cache is cold.
        """

        def order(key: tuple[str, str]) -> tuple[int, str, str]:
            file, name = key
            return self._ranks.get(name, len(self._ranks)), file, name

        # Without lists, any module may be one that programs load.
        keys = sorted(self._modules, key=order)
        return [(*self._modules[key], not self._ranks or key[1] in self._ranks) for key in keys]

    def skipped_files(self) -> list[Module]:
        found: list[Module] = []
        for file, source in sorted(self._sources.items()):
            if isinstance(source, Unusable):
                with contextlib.suppress(OSError, UnicodeEncodeError):
                    file.encode()
                    status = os.stat(file)
                    found.append((file, file, status.st_mtime_ns, status.st_size, None, False))
        return found

    def patterns(self) -> list[tuple[Any, ...]]:
        return [self._patterns[key] for key in sorted(self._patterns)]

    def directories(self) -> list[Directory]:
        return self._index.directories()

    def skipped(self, more: Iterable[Skipped] = ()) -> list[Skipped]:
        return sorted(
            {*self._skipped, *more},
            key=lambda module: (module.name, module.reason, module.detail or ""),
        )

    def _choices(self, selection: Selection) -> Iterator[tuple[str, Found]]:
        yield from self._listed(selection.entries)
        for package in selection.packages:
            yield from self._package(package)
        if selection.stdlib:
            yield from self._stdlib()
        if selection.site_packages:
            for directory in site_directories():
                self._index.add(directory)
                yield from modules_below(directory, "", self._listings)

    def _listed(self, entries: Sequence[Entry]) -> Iterator[tuple[str, Found]]:
        for entry in entries:
            if entry.pattern is not None:
                self._add_pattern(entry.pattern)
            name, file = entry.name, entry.file
            found = self._resolver.find_traced(file) if file else self._resolver.find(name)
            if found is None:
                self._skip(name, "not found", file)
            else:
                yield name, found

    def _package(self, package: str) -> Iterator[tuple[str, Found]]:
        found = self._resolver.find(package)
        if found is None:
            raise DumpError(
                f"there is no package or module {package!r} on the path; "
                "add its directory with --path DIR"
            )
        # Importing a package imports its parents.
        parent = package.rpartition(".")[0]
        while parent:
            parent_found = self._resolver.find(parent)
            if parent_found is not None:
                yield parent, parent_found
            parent = parent.rpartition(".")[0]
        yield package, found
        for location in found.locations or ():
            yield from modules_below(location, package, self._listings)

    def _stdlib(self) -> Iterator[tuple[str, Found]]:
        for name in _imp._frozen_module_names():  # type: ignore[attr-defined]
            # With -X frozen_modules=off, most of these names are not frozen modules.
            if _imp.is_frozen(name):
                yield name, Found(Origin.FROZEN)
        directory = stdlib_directory()
        self._index.add(directory)
        for extensions in stdlib_extension_directories(self._path, self._listings):
            self._index.add(extensions)
            self._add_linked_extensions(extensions)
        yield from modules_below(directory, "", self._listings, leave_out=STDLIB_LEFT_OUT)

    def _add(self, name: str, found: Found) -> None:
        file = found.file
        if found.origin is Origin.FROZEN:
            self._modules["", name] = (name, None, 0, 0, _frozen_code(name))
        elif found.origin is Origin.SOURCE and file is not None:
            self._add_source(name, file)
        else:
            self._skip(name, found.origin.value)
        if file is not None and found.origin is not Origin.ZIP:
            directory = os.path.dirname(file)
            self._index.add(directory)
            if found.locations is not None:
                self._index.add(os.path.dirname(directory))

    def _add_source(self, name: str, file: str) -> None:
        if file not in self._sources:
            self._sources[file] = _loaded(file)
        source = self._sources[file]
        if isinstance(source, Unusable):
            self._skip(name, source.reason, source.detail)
        else:
            self._modules[file, name] = (name, file, source.mtime_ns, source.size, source.code)

    def _add_linked_extensions(self, directory: str) -> None:
        from _cds_archive import is_linked

        listing = self._listings.get(directory)
        for file_name in sorted(listing.kinds) if listing is not None else ():
            file = join(directory, file_name)
            name = file_name.partition(".")[0]
            if origin_of_file(file) is Origin.EXTENSION and is_linked(name, file):
                status = os.stat(file)
                self._modules[file, name] = (name, file, status.st_mtime_ns, status.st_size, None)

    def _add_pattern(self, pattern: Pattern) -> None:
        fields = compiled(pattern)
        if fields is not None:
            self._patterns[pattern.flags, ascii(pattern.pattern)] = fields

    def _skip(self, name: str, reason: str, detail: str | None = None) -> None:
        self._skipped.add(Skipped(name, reason, detail))


def _packages(modules: Iterable[tuple[str, int, int]]) -> list[PackageSizes]:
    packages: dict[str, PackageSizes] = {}
    for module, pyc_bytes, archive_bytes in modules:
        name = module.partition(".")[0]
        _, count, pyc_sum, archive_sum = packages.get(name, (name, 0, 0, 0))
        packages[name] = PackageSizes(
            name, count + 1, pyc_sum + pyc_bytes, archive_sum + archive_bytes
        )
    return sorted(packages.values(), key=lambda package: (-package.archive_bytes, package.name))


def _loaded(file: str) -> SourceCode | Unusable:
    try:
        file.encode()
        return load(file)
    except UnicodeEncodeError:
        return Unusable("has a path that is not UTF-8")
    except Unusable as unusable:
        return unusable


def _frozen_code(name: str) -> CodeType:
    # get_frozen_object() may return the code object of the archive in use, which has run
    # and is specialised for this process.
    data, _, _ = _imp.find_frozen(name, withdata=True)  # type: ignore[misc]
    code: CodeType = marshal.loads(data)  # type: ignore[arg-type]
    return code


def _check_target(archive: str) -> None:
    """Raise DumpError now for errors that would otherwise appear after the long work."""
    directory = os.path.dirname(archive) or "."
    if not os.path.isdir(directory):
        raise DumpError(f"cannot write {archive}: there is no directory {directory}; create it")
    if not os.access(directory, os.W_OK | os.X_OK):
        raise DumpError(
            f"cannot write {archive}: no permission to create files in {directory}; "
            "give another ARCHIVE"
        )
    try:
        mode = os.stat(archive).st_mode
    except OSError:
        return
    if not stat.S_ISREG(mode):
        raise DumpError(
            f"cannot write {archive}: it exists and is not a regular file; give another ARCHIVE"
        )
    if _is_text(archive):
        # Most likely a trace list in the place of the ARCHIVE.
        raise DumpError(
            f"will not overwrite {archive}: it is a text file, not an archive; "
            "give the ARCHIVE as the last name"
        )


def _is_text(path: str) -> bool:
    try:
        with open(path, "rb") as file:
            start = file.read(_TEXT_PROBE_SIZE)
    except OSError:
        return False
    return bool(start) and b"\0" not in start


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit("usage: python -m cds.dump LIST ARCHIVE (see also: python -m cds dump --help)")
    # This module is `__main__` here; call the module `cds.dump`, which other modules import.
    import cds.dump

    cds.dump.run_dump(*sys.argv[1:])
