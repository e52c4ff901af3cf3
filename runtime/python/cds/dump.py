"""Writing an archive: choose modules, load their code, record directories, write.

No module is imported or executed.  The writing itself, from code objects to bytes in
a file, is `_cds_archive.write()` of the interpreter.
"""

import _imp
import contextlib
import marshal
import os
import stat
import sys
import warnings
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
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

# Writing takes about a millisecond for each, all in one call.
_MANY_MODULES = 1500
_TEXT_PROBE_SIZE = 4096

Module = tuple[str, str | None, int, int, CodeType | None, bool]

# The same without the last, whether programs are known to load it.
_Loaded = tuple[str, str | None, int, int, CodeType | None]


class Skipped(NamedTuple):
    """A module that is not in the archive: `reason` is general, `detail` about it."""

    name: str
    reason: str
    detail: str | None = None


@dataclass(frozen=True, slots=True)
class Selection:
    """What to archive; each part adds to the others."""

    entries: Sequence[Entry] = ()
    packages: Sequence[str] = ()
    stdlib: bool = False
    site_packages: bool = False


class PackageSizes(NamedTuple):
    """The modules of a top-level package before and after, in bytes.

    What several modules have in common counts for the first of them.
    """

    name: str
    modules: int
    pyc_bytes: int
    archive_bytes: int


@dataclass(frozen=True, slots=True)
class Summary:
    """What was written."""

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
    """No archive was written; the text says why and what to do."""


class NothingToArchive(DumpError):
    """None of the selected modules can be archived."""

    def __init__(self, skipped: list[Skipped]) -> None:
        super().__init__("nothing to archive")
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

    `freshness` is the policy by which the archive knows source files again.
    What the `profiles` name, lines of `-X cds_profile` files, is put together.
    `note_skipped` notes source files in the archive that cannot be archived, so that a
    program that misses them knows that dumping again is no use.
    The `command` that writes the archive is kept in it, for people.
    Modules that cannot be archived are left out and told in the summary.  Raise
    DumpError if no archive was written.
    """
    try:
        from _cds_archive import write
    except ImportError as error:
        raise DumpError(
            f"{sys.executable} cannot write archives: it has no module _cds_archive; "
            "dump with the interpreter that shall use the archive"
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
    """Archive the modules of a list and exit, as code-data-share 0.1.0 does, but run none of them."""
    from cds.code_data_share import manual
    from cds.code_data_share.environment import tell
    from cds.collect import tracelist

    manual._enter(manual.DUMPER)
    try:
        summary = dump(archive, Selection(tracelist.read(class_list)))
    except DumpError as error:
        raise manual.CDSException(str(error)) from error
    for name, reason, _ in summary.skipped:
        tell(f"no module named {name}" if reason == "not found" else f"{name}: {reason}", 1)
    sys.exit(0)


class _Collector:
    """Gathers what goes into the archive, in whatever order it turns up."""

    def __init__(self, path: Sequence[str], entries: Sequence[Entry], progress: Progress) -> None:
        self._path = path
        self._progress = progress
        self._listings = Listings()
        self._index = DirectoryIndex(self._listings)
        self._resolver = Resolver(path, self._listings, entries)
        self._sources: dict[str, SourceCode | Unusable] = {}
        names = dict.fromkeys(entry.name for entry in entries)
        self._ranks = {name: rank for rank, name in enumerate(names)}
        # By (file or "", name).
        self._modules: dict[tuple[str, str], _Loaded] = {}
        # By flags and literal.
        self._patterns: dict[tuple[int, str], tuple[Any, ...]] = {}
        self._skipped: set[Skipped] = set()

    def collect(self, selection: Selection) -> None:
        found: dict[tuple[str, Found], None] = {}
        for choice in self._choices(selection):
            found[choice] = None
            self._progress.show(f"looking for modules: {len(found)}")
        with warnings.catch_warnings():
            # Compiling may warn about the source; this is not the time to hear it.
            warnings.simplefilter("ignore")
            for number, (name, module) in enumerate(found, start=1):
                self._progress.show(f"reading modules: {number}/{len(found)} {name}")
                self._add(name, module)
        for directory in self._resolver.searched:
            self._index.add(directory)

    def modules(self) -> list[Module]:
        """Return the listed modules in the order of the lists, then the others.

        That is the order in which a traced run loaded them, and so in which one that
        starts with cold caches will want them.
        """

        def order(key: tuple[str, str]) -> tuple[int, str, str]:
            file, name = key
            return self._ranks.get(name, len(self._ranks)), file, name

        # Without lists nothing is known of what programs load.
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
                "--path DIR adds a directory to look into"
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
            # Not so under -X frozen_modules=off.
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
    # Not get_frozen_object(): it may return the object of the archive in use, which
    # has run and is specialised for this process.
    data, _, _ = _imp.find_frozen(name, withdata=True)  # type: ignore[misc]
    code: CodeType = marshal.loads(data)  # type: ignore[arg-type]
    return code


def _check_target(archive: str) -> None:
    """Raise DumpError now for what would be a pity to find out at the end."""
    directory = os.path.dirname(archive) or "."
    if not os.path.isdir(directory):
        raise DumpError(f"cannot write {archive}: there is no directory {directory}")
    if not os.access(directory, os.W_OK | os.X_OK):
        raise DumpError(f"cannot write {archive}: no permission to create files in {directory}")
    try:
        mode = os.stat(archive).st_mode
    except OSError:
        return
    if not stat.S_ISREG(mode):
        raise DumpError(f"cannot write {archive}: it exists and is not a regular file")
    if _is_text(archive):
        # Most likely the trace list, given where the archive is expected.
        raise DumpError(
            f"will not overwrite {archive}: it is a text file, not an archive; "
            "the archive's name goes last"
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
        sys.exit("usage: python -m cds.dump LIST ARCHIVE (python -m cds dump --help knows more)")
    # Not of this module but of the one that others import.
    import cds.dump

    cds.dump.run_dump(*sys.argv[1:])
