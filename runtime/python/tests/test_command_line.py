"""Tests of the command line `python -m cds`."""

import io
import json
import os
import re
import subprocess
import sys
import unittest

from cds.text.progress import ProgressLine
from tests.support import TreeTestCase

PACKAGE = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))

# A `sitecustomize` that replaces the interpreter's own module `_cds_archive`.
WRITER = """
import sys, types

def write(path, modules, patterns, directories, profiles, freshness, command):
    with open(path, "wb") as file:
        file.write(b"\\0" + "\\n".join(module[0] for module in modules).encode())
    return {
        "modules": len(modules), "shared": 0, "patterns": len(patterns), "extensions": 0,
        "directories": len(directories), "bytes": 6_543_210,
        "objects": {"code": 3}, "sections": {"never written": 6_543_000, "tables": 210},
        "skipped": [],
        "sizes": [(module[0], 1000, 2500) for module in modules],
    }

sys.modules["_cds_archive"] = types.SimpleNamespace(write=write, is_linked=lambda *_: False)
"""
NO_WRITER = "import sys; sys.modules['_cds_archive'] = None"


class CommandTestCase(TreeTestCase):
    def setUp(self) -> None:
        super().setUp()
        self.write("interpreter/sitecustomize.py", WRITER)
        self.write("lib/app/__init__.py")
        self.write("lib/app/views.py")
        self.write("lib/broken.py", "x = (")

    def cds(self, *arguments: str, stdin: str = "", flags: tuple[str, ...] = ()) -> str:
        """Run a command in the root; return what it prints, expecting it to succeed."""
        result = self.run_cds(*arguments, stdin=stdin, flags=flags)
        self.assertEqual(result.stderr, "")
        self.assertEqual(result.returncode, 0)
        return result.stdout

    def cds_fails(self, status: int, *arguments: str) -> str:
        result = self.run_cds(*arguments)
        self.assertEqual(result.returncode, status, result.stderr)
        self.assertEqual(result.stdout, "")
        return result.stderr

    def run_cds(
        self, *arguments: str, stdin: str = "", flags: tuple[str, ...] = ()
    ) -> subprocess.CompletedProcess[str]:
        self.settle()
        environment = os.environ | {
            "PYTHONPATH": os.pathsep.join([PACKAGE, self.path("interpreter"), self.path("lib")]),
            "PYTHONDONTWRITEBYTECODE": "1",
            "COLUMNS": "80",
        }
        return subprocess.run(
            [sys.executable, *flags, "-m", "cds", *arguments],
            cwd=self.root,
            env=environment,
            input=stdin,
            capture_output=True,
            text=True,
            timeout=60,
        )

    def archived(self) -> list[str]:
        with open(self.path("app.cds"), "rb") as file:
            return file.read()[1:].decode().split("\n")


class Dump(CommandTestCase):
    def test_list(self) -> None:
        self.write("app.lst", "app\napp.views\nsys\nmissing\nbroken\n")
        report = self.cds("dump", "app.lst", "app.cds").splitlines()
        # The number depends on the path entries of this interpreter.
        report[0] = re.sub(r"\d+ directories", "N directories", report[0])
        self.assertEqual(
            report,
            [
                "app.cds: 2 modules, N directories, 6.2 MiB",
                "  never written     6.2 MiB",
                "  tables              210 B",
                "Packages  modules     .pyc  archive",
                "  app           2  2.0 KiB  4.9 KiB",
                "Not archived, and imported as usual: 3 modules",
                "  built-in module: 1: sys",
                "  does not compile: 1: broken ('(' was never closed (line 1))",
                "  not found: 1: missing",
                f"Use it: {sys.executable} -X cds=app.cds ...",
            ],
        )
        self.assertEqual(self.archived(), ["app", "app.views"])

    def test_several_lists_and_standard_input(self) -> None:
        self.write("a.lst", "app\n")
        self.write("b.lst", "app\napp.views\n")
        self.cds("dump", "a.lst", "b.lst", "-", "app.cds", stdin="zipimport\n")
        self.assertEqual(self.archived(), ["app", "app.views", "zipimport"])

    def test_options_go_anywhere(self) -> None:
        self.write("a.lst", "zipimport\n")
        for arguments in (
            ("-q", "--package", "app", "a.lst", "app.cds"),
            ("a.lst", "--package", "app", "app.cds", "-q"),
            ("a.lst", "-q", "app.cds", "--package=app"),
        ):
            with self.subTest(arguments):
                self.assertEqual(self.cds("dump", *arguments), "")
                self.assertEqual(self.archived(), ["zipimport", "app", "app.views"])

    def test_packages_with_a_comma_or_one_by_one(self) -> None:
        for options in (["--package", "app,json"], ["--package", "app", "--package", "json"]):
            with self.subTest(options):
                self.cds("dump", *options, "app.cds")
                self.assertLessEqual({"app", "app.views", "json.tool"}, set(self.archived()))

    def test_directory_to_look_into_first(self) -> None:
        self.write("elsewhere/app.py")
        self.cds("dump", "--path", "elsewhere", "--package", "app", "app.cds")
        self.assertEqual(self.archived(), ["app"])

    def test_modules_that_happen_to_lie_in_the_current_directory(self) -> None:
        self.write("argparse.py", "raise SystemExit('was imported')")
        self.write("here.py")
        for flags in ((), ("-P",)):
            with self.subTest(flags):
                self.assertIn("not found: 1: here", self.dump_here(flags))

    def dump_here(self, flags: tuple[str, ...]) -> str:
        return self.cds("dump", "-", "app.cds", stdin="here\nargparse\n", flags=flags)

    def test_json(self) -> None:
        self.write("app.lst", "app\nbroken\n")
        self.assertEqual(
            json.loads(self.cds("dump", "--json", "app.lst", "app.cds")),
            {
                "archive": "app.cds",
                "modules": 1,
                "shared": 0,
                "patterns": 0,
                "extensions": 0,
                "directories": 4,
                "bytes": 6_543_210,
                "sections": {"never written": 6_543_000, "tables": 210},
                "objects": {"code": 3},
                "packages": [
                    {"name": "app", "modules": 1, "pyc_bytes": 1000, "archive_bytes": 2500}
                ],
                "skipped": [
                    {
                        "name": "broken",
                        "reason": "does not compile",
                        "detail": "'(' was never closed (line 1)",
                    }
                ],
            },
        )

    def test_verbose_names_all_that_was_left_out(self) -> None:
        names = [f"missing{number}" for number in range(8)]
        self.write("app.lst", "\n".join(["app", *names]))
        self.assertIn(
            "  not found: 8: missing0, missing1, missing2, missing3, missing4, "
            "and 3 more (--verbose names them)\n",
            self.cds("dump", "app.lst", "app.cds"),
        )
        self.assertIn(
            "  not found: 8\n    " + "\n    ".join(names) + "\n",
            self.cds("dump", "--verbose", "app.lst", "app.cds"),
        )


