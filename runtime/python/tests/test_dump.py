import os
import sys
import unittest
import warnings
from importlib.machinery import EXTENSION_SUFFIXES
from types import CodeType
from unittest import mock

from cds.collect.installation import stdlib_directory
from cds.collect.tracelist import parse
from cds.dump import DumpError, NothingToArchive, Selection, Skipped, Summary, dump
from tests.support import LONG_AGO_NS, RecordingWriter, TreeTestCase, archive_writer


class DumpTestCase(TreeTestCase):
    def setUp(self) -> None:
        super().setUp()
        self.writer = RecordingWriter()
        self.archive = self.path("app.cds")

    def dump(
        self, trace: str = "", *, path: tuple[str, ...] = ("lib",), **selection: object
    ) -> Summary:
        self.settle()
        entries = parse(trace.encode(), "app.lst")
        with archive_writer(self.writer):
            return dump(
                self.archive,
                Selection(entries, **selection),
                path=[self.path(name) for name in path],
            )

    def written_directories(self) -> dict[str, dict[str, str | None]]:
        return {
            os.path.relpath(path, self.root): dict(entries)
            for path, _, entries in self.writer.directories
        }


class WhatATraceLists(DumpTestCase):
    def test_module_goes_in_with_its_stamp_and_code(self) -> None:
        file = self.write("lib/a.py", "x = 1")
        self.dump("a")
        ((name, origin, mtime_ns, size, code, is_hot),) = self.writer.modules
        self.assertEqual((name, origin, mtime_ns, size), ("a", file, LONG_AGO_NS, 5))
        self.assertIsInstance(code, CodeType)
        self.assertEqual(code.co_filename, file)
        self.assertIs(is_hot, True)

    def test_frozen_module_has_no_file(self) -> None:
        self.dump("zipimport\n_frozen_importlib")
        self.assertEqual(
            [module[:4] for module in self.writer.modules],
            [("zipimport", None, 0, 0), ("_frozen_importlib", None, 0, 0)],
        )
        self.assertEqual(self.writer.modules[0][4].co_filename, "<frozen zipimport>")

    def test_order_is_that_of_the_list(self) -> None:
        for name in ("b", "a", "c/__init__", "c/a"):
            self.write(f"lib/{name}.py")
        self.dump("c.a\nb\nzipimport\nc\na\nb")
        first = (self.writer.modules, self.writer.directories)
        self.assertEqual(self.writer.names, ["c.a", "b", "zipimport", "c", "a"])
        self.dump("c.a\nb\nzipimport\nc\na")
        self.assertEqual((self.writer.modules, self.writer.directories), first)

    def test_what_no_list_names_follows_by_file_and_is_not_hot(self) -> None:
        for name in ("c/__init__", "c/b", "c/a"):
            self.write(f"lib/{name}.py")
        self.dump("c.b", packages=["c"])
        self.assertEqual(
            [(module[0], module[-1]) for module in self.writer.modules],
            [("c.b", True), ("c", False), ("c.a", False)],
        )

    def test_directories_are_those_searched_and_those_of_packages(self) -> None:
        self.write("early/other.py")
        self.write("lib/pkg/__init__.py")
        self.write("lib/pkg/sub/__init__.py")
        self.write("lib/pkg/sub/deep.py")
        self.write("lib/unused/__init__.py")
        self.write("late/unrelated.py")
        self.dump("pkg\npkg.sub", path=("early", "lib", "late"))
        self.assertEqual(
            self.written_directories(),
            {
                "early": {"other": "other.py"},
                "lib": {"pkg": "pkg/__init__.py", "unused": None},
                "lib/pkg": {"__init__": "__init__.py", "sub": "sub/__init__.py"},
                "lib/pkg/sub": {"__init__": "__init__.py", "deep": "deep.py"},
            },
        )

    def test_portions_of_namespace_packages_are_searched(self) -> None:
        self.write("one/google/auth.py")
        self.write("two/google/cloud.py")
        self.dump("google\ngoogle.cloud", path=("one", "two"))
        self.assertEqual(
            self.written_directories(),
            {
                "one": {"google": None},
                "one/google": {"auth": "auth.py"},
                "two": {"google": None},
                "two/google": {"cloud": "cloud.py"},
            },
        )

    def test_modules_of_the_same_name_beside_two_scripts(self) -> None:
        one = self.write("one/utils.py")
        two = self.write("two/utils/__init__.py")
        self.dump(f"utils # {one}\nutils # {two}")
        self.assertEqual(
            [module[:2] for module in self.writer.modules], [("utils", one), ("utils", two)]
        )
        self.assertEqual(
            self.written_directories(),
            {
                "one": {"utils": "utils.py"},
                "two": {"utils": "utils/__init__.py"},
                "two/utils": {"__init__": "__init__.py"},
            },
        )

    def test_one_file_under_two_names_has_one_code_object(self) -> None:
        file = self.write("lib/pkg/a.py")
        self.dump(f"a # {file}\npkg.a", path=("lib",))
        (one, two) = self.writer.modules
        self.assertEqual((one[0], two[0]), ("a", "pkg.a"))
        self.assertIs(one[4], two[4])

    def test_what_cannot_be_archived_is_told_and_the_rest_is_written(self) -> None:
        self.write("lib/good.py")
        self.write("lib/bad.py", "x = (")
        self.write("lib/space/m.txt")
        self.write("lib/secret.pyc")
        self.write(f"lib/fast{EXTENSION_SUFFIXES[0]}")
        gone = self.path("app/gone.py")
        summary = self.dump(f"good\nbad\nspace\nsecret\nfast\nsys\nmissing\ngone # {gone}\ngone")
        self.assertEqual(self.writer.names, ["good"])
        self.assertEqual(
            summary.skipped,
            [
                Skipped("bad", "does not compile", "'(' was never closed (line 1)"),
                Skipped("fast", "extension module"),
                Skipped("gone", "not found"),
                Skipped("gone", "not found", gone),
                Skipped("missing", "not found"),
                Skipped("secret", "bytecode without source"),
                Skipped("space", "namespace package"),
                Skipped("sys", "built-in module"),
            ],
        )

    def test_what_the_writer_leaves_out_is_told_too(self) -> None:
        self.write("lib/a.py")
        self.writer = RecordingWriter([("a", "has a constant of type slice")])
        summary = self.dump("a\nmissing")
        self.assertEqual(
            summary.skipped,
            [Skipped("a", "has a constant of type slice"), Skipped("missing", "not found")],
        )

    def test_path_that_is_not_utf8(self) -> None:
        self.write(os.fsdecode(b"lib\xe9/a.py"))
        self.write("lib/b.py")
        summary = self.dump("a\nb", path=(os.fsdecode(b"lib\xe9"), "lib"))
        self.assertEqual(summary.skipped, [Skipped("a", "has a path that is not UTF-8")])
        self.assertEqual(list(self.written_directories()), ["lib"])

    def test_no_module_is_imported_or_run(self) -> None:
        self.write("lib/a/__init__.py", "raise SystemExit('was run')")
        self.write("lib/a/b.py", "raise SystemExit('was run')")
        before = set(sys.modules)
        self.dump("a.b", packages=["a"])
        self.assertEqual(set(sys.modules) - before, set())

    def test_warnings_about_sources_are_not_heard(self) -> None:
        self.write("lib/a.py", r"x = '\d' is 1")
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            self.dump("a")
        self.assertEqual(self.writer.names, ["a"])


