"""The number that stands for the names in a directory that an import can find."""

import os
import tempfile
import unittest
from collections.abc import Callable

from _cds_archive import hash_listing


class Listing(unittest.TestCase):
    def setUp(self) -> None:
        directory = tempfile.TemporaryDirectory()
        self.addCleanup(directory.cleanup)
        self.directory = directory.name

    def _path(self, name: str) -> str:
        return os.path.join(self.directory, name)

    def _create(self, name: str) -> None:
        with open(self._path(name), "w", encoding="utf-8"):
            pass

    def _hash(self) -> str:
        found: str = hash_listing(self.directory)
        return found

    def test_what_no_import_finds_makes_no_difference(self) -> None:
        self._create("a.py")
        first = self._hash()
        for name in ("README", "a.txt", "EXTERNALLY-MANAGED", "b"):
            self._create(name)
        for name in ("__pycache__", "a-1.0.dist-info"):
            os.mkdir(self._path(name))
        self.assertEqual(self._hash(), first)

    def test_modules_packages_and_links_make_a_difference(self) -> None:
        self._create("a.py")
        hashes = [self._hash()]
        makers: list[Callable[[str], None]] = [os.mkdir, lambda path: os.symlink("a.py", path)]
        for make, remove in zip(makers, [os.rmdir, os.unlink], strict=True):
            make(self._path("b"))
            hashes.append(self._hash())
            remove(self._path("b"))
        for name in ("b.py", "b.so", "b.abi3.so", "b.pyc"):
            self._create(name)
            hashes.append(self._hash())
            os.unlink(self._path(name))
        self.assertEqual(len(set(hashes)), len(hashes))
        self.assertEqual(self._hash(), hashes[0])

    def test_a_name_is_not_a_part_of_two_others(self) -> None:
        self._create("a.py")
        self._create("b.py")
        two = self._hash()
        os.unlink(self._path("a.py"))
        os.rename(self._path("b.py"), self._path("a.pyfb.py"))
        self.assertNotEqual(self._hash(), two)

    def test_the_number_of_a_missing_directory_is_that_of_an_unknown_one(self) -> None:
        self.assertEqual(int(hash_listing("/nonexistent"), 16), 0)
