import os
import unittest
from importlib.machinery import EXTENSION_SUFFIXES

from cds.collect.listing import Listings
from cds.collect.resolve import Origin
from cds.collect.walk import modules_below
from tests.support import TreeTestCase


class WalkTestCase(TreeTestCase):
    def names_below(self, directory: str, package: str = "", **options: object) -> list[str]:
        self.settle()
        found = modules_below(self.path(directory), package, Listings(), **options)
        return [name for name, _ in found]


class AllModulesOfAPackage(WalkTestCase):
    def test_submodules_of_every_depth(self) -> None:
        for file in ("__init__", "__main__", "a", "sub/__init__", "sub/b", "tests/test_a"):
            self.write(f"site/pkg/{file}.py")
        self.assertEqual(
            self.names_below("site/pkg", "pkg"),
            ["pkg.__main__", "pkg.a", "pkg.sub", "pkg.sub.b", "pkg.tests.test_a"],
        )

    def test_what_is_found_there_is_what_import_would_find(self) -> None:
        self.write("site/pkg/a.py")
        self.write("site/pkg/a/__init__.py")
        self.write(f"site/pkg/fast{EXTENSION_SUFFIXES[0]}")
        self.write("site/pkg/fast.py")
        self.settle()
        found = dict(modules_below(self.path("site/pkg"), "pkg", Listings()))
        self.assertEqual(found["pkg.a"].file, self.path("site/pkg/a/__init__.py"))
        self.assertEqual(found["pkg.fast"].origin, Origin.EXTENSION)

    def test_data_is_not_taken_for_modules(self) -> None:
        self.write("site/pkg/__pycache__/a.cpython-313.pyc")
        self.write("site/pkg/locale/de/messages.po")
        self.write("site/pkg/some-data/template.py")
        self.write("site/pkg/a b.py")
        self.write("site/pkg/v1.2/a.py")
        self.assertEqual(self.names_below("site/pkg", "pkg"), [])

    def test_django_migrations(self) -> None:
        self.write("site/app/migrations/__init__.py")
        self.write("site/app/migrations/0001_initial.py")
        self.assertEqual(
            self.names_below("site/app", "app"), ["app.migrations", "app.migrations.0001_initial"]
        )

    def test_path_entry_with_packages_left_out_of_it_alone(self) -> None:
        self.write("lib/json/__init__.py")
        self.write("lib/json/test/__init__.py")
        self.write("lib/test/__init__.py")
        self.write("lib/abc.py")
        self.write("lib/site-packages/requests/__init__.py")
        self.assertEqual(
            self.names_below("lib", leave_out=frozenset({"test"})), ["abc", "json", "json.test"]
        )

    def test_link_to_a_directory_above(self) -> None:
        self.write("site/pkg/__init__.py")
        os.symlink("..", self.path("site/pkg/up"))
        os.symlink(".", self.path("site/pkg/same"))
        self.assertEqual(self.names_below("site/pkg", "pkg"), ["pkg.same", "pkg.up.pkg"])

    def test_linked_package_is_another_package(self) -> None:
        self.write("site/pkg/a/__init__.py")
        self.write("site/pkg/a/m.py")
        os.symlink("a", self.path("site/pkg/b"))
        self.assertEqual(
            self.names_below("site/pkg", "pkg"), ["pkg.a", "pkg.a.m", "pkg.b", "pkg.b.m"]
        )

    def test_no_such_directory(self) -> None:
        self.assertEqual(self.names_below("nowhere"), [])


if __name__ == "__main__":
    unittest.main()
