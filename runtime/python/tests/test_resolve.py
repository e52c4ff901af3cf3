"""Compares the resolver with importlib."""

import contextlib
import importlib.util
import os
import pkgutil
import sys
import unittest
import zipfile
from importlib.machinery import EXTENSION_SUFFIXES, BuiltinImporter, FrozenImporter, PathFinder
from unittest import mock

from cds.collect.listing import Listings
from cds.collect.resolve import Found, Origin, Resolver
from cds.collect.tracelist import Entry
from tests.support import RandomTree, TreeTestCase


class ResolverTestCase(TreeTestCase):
    def resolver(self, *names: str, traced: tuple[Entry, ...] = ()) -> Resolver:
        return Resolver([self.path(name) for name in names], Listings(), traced)


class AlongThePath(ResolverTestCase):
    def test_first_entry_wins(self) -> None:
        self.write("one/a.py")
        self.write("two/a.py")
        self.write("two/b.py")
        resolver = self.resolver("one", "two")
        self.assertEqual(resolver.find("a"), Found(Origin.SOURCE, self.path("one/a.py")))
        self.assertEqual(list(resolver.searched), [self.path("one")])
        self.assertEqual(resolver.find("b"), Found(Origin.SOURCE, self.path("two/b.py")))
        self.assertEqual(list(resolver.searched), [self.path("one"), self.path("two")])

    def test_submodules_come_from_the_package_that_won(self) -> None:
        self.write("one/a/__init__.py")
        self.write("two/a/__init__.py")
        self.write("two/a/b.py")
        resolver = self.resolver("one", "two")
        self.assertEqual(
            resolver.find("a"),
            Found(Origin.SOURCE, self.path("one/a/__init__.py"), (self.path("one/a"),)),
        )
        self.assertIsNone(resolver.find("a.b"))

    def test_portions_of_a_namespace_package_add_up(self) -> None:
        self.write("one/google/auth.py")
        self.write("two/google/cloud/storage.py")
        resolver = self.resolver("one", "two")
        self.assertEqual(
            resolver.find("google"),
            Found(Origin.NAMESPACE, None, (self.path("one/google"), self.path("two/google"))),
        )
        self.assertEqual(
            resolver.find("google.cloud.storage"),
            Found(Origin.SOURCE, self.path("two/google/cloud/storage.py")),
        )

    def test_module_of_a_later_entry_beats_an_earlier_portion(self) -> None:
        self.write("one/a/data.txt")
        self.write("two/a.py")
        resolver = self.resolver("one", "two")
        self.assertEqual(resolver.find("a"), Found(Origin.SOURCE, self.path("two/a.py")))

    def test_module_has_no_submodules(self) -> None:
        self.write("one/a.py")
        self.write("one/a_b.py")
        self.assertIsNone(self.resolver("one").find("a.b"))

    def test_nothing_to_find(self) -> None:
        self.assertIsNone(self.resolver("missing").find("a"))
        self.assertIsNone(self.resolver("missing").find("a.b.c"))

    def test_extension_and_lone_bytecode(self) -> None:
        self.write(f"one/fast{EXTENSION_SUFFIXES[0]}")
        self.write("one/secret.pyc")
        resolver = self.resolver("one")
        self.assertEqual(resolver.find("fast").origin, Origin.EXTENSION)
        self.assertEqual(resolver.find("secret").origin, Origin.BYTECODE)

    def test_package_in_a_zip_file(self) -> None:
        with zipfile.ZipFile(self.path("lib.zip"), "w") as file:
            file.writestr("zipped/__init__.py", "")
            file.writestr("zipped/inner.py", "")
        resolver = self.resolver("lib.zip")
        self.assertEqual(resolver.find("zipped").origin, Origin.ZIP)
        self.assertEqual(resolver.find("zipped.inner").origin, Origin.ZIP)
        self.assertIsNone(resolver.find("zipped.other"))
        self.assertEqual(list(resolver.searched), [])

    def test_spelling_of_files_is_that_of_the_path_entry(self) -> None:
        self.write("one/a/__init__.py")
        os.symlink("one", self.path("link"))
        for entry in ("one/", "link", "link/../one", "./one", "one", "."):
            with self.subTest(entry):
                directory = self.path(entry)
                if entry in ("./one", "one"):
                    directory = entry
                elif entry == ".":
                    directory, entry = ".", "one"
                with contextlib.chdir(self.path("one") if directory == "." else self.root):
                    found = Resolver([directory], Listings()).find("a")
                    spec = PathFinder.find_spec("a", [directory])
                self.assertEqual(found.file, spec.origin)
                self.assertEqual(list(found.locations), spec.submodule_search_locations)

    def test_entries_that_are_no_paths(self) -> None:
        self.write("one/a.py")
        resolver = Resolver([None, b"/lib", "", self.path("one")], Listings())
        self.assertEqual(resolver.find("a").file, self.path("one/a.py"))

    def test_current_directory_is_gone(self) -> None:
        os.mkdir(self.path("gone"))
        with contextlib.chdir(self.path("gone")):
            os.rmdir(self.path("gone"))
            self.assertIsNone(Resolver(["", "lib"], Listings()).find("a"))

    def test_does_not_run_anything(self) -> None:
        self.write("one/a/__init__.py", "raise SystemExit('a was run')")
        self.write("one/a/b.py", "raise SystemExit('b was run')")
        before = set(sys.modules)
        self.assertEqual(self.resolver("one").find("a.b").origin, Origin.SOURCE)
        self.assertEqual(set(sys.modules), before)