class WholePackages(DumpTestCase):
    def test_package_with_all_its_modules_and_its_parents(self) -> None:
        for file in ("a/__init__", "a/b/__init__", "a/b/c", "a/b/data/d", "a/other"):
            self.write(f"lib/{file}.py")
        self.dump(packages=["a.b"])
        self.assertEqual(self.writer.names, ["a", "a.b", "a.b.c", "a.b.data.d"])
        self.assertEqual(
            sorted(self.written_directories()), ["lib", "lib/a", "lib/a/b", "lib/a/b/data"]
        )

    def test_namespace_package_over_two_path_entries(self) -> None:
        self.write("one/google/auth.py")
        self.write("two/google/cloud/__init__.py")
        self.dump(packages=["google"], path=("one", "two"))
        self.assertEqual(self.writer.names, ["google.auth", "google.cloud"])

    def test_plain_module(self) -> None:
        self.write("lib/a.py")
        self.dump(packages=["a"])
        self.assertEqual(self.writer.names, ["a"])

    def test_misspelled_package(self) -> None:
        with self.assertRaisesRegex(DumpError, "no package or module 'requets' on the path"):
            self.dump(packages=["requets"])

    def test_directory_of_data_alone_is_not_recorded(self) -> None:
        self.write("lib/a/__init__.py")
        self.write("lib/a/locale/de/messages.po")
        self.dump(packages=["a"])
        self.assertEqual(sorted(self.written_directories()), ["lib", "lib/a"])

    def test_site_packages(self) -> None:
        self.write("site/requests/__init__.py")
        self.write("site/requests-2.0.dist-info/RECORD")
        self.write("site/google/auth.py")
        self.write("site/six.py")
        with mock.patch("site.getsitepackages", return_value=[self.path("site"), "/nowhere"]):
            self.dump(site_packages=True)
        self.assertEqual(self.writer.names, ["google.auth", "requests", "six"])

    def test_standard_library(self) -> None:
        with archive_writer(self.writer):
            dump(self.archive, Selection(stdlib=True))
        names = set(self.writer.names)
        self.assertLessEqual(
            {"_frozen_importlib", "os", "json.decoder", "encodings.utf_8", "xml.dom"}, names
        )
        for left_out in ("test", "idlelib", "tkinter", "ensurepip", "turtledemo"):
            self.assertFalse([name for name in names if name.startswith(f"{left_out}.")])
        origins = [module[1] for module in self.writer.modules]
        self.assertFalse([origin for origin in origins if origin and "site-packages" in origin])
        # Frozen modules are also archived as files, for -X frozen_modules=off.
        self.assertIn(os.path.join(stdlib_directory(), "os.py"), origins)
        directories = {path: dict(entries) for path, _, entries in self.writer.directories}
        self.assertEqual(directories[stdlib_directory()]["json"], "json/__init__.py")
        self.assertTrue([path for path in directories if path.endswith("lib-dynload")])


