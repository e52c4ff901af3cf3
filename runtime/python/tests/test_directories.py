"""Compares the directory index with importlib's FileFinder."""

import os
import unittest
from unittest import mock

from cds.collect.directories import DirectoryIndex
from cds.collect.listing import Listings
from tests.support import LONG_AGO_NS, RandomTree, TreeTestCase, file_finder


class IndexTestCase(TreeTestCase):
    def index(self, *names: str) -> dict[str, dict[str, str | None]]:
        """Return the recorded entries of directories below the root, by their names."""
        self.settle()
        index = DirectoryIndex(Listings())
        for name in names:
            index.add(self.path(name) if name else self.root)
        return {
            os.path.relpath(path, self.root): dict(entries)
            for path, _, entries in index.directories()
        }


class WhatADirectoryAnswers(IndexTestCase):
    def test_modules_and_a_package(self) -> None:
        self.write("site/abc.py")
        self.write("site/json/__init__.py")
        self.write("site/json/decoder.py")
        self.write("site/README.txt")
        self.write("site/LICENSE")
        self.assertEqual(
            self.index("site", "site/json"),
            {
                "site": {"abc": "abc.py", "json": "json/__init__.py"},
                "site/json": {"__init__": "__init__.py", "decoder": "decoder.py"},
            },
        )

    def test_order_is_package_before_module_and_extension_before_source(self) -> None:
        self.write("site/a/__init__.py")
        self.write("site/a.py")
        self.write("site/b.py")
        self.write("site/b.abi3.so")
        self.write("site/b.pyc")
        self.assertEqual(
            self.index("site", "site/a")["site"], {"a": "a/__init__.py", "b": "b.abi3.so"}
        )

    def test_package_whose_directory_is_not_recorded_could_lose_its_init(self) -> None:
        self.write("site/a/__init__.py")
        self.assertEqual(self.index("site"), {"site": {"a": None}})

    def test_directory_without_init_could_get_one(self) -> None:
        self.write("site/a/module.py")
        self.write("site/a.py")
        self.assertEqual(self.index("site", "site/a")["site"], {"a": None})

    def test_symbolic_links_can_be_turned_without_the_directory_knowing(self) -> None:
        self.write("elsewhere/a.py")
        self.write("elsewhere/b/__init__.py")
        os.mkdir(self.path("site"))
        os.symlink("../elsewhere/a.py", self.path("site/a.py"))
        os.symlink("../elsewhere/b", self.path("site/b"))
        os.symlink("../elsewhere/missing.py", self.path("site/c.py"))
        self.write("site/d/module.py")
        os.symlink("../../elsewhere/a.py", self.path("site/d/__init__.py"))
        self.assertEqual(
            self.index("site", "site/b", "site/d")["site"], dict.fromkeys(["a", "b", "c", "d"])
        )

    def test_link_matters_only_where_the_search_gets_to_it(self) -> None:
        self.write("site/a.abi3.so")
        os.symlink("elsewhere.py", self.path("site/a.py"))
        self.assertEqual(self.index("site")["site"], {"a": "a.abi3.so"})

    def test_names_that_are_no_identifiers(self) -> None:
        self.write("site/foo-bar.py")
        self.write("site/0001_initial.py")
        self.write("site/foo.dist-info/METADATA")
        self.write("site/x.y.py")
        self.assertEqual(
            self.index("site")["site"],
            {"0001_initial": "0001_initial.py", "foo-bar": "foo-bar.py"},
        )

    def test_directory_that_looks_like_a_module(self) -> None:
        self.write("site/a.py/module.py")
        self.assertEqual(self.index("site")["site"], {})

    def test_path_entry_with_a_slash_at_its_end(self) -> None:
        self.write("site/a/__init__.py")
        self.assertEqual(self.index("site/", "site/a")["site"], {"a": "a/__init__.py"})

    def test_records_the_time_and_sorts(self) -> None:
        self.write("b/z.py")
        self.write("b/a.py")
        self.write("a/m.py")
        self.settle()
        index = DirectoryIndex(Listings())
        for name in ("b", "a", "b"):
            index.add(self.path(name))
        self.assertEqual(
            index.directories(),
            [
                (self.path("a"), LONG_AGO_NS, [("m", "m.py")]),
                (self.path("b"), LONG_AGO_NS, [("a", "a.py"), ("z", "z.py")]),
            ],
        )


