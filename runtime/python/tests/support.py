"""Shared parts of the tests: trees of files, and a replacement for `_cds_archive.write`."""

import contextlib
import os
import random
import shutil
import sys
import tempfile
import types
import unittest
from collections.abc import Iterator
from importlib.machinery import (
    BYTECODE_SUFFIXES,
    EXTENSION_SUFFIXES,
    SOURCE_SUFFIXES,
    ExtensionFileLoader,
    FileFinder,
    SourceFileLoader,
    SourcelessFileLoader,
)
from unittest import mock

LONG_AGO_NS = 1_000_000_000_000_000_001

LOADERS = (
    (ExtensionFileLoader, EXTENSION_SUFFIXES),
    (SourceFileLoader, SOURCE_SUFFIXES),
    (SourcelessFileLoader, BYTECODE_SUFFIXES),
)


class TreeTestCase(unittest.TestCase):
    """A test with a directory of its own, `self.root`."""

    def setUp(self) -> None:
        self.root = os.path.realpath(tempfile.mkdtemp(prefix="cds-test-"))
        self.addCleanup(shutil.rmtree, self.root)

    def path(self, *parts: str) -> str:
        return os.path.join(self.root, *parts)

    def write(self, name: str, content: str | bytes = "") -> str:
        """Create a file, and the directories above it."""
        path = self.path(name)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "wb") as file:
            file.write(content.encode() if isinstance(content, str) else content)
        return path

    def settle(self, name: str = "") -> None:
        """Set old timestamps everywhere: none is racy then, and no test has to wait."""
        for directory, _, names in os.walk(self.path(name)):
            for name in names:
                with contextlib.suppress(FileNotFoundError):
                    make_old(os.path.join(directory, name))
            make_old(directory)


def make_old(path: str) -> None:
    os.utime(path, ns=(LONG_AGO_NS, LONG_AGO_NS), follow_symlinks=False)


def file_finder(directory: str) -> FileFinder:
    """Return what the path hooks of a stock interpreter return for a directory."""
    return FileFinder(directory, *LOADERS)


@contextlib.contextmanager
def archive_writer(writer: object) -> Iterator[None]:
    """Give the interpreter this `_cds_archive.write`, and no linked extension modules."""
    module = types.ModuleType("_cds_archive")
    module.write = writer
    module.is_linked = lambda name, path: False
    with mock.patch.dict(sys.modules, {"_cds_archive": module}):
        yield


class RecordingWriter:
    """A replacement for `_cds_archive.write` that keeps its arguments."""

    def __init__(self, skipped: list[tuple[str, str]] | None = None) -> None:
        self._skipped = skipped or []

    def __call__(
        self, path, modules, patterns, directories, profiles, freshness, command
    ) -> dict[str, object]:
        self.modules = modules
        self.patterns = patterns
        self.directories = directories
        with open(path, "wb") as file:
            file.write(b"\0archive")
        return {
            "modules": len(modules),
            "shared": 0,
            "patterns": len(patterns),
            "extensions": 0,
            "directories": len(directories),
            "bytes": 8,
            "objects": {"code": len(modules)},
            "sections": {"never written": 5, "written when run": 3},
            "skipped": self._skipped,
            "sizes": [(module[0], 100, 250) for module in modules],
        }

    @property
    def names(self) -> list[str]:
        return [module[0] for module in self.modules]


class RandomTree:
    """Creates and changes random trees with everything that is difficult for an import system."""

    STEMS = ("a", "b", "0001-c", "__init__", "")
    TAILS = (
        *EXTENSION_SUFFIXES,
        *SOURCE_SUFFIXES * 4,
        *BYTECODE_SUFFIXES,
        *("",) * 8,
        ".txt",
    )

    def __init__(self, seed: int, root: str) -> None:
        self._random = random.Random(seed)
        self.root = root

    def grow(self, directory: str | None = None, depth: int = 0) -> None:
        directory = directory or self.root
        for _ in range(self._random.randrange(1, 9)):
            path = os.path.join(directory, self._name())
            self._create(path)
            if os.path.isdir(path) and not os.path.islink(path) and depth < 2:
                self.grow(path, depth + 1)

    def change(self) -> None:
        """Create, remove, move or replace a random path."""
        everything = self._everything()
        if not everything:
            return
        path = self._random.choice(everything)
        match self._random.randrange(6):
            case 0:
                self._remove(path)
            case 1:
                self._remove(path)
                self._create(path)
            case 2:
                self._create(os.path.join(os.path.dirname(path), self._name()))
            case 3:
                directory = path if os.path.isdir(path) else os.path.dirname(path)
                self._create(os.path.join(directory, self._name()))
            case 4:
                directory = self._random.choice(self.directories())
                self._create(os.path.join(directory, "__init__.py"))
            case 5:
                with contextlib.suppress(OSError):
                    os.rename(path, os.path.join(os.path.dirname(path), self._name()))

    def directories(self) -> list[str]:
        return [directory for directory, _, _ in os.walk(self.root)]

    def names(self) -> set[str]:
        """Every last component of a name that a test should ask for."""
        return {*self.STEMS, "absent", "LICENSE", "0001"}

    def _name(self) -> str:
        name = self._random.choice(self.STEMS) + self._random.choice(self.TAILS)
        return name or "LICENSE"

    def _create(self, path: str) -> None:
        with contextlib.suppress(FileExistsError, NotADirectoryError):
            match self._random.randrange(12):
                case 0 | 1 | 2 | 3:
                    os.mkdir(path)
                case 4:
                    os.symlink(self._random.choice([*self._everything(), "missing"]), path)
                case 5:
                    os.mkfifo(path)
                case _:
                    with open(path, "xb"):
                        pass

    def _remove(self, path: str) -> None:
        if os.path.isdir(path) and not os.path.islink(path):
            shutil.rmtree(path)
        else:
            os.unlink(path)

    def _everything(self) -> list[str]:
        return [
            os.path.join(directory, name)
            for directory, directories, files in os.walk(self.root)
            for name in sorted([*directories, *files])
        ]
