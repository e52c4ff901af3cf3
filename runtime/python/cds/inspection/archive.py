"""The contents of an archive file, as `_cds_archive.inspect()` reads them."""

import os
from collections.abc import Iterator
from typing import Any, NamedTuple

# When the pages of a section are written to (docs/archive-format.md).
WRITTEN = {
    "constants": "never",
    "text": "if hashed",
    "lazy": "hashes, UTF-8",
    "code": "when run",
    "tables": "never",
    "relocations": "not mapped",
}


class InspectionError(Exception):
    """The file cannot be read; the text says why."""


class Section(NamedTuple):
    """A part of the file, in bytes; `extents` are (file offset, bytes)."""

    name: str
    bytes: int
    hot_bytes: int
    memory_offset: int
    is_mapped: bool
    extents: list[tuple[int, int]]


class Module(NamedTuple):
    """A module of the catalog.

    `address` is None if the module has no code.  `own_bytes` counts the objects that no other
    module uses, and `digest` stands for the code.  Both are None if another build of the
    interpreter has written the archive.
    """

    name: str
    origin: str
    mtime_ns: int
    size: int
    content_hash: str
    address: int | None
    own_bytes: int | None
    digest: str | None

    @property
    def package(self) -> str:
        return self.name.partition(".")[0]

    @property
    def file(self) -> str | None:
        return None if self.origin.startswith("<") else self.origin


class Mismatch(NamedTuple):
    """A fact that prevents this interpreter from using the archive."""

    key: str
    archive: str
    here: str


class ObjectCount(NamedTuple):
    """Objects of one type in one section."""

    section: str
    type: str
    number: int
    bytes: int


class Shared(NamedTuple):
    """A constant that several modules use."""

    address: int
    type: str
    bytes: int
    modules: int
    value: Any


class Inspection(NamedTuple):
    """An archive file."""

    path: str
    bytes: int
    format: int
    identity: str
    address: int
    mapped_bytes: int
    code_objects: int
    is_layer: bool
    freshness: str
    facts: dict[str, str]
    mismatches: list[Mismatch]
    sections: list[Section]
    directories: list[tuple[str, int, str]]
    interned: int
    patterns: int
    modules: list[Module]
    objects: list[ObjectCount]
    shared: list[Shared]
    shared_bytes: int

    @property
    def archived(self) -> list[Module]:
        """The modules that have code."""
        return [module for module in self.modules if module.address is not None]

    @property
    def is_decoded(self) -> bool:
        """Whether the objects could be read: another build lays out objects differently."""
        return bool(self.objects)


def inspect(path: str) -> Inspection:
    """Read an archive; raise InspectionError if it cannot be read or is damaged."""
    found = ask("inspect", path)
    return Inspection(
        path=path,
        sections=[Section(**section) for section in found.pop("sections")],
        modules=[Module(**module) for module in found.pop("modules")],
        mismatches=[Mismatch(*fact) for fact in found.pop("mismatches")],
        objects=[ObjectCount(*kind) for kind in found.pop("objects")],
        shared=[Shared(**constant) for constant in found.pop("shared")],
        **found,
    )


def verify(path: str) -> list[str]:
    """Return what is broken in an archive; raise InspectionError if it cannot be read."""
    faults: list[str] = ask("verify", path)
    if not faults:
        try:
            ask("dry_run", path)
        except InspectionError as error:
            faults = [f"a start cannot use it: {str(error).removeprefix(f'{path}: ')}"]
    return faults


def walk(path: str, address: int) -> dict[int, dict[str, Any]]:
    """Return the object at an address, and all objects that it refers to, by address."""
    return {found["address"]: found for found in ask("walk", path, address)}


def packages(modules: list[Module]) -> Iterator[tuple[str, list[Module]]]:
    """Yield top-level packages with their modules, the largest first."""
    groups: dict[str, list[Module]] = {}
    for module in modules:
        groups.setdefault(module.package, []).append(module)
    yield from sorted(groups.items(), key=lambda group: (-own_bytes(group[1]), group[0]))


def own_bytes(modules: list[Module]) -> int:
    return sum(module.own_bytes or 0 for module in modules)


def ask(function: str, path: str | bytes, *arguments: object) -> Any:
    """Call a function of `_cds_archive` with a path; raise InspectionError if it fails."""
    name = os.fsdecode(path)
    try:
        import _cds_archive
    except ImportError as error:
        raise InspectionError(
            "this interpreter has no module _cds_archive; run this command with cpython-cds"
        ) from error
    try:
        return getattr(_cds_archive, function)(path, *arguments)
    except ValueError as error:
        raise DamagedError(f"{name}: {error}") from error
    except OSError as error:
        raise InspectionError(f"{name}: {error}") from error


class DamagedError(InspectionError):
    """The file is not an archive, or its header or tables are damaged."""