class ArchivesThatAreNotWritten(DumpTestCase):
    def assert_error(self, text: str) -> None:
        self.write("lib/a.py")
        with self.assertRaises(DumpError) as caught:
            self.dump("a")
        self.assertEqual(str(caught.exception), text)
        self.assertFalse(hasattr(self.writer, "modules"))

    def test_interpreter_without_archives(self) -> None:
        with (
            mock.patch.dict(sys.modules, {"_cds_archive": None}),
            self.assertRaisesRegex(DumpError, "it has no module _cds_archive"),
        ):
            dump(self.archive, Selection(parse(b"json", "l")))

    def test_no_module_can_be_archived(self) -> None:
        with self.assertRaises(NothingToArchive) as caught:
            self.dump("sys")
        self.assertEqual(caught.exception.skipped, [Skipped("sys", "built-in module")])
        self.assertFalse(os.path.exists(self.archive))

    def test_directory_is_missing(self) -> None:
        self.archive = self.path("build/app.cds")
        self.assert_error(
            f"cannot write {self.archive}: there is no directory {self.path('build')}; create it"
        )

    def test_directory_is_read_only(self) -> None:
        with mock.patch("os.access", return_value=False):
            self.assert_error(
                f"cannot write {self.archive}: no permission to create files in {self.root}; "
                "give another ARCHIVE"
            )

    def test_trace_list_given_as_the_archive(self) -> None:
        self.archive = self.write("app.lst", "json\n")
        self.assert_error(
            f"will not overwrite {self.archive}: it is a text file, not an archive; "
            "give the ARCHIVE as the last name"
        )

    def test_device(self) -> None:
        self.archive = "/dev/null"
        self.assert_error(
            "cannot write /dev/null: it exists and is not a regular file; give another ARCHIVE"
        )

    def test_earlier_archive_and_empty_file_are_overwritten(self) -> None:
        self.write("lib/a.py")
        for content in (b"CDS\0\1", b""):
            self.write("app.cds", content)
            self.dump("a")
            self.assertEqual(os.path.getsize(self.archive), 8)

    def test_disk_is_full(self) -> None:
        self.write("lib/a.py")
        reason = f"cannot write {self.archive}: No space left on device (os error 28)"
        self.writer = mock.Mock(side_effect=OSError(reason))
        with self.assertRaises(DumpError) as caught:
            self.dump("a")
        self.assertEqual(str(caught.exception), reason)


if __name__ == "__main__":
    unittest.main()