class FilesThatATraceGives(ResolverTestCase):
    def test_module_beside_the_script(self) -> None:
        file = self.write("app/utils.py")
        self.assertEqual(Resolver.find_traced(file), Found(Origin.SOURCE, file))

    def test_package_and_its_submodules_without_files_of_their_own(self) -> None:
        init = self.write("src/editable/__init__.py")
        inner = self.write("src/editable/inner.py")
        resolver = self.resolver("lib", traced=(Entry("editable", init),))
        self.assertEqual(
            Resolver.find_traced(init), Found(Origin.SOURCE, init, (self.path("src/editable"),))
        )
        self.assertEqual(resolver.find("editable.inner"), Found(Origin.SOURCE, inner))

    def test_same_name_on_the_path_and_beside_the_script(self) -> None:
        init = self.write("app/utils/__init__.py")
        on_path = self.write("lib/utils/__init__.py")
        inner = self.write("lib/utils/inner.py")
        resolver = self.resolver("lib", traced=(Entry("utils", init),))
        self.assertEqual(resolver.find("utils").file, on_path)
        self.assertEqual(resolver.find("utils.inner").file, inner)

    def test_file_is_gone(self) -> None:
        self.assertIsNone(Resolver.find_traced(self.path("utils.py")))

    def test_extension(self) -> None:
        file = self.write(f"app/fast{EXTENSION_SUFFIXES[0]}")
        self.assertEqual(Resolver.find_traced(file).origin, Origin.EXTENSION)


class PartsOfTheInterpreter(ResolverTestCase):
    def test_built_in_beats_the_path(self) -> None:
        self.write("one/sys.py")
        self.assertEqual(self.resolver("one").find("sys"), Found(Origin.BUILTIN))

    def test_frozen_beats_the_path(self) -> None:
        self.write("one/zipimport.py")
        self.assertEqual(self.resolver("one").find("zipimport"), Found(Origin.FROZEN))

    def test_bootstrap_is_frozen_under_its_own_names(self) -> None:
        for name in ("_frozen_importlib", "_frozen_importlib_external"):
            self.assertEqual(self.resolver().find(name).origin, Origin.FROZEN)

    def test_submodules_of_importlib_are_partly_frozen(self) -> None:
        resolver = Resolver(sys.path, Listings())
        for name in ("importlib", "importlib.util", "importlib.abc", "importlib.resources"):
            with self.subTest(name):
                spec = importlib.util.find_spec(name)
                frozen = resolver.find(name).origin is Origin.FROZEN
                self.assertEqual(frozen, spec.origin == "frozen")

    def test_frozen_package(self) -> None:
        resolver = Resolver([], Listings())
        for name in ("__phello__", "__phello__.ham", "__phello_alias__"):
            with self.subTest(name):
                spec = importlib.util.find_spec(name)
                self.assertEqual(
                    list(resolver.find(name).locations), list(spec.submodule_search_locations)
                )

    def test_every_module_of_the_standard_library(self) -> None:
        resolver = Resolver(sys.path, Listings())
        checked = 0
        for name in stdlib_names():
            with self.subTest(name):
                expected = expected_by_importlib(name, sys.path)
                checked += expected is not None
                self.assertEqual(answer_of(resolver, name), expected)
        self.assertGreater(checked, 300)


class AgreementWithImportlib(TreeTestCase):
    """For each set of trees, the resolver finds what importlib finds."""

    TREES = 100

    def test_random_trees(self) -> None:
        found_any = 0
        for seed in range(self.TREES):
            roots = []
            for number in range(3):
                root = self.path(f"tree{seed}.{number}")
                os.mkdir(root)
                RandomTree(seed * 3 + number, root).grow()
                roots.append(root)
                self.settle(root)
            resolver = Resolver(roots, Listings())
            tails = sorted(RandomTree(0, "").names() - {""})
            for top in tails:
                for name in (top, *(f"{top}.{tail}" for tail in tails)):
                    with self.subTest(name, seed=seed):
                        expected = expected_by_importlib(name, roots)
                        found_any += expected is not None
                        self.assertEqual(answer_of(resolver, name), expected)
        self.assertGreater(found_any, self.TREES)


# `__spec__.origin` and `__path__`
Answer = tuple[str | None, tuple[str, ...] | None] | None


def answer_of(resolver: Resolver, name: str) -> Answer:
    found = resolver.find(name)
    if found is None:
        return None
    origins = {Origin.BUILTIN: "built-in", Origin.FROZEN: "frozen"}
    return origins.get(found.origin, found.file), found.locations


def expected_by_importlib(name: str, path: list[str]) -> Answer:
    """Ask the finders of a new interpreter, as an import does, but import nothing."""
    parent, _, _ = name.rpartition(".")
    if parent:
        expected = expected_by_importlib(parent, path)
        if expected is None or expected[1] is None:
            return None
        path = list(expected[1])
    # The `__path__` of a namespace package looks up the parent package in `sys.modules`.
    with mock.patch.dict(sys.modules, {parent: mock.Mock(__path__=path)}):
        for finder in (BuiltinImporter, FrozenImporter, PathFinder):
            spec = finder.find_spec(name, path)
            if spec is not None:
                locations = spec.submodule_search_locations
                return spec.origin, None if locations is None else tuple(locations)
    return None


def stdlib_names() -> list[str]:
    names = set(sys.stdlib_module_names)
    for package in ("asyncio", "collections", "email", "importlib", "json", "xml", "unittest"):
        for directory in importlib.util.find_spec(package).submodule_search_locations:
            names.update(f"{package}.{module.name}" for module in pkgutil.iter_modules([directory]))
    return sorted(names)


if __name__ == "__main__":
    unittest.main()