class Errors(CommandTestCase):
    def test_nothing_to_archive(self) -> None:
        self.write("app.lst", "sys\n")
        self.assertEqual(
            self.cds_fails(1, "dump", "app.lst", "app.cds").splitlines(),
            [
                "cds dump: error: nothing to archive: "
                "name at least one module that has a source file",
                "Not archived, and imported as usual: 1 module",
                "  built-in module: 1: sys",
            ],
        )

    def test_bad_line_is_named_as_a_compiler_would(self) -> None:
        self.write("app.lst", "json\nimport os\n")
        self.assertEqual(
            self.cds_fails(1, "dump", "app.lst", "app.cds"),
            "cds dump: error: app.lst:2: not a module name: 'import os'; write one name per line\n",
        )

    def test_list_is_missing(self) -> None:
        self.assertEqual(
            self.cds_fails(1, "dump", "app.lst", "app.cds"),
            "cds dump: error: cannot read app.lst: No such file or directory; "
            "check the path and its permissions\n",
        )

    def test_archive_forgotten(self) -> None:
        self.write("app.lst", "json\n")
        self.assertIn("name what to archive", self.cds_fails(2, "dump", "app.lst"))
        self.assertIn("will not overwrite", self.cds_fails(1, "dump", "--stdlib", "app.lst"))
        with open(self.path("app.lst")) as file:
            self.assertEqual(file.read(), "json\n")

    def test_wrong_usage(self) -> None:
        for arguments in (
            (),
            ("frobnicate",),
            ("dump",),
            ("dump", "a", "a"),
            ("dump", "--stdlib", "-q", "-v", "a"),
            ("dump", "--package", "no.such.", "a"),
            ("dump", "--path", "nowhere", "--stdlib", "a"),
        ):
            with self.subTest(arguments):
                self.assertIn("usage: python -m cds", self.cds_fails(2, *arguments))

    def test_interpreter_without_archives(self) -> None:
        self.write("interpreter/sitecustomize.py", NO_WRITER)
        self.assertIn("cannot write archives", self.cds_fails(1, "dump", "--stdlib", "a.img"))


class Help(CommandTestCase):
    def test_lists_the_commands(self) -> None:
        self.assertIn("  dump     write an archive", self.cds("--help"))

    def test_explains_a_command(self) -> None:
        text = self.cds("dump", "--help")
        for part in ("examples:", "exit status:", "--site-packages", "[LIST ...] ARCHIVE"):
            self.assertIn(part, text)


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


class Progress(unittest.TestCase):
    def show(self, stream: io.StringIO, seconds: float, step: float = 0.5) -> str:
        clock = Clock()
        line = ProgressLine("cds", stream, clock)
        while clock.now < seconds:
            line.show(f"at {clock.now:g}")
            clock.now += step
        line.clear()
        return stream.getvalue()

    def test_short_work_is_silent(self) -> None:
        for stream in (io.StringIO(), Terminal()):
            self.assertEqual(self.show(stream, 2), "")

    def test_terminal_has_one_line_which_is_gone_at_the_end(self) -> None:
        clear = "\r\x1b[K"
        self.assertEqual(
            self.show(Terminal(), 3.5),
            f"{clear}cds: at 2{clear}cds: at 2.5{clear}cds: at 3{clear}",
        )

    def test_log_has_a_line_now_and_then(self) -> None:
        self.assertEqual(self.show(io.StringIO(), 13), "cds: at 2\ncds: at 7\ncds: at 12\n")

    def test_announcement_of_what_takes_long_comes_at_once(self) -> None:
        stream = Terminal()
        line = ProgressLine("cds", stream, Clock())
        line.announce("writing")
        line.clear()
        self.assertEqual(stream.getvalue(), "\r\x1b[Kcds: writing\r\x1b[K")


if __name__ == "__main__":
    unittest.main()