class DirectoriesThatAreLeftOut(IndexTestCase):
    def test_missing_directory_and_plain_file(self) -> None:
        self.write("python313.zip")
        self.assertEqual(self.index("python313.zip", "nowhere"), {})

    def test_directory_that_cannot_be_read(self) -> None:
        self.write("site/a.py")
        with mock.patch("os.scandir", side_effect=PermissionError):
            self.assertEqual(self.index("site"), {})

    def test_directory_that_changes_while_it_is_listed(self) -> None:
        self.write("site/a.py")
        self.settle()
        real_scandir = os.scandir

        def scandir(path: str) -> object:
            entries = real_scandir(path)
            os.utime(path)
            return entries

        index = DirectoryIndex(Listings())
        with mock.patch("os.scandir", scandir):
            index.add(self.path("site"))
        self.assertEqual(index.directories(), [])

    def test_module_name_that_is_not_utf8(self) -> None:
        self.write("site/a.py")
        self.write(os.fsdecode(b"site/caf\xe9.py"))
        self.assertEqual(self.index("site"), {})

    def test_other_names_may_be_anything(self) -> None:
        self.write("site/a.py")
        self.write(os.fsdecode(b"site/caf\xe9.txt"))
        self.assertEqual(self.index("site"), {"site": {"a": "a.py"}})


class AgreementWithFileFinder(TreeTestCase):
    """For each tree, the index gives the answer of FileFinder, or none."""

    TREES = 200
    CHANGES = 3

    def grow(self, seed: int) -> RandomTree:
        root = self.path(f"tree{seed}")
        os.mkdir(root)
        tree = RandomTree(seed, root)
        tree.grow()
        self.settle(f"tree{seed}")
        for number, directory in enumerate(tree.directories()):
            # Each directory needs its own timestamp.  With equal timestamps, it is not noticed
            # when one directory is moved to the place of another.
            os.utime(directory, ns=(0, LONG_AGO_NS + number))
        return tree

    def check_entries(self, tree: RandomTree, index: DirectoryIndex) -> int:
        """Compare each entry whose directories are unchanged; return the certain ones."""
        certain = 0
        directories = index.directories()
        unchanged = {
            path
            for path, mtime_ns, _ in directories
            if os.path.isdir(path) and os.stat(path).st_mtime_ns == mtime_ns
        }
        for path, _, entries in directories:
            if path not in unchanged:
                continue
            answers = dict(entries)
            finder = file_finder(path)
            for name in tree.names() | answers.keys():
                spec = finder.find_spec(name)
                if name not in answers:
                    self.assertIsNone(spec, f"{name} in {path}")
                    continue
                file = answers[name]
                if file is None:
                    continue
                package, _, _ = file.rpartition("/")
                if package and os.path.join(path, package) not in unchanged:
                    continue
                certain += 1
                self.assertIsNotNone(spec, f"{name} in {path}")
                self.assertEqual(spec.origin, os.path.join(path, file))
                self.assertEqual(
                    spec.submodule_search_locations,
                    [os.path.join(path, package)] if package else None,
                )
        return certain

    def test_at_once(self) -> None:
        certain = 0
        for seed in range(self.TREES):
            with self.subTest(seed=seed):
                tree = self.grow(seed)
                index = DirectoryIndex(Listings())
                for directory in tree.directories()[: 1 + seed % 7]:
                    index.add(directory)
                certain += self.check_entries(tree, index)
        self.assertGreater(certain, self.TREES)

    def test_after_changes_as_long_as_the_timestamps_stand(self) -> None:
        certain = 0
        for seed in range(self.TREES):
            with self.subTest(seed=seed):
                tree = self.grow(seed)
                index = DirectoryIndex(Listings())
                for directory in tree.directories():
                    index.add(directory)
                for _ in range(self.CHANGES):
                    tree.change()
                certain += self.check_entries(tree, index)
        self.assertGreater(certain, self.TREES)


if __name__ == "__main__":
    unittest.main()
