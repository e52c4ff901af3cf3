import os
import pathlib
import re
import sys
import tempfile
import unittest

from cds.image import observed


class ObservedTestCase(unittest.TestCase):
    def setUp(self) -> None:
        directory = tempfile.TemporaryDirectory()
        self.addCleanup(directory.cleanup)
        self.top = directory.name
        for name in ("searched", "tree/below", "ours"):
            os.makedirs(self.path(name))
        for name in ("file", "searched/module", "tree/below/leaf", "ours/request"):
            with open(self.path(name), "w", encoding="utf-8") as file:
                file.write("text")
        os.symlink("tree", self.path("link"))

    def path(self, name: str) -> str:
        return os.path.join(self.top, name)

    def compared(self, contents: str = "", looked_at: str = "") -> dict[str, str]:
        """Return how each path is compared."""
        groups = [map(self.path, names.split()) for names in (contents, looked_at)]
        entries, _ = observed.compared(*groups, own=[self.path("ours")])
        return {os.path.relpath(os.fsdecode(path), self.top): kind for path, kind, *_ in entries}


class WhatIsCompared(ObservedTestCase):
    def test_files_and_listed_directories_by_their_time(self) -> None:
        found = self.compared("file searched", "tree/below/leaf")
        self.assertEqual(found, dict.fromkeys(["file", "searched", "tree/below/leaf"], "contents"))

    def test_a_directory_that_was_only_looked_at_has_to_be_there(self) -> None:
        self.assertEqual(self.compared("", "tree link"), {"tree": "directory", "link": "link"})

    def test_what_lies_below_says_that_a_directory_is_there(self) -> None:
        found = self.compared("", "tree tree/below tree/below/leaf")
        self.assertEqual(found, {"tree/below/leaf": "contents"})
        self.assertEqual(self.compared("", "tree tree/below"), {"tree/below": "directory"})

    def test_of_what_is_missing_the_highest_directory(self) -> None:
        found = self.compared("", "absent/a/b absent/c tree/absent")
        self.assertEqual(found, {"absent": "missing", "tree/absent": "missing"})

    def test_what_is_missing_where_the_time_tells_of_new_files(self) -> None:
        self.assertEqual(
            self.compared("searched", "searched/a searched/b/c"), {"searched": "contents"}
        )

    def test_a_link_that_leads_nowhere(self) -> None:
        os.symlink(self.path("target"), self.path("searched/dangling"))
        directory, link = self.path("searched"), self.path("searched/dangling")
        searched: dict[str, set[str]]
        for listed, searched in (([], {directory: {"x"}}), ([directory], {})):
            entries, _ = observed.compared(listed, [link], [], (), searched)
            self.assertIn((os.fsencode(link), "missing"), [entry[:2] for entry in entries])

    def test_of_a_directory_that_was_only_searched_the_names(self) -> None:
        searched = {self.path("searched"): {"module"}, self.path("tree"): {"below", "leaf"}}
        looked_at = [self.path(name) for name in ("searched/absent/a", "tree/below/leaf", "tree")]
        entries, names = observed.compared([], looked_at, [], (), searched)
        self.assertEqual([path for path, *_ in entries], [os.fsencode(looked_at[1])])
        expected = {"searched": {"module", "absent"}, "tree": {"below", "leaf"}}
        self.assertEqual(names, {self.path(path): found for path, found in expected.items()})

    def test_of_a_directory_that_was_searched_and_listed_the_time(self) -> None:
        path = self.path("searched")
        entries, names = observed.compared([path], [], [], (), {path: {"module"}})
        self.assertEqual(([kind for _, kind, *_ in entries], names), (["contents"], {}))

    def test_of_a_file_that_was_searched_all(self) -> None:
        path = self.path("file")
        entries, names = observed.compared([], [], [], (), {path: set()})
        self.assertEqual(([kind for _, kind, *_ in entries], names), (["contents"], {}))

    def test_not_what_belongs_to_the_dump(self) -> None:
        self.assertEqual(self.compared("ours/request", "ours ours/other"), {})

    def test_not_what_is_no_file(self) -> None:
        os.symlink("/proc/self/mounts", self.path("mounts"))
        paths = ["/proc/stat", "/sys", "/dev/null", self.path("mounts")]
        self.assertEqual(observed.compared(paths, paths, []), ([], {}))

    def test_not_what_is_mapped(self) -> None:
        executable = os.path.realpath(sys.executable)
        self.assertEqual(observed.compared([executable], [], []), ([], {}))


class TheRecord(ObservedTestCase):
    def record(self, *items: str) -> observed.Record:
        """Read a record; each item is a kind and a text."""
        parts = [item.partition(": ") for item in items]
        entries = [(kind, os.fsencode(text)) for kind, _, text in parts]
        return observed.read(entries, "/request")

    def imports(self, *items: str) -> observed.Record:
        return self.record("opened: /request", *items, "looked at: /request.imported")

    def test_kinds_are_those_of_the_observer(self) -> None:
        own = pathlib.Path(observed.__file__).read_text(encoding="utf-8")
        used = {*re.findall(r'found\["([a-z ]+)"\]', own), *observed._REPEATED}
        used.update(re.findall(r'kind [!=]= "([a-z ]+)"', own))
        root = pathlib.Path(__file__).parents[2]
        entries = root / "library/src/image/observation/entries.rs"
        text = entries.read_text(encoding="utf-8")
        self.assertLessEqual(used, {*re.findall(r'b\'\w\', "([a-z ]+)";', text)})
        self.assertGreater(len(used), 15)

    def test_kinds(self) -> None:
        found = self.record(
            "opened: /a/./b", "looked at: /c//d", "variable: NAME", "variable: PYTHON_CDS"
        )
        self.assertEqual(found.opened, {"/a/b"})
        self.assertEqual(found.looked_at, {"/c/d"})
        self.assertEqual(found.variables, {b"NAME"})

    def test_of_terminals_what_imports_have_asked(self) -> None:
        before, after = ("terminal: 1", "terminal size: 2"), ("terminal: 2",)
        found = self.record(
            *before,
            "looked at: /request.start",
            "opened: /request",
            "terminal: 0",
            "looked at: /request.imported",
            *after,
        )
        self.assertEqual(found.terminals, [(0, False, False)])
        asked = self.imports(
            "terminal: 1", "terminal size: 1", "terminal size: 0", "terminal modes: 2"
        ).terminals
        self.assertEqual(asked, [(0, False, True), (1, False, True), (2, True, False)])
        self.assertEqual(self.imports().terminals, [])

    def test_whether_the_working_directory_counts(self) -> None:
        found = self.record(
            "directory",
            "relative",
            "looked at: /request.start",
            "directory",
            "looked at: /request.imported",
            "directory",
            "relative",
        )
        self.assertEqual(found.asked_for_directory, 1)
        self.assertIsNone(self.imports("directory", "relative").asked_for_directory)
        self.assertEqual(self.imports().asked_for_directory, 0)

    def test_whether_processors_count(self) -> None:
        self.assertFalse(
            self.record("opened: /proc/meminfo", "looked at: /proc/stat").counts_processors
        )
        self.assertTrue(self.record("processors").counts_processors)
        self.assertTrue(self.record("opened: /sys/devices/system/cpu/online").counts_processors)

    def test_what_was_looked_at_that_differs(self) -> None:
        own = os.path.join(os.path.dirname(observed.__file__), "variables.py")
        found = self.imports(
            "look: the clock\n/a.py\n/a.py\t/b.py",
            f"look: the process id\n{own}\t/a.py\n/a.py",
        )
        self.assertEqual(found.looks, {("the clock", "/a.py", ("/a.py", "/b.py"))})

    def test_what_was_created_and_removed(self) -> None:
        kept, gone = self.path("file"), self.path("gone")
        found = self.record(
            f"created: {kept}",
            f"created: {gone}",
            f"opened: {kept}",
            f"opened: {gone}",
            f"looked at: {gone}",
        )
        self.assertEqual((found.opened, found.looked_at), ({self.path("file")}, set()))

    def test_the_interpreters_own_search(self) -> None:
        self.assertEqual(
            self.record("variable: PATH", "looked at: /request.start").variables, set()
        )
        found = self.record(
            "variable: PATH", "looked at: /request.start", "variable: PATH", "opened: /request"
        )
        self.assertEqual(found.variables, {b"PATH"})

    def test_who_looks_at_the_whole_environment(self) -> None:
        own = "walked: " + os.readlink("/proc/self/exe")
        start = (own, "opened: /proc/self/environ", "looked at: /request.start")
        found = self.record(*start)
        self.assertEqual((found.walks_environment, found.is_blind), (False, False))
        self.assertTrue(self.record(*start, "walked: /library.so").walks_environment)
        self.assertTrue(self.record(*start, own).walks_environment)
        self.assertTrue(self.record("walked: /library.so", *start).walks_environment)
        self.assertFalse(self.record(*start, "looked at: /request.imported", own).walks_environment)
        for item in (
            "walked",
            "cleared",
            "opened: /proc/self/environ",
            "opened: /proc/123/environ",
        ):
            self.assertTrue(self.record(*start, item).is_blind)
        # The interpreter reads the environment.  If that is not recorded, the watchpoint fails.
        self.assertTrue(self.record("looked at: /request.start").is_blind)

    def test_changes_of_the_environment(self) -> None:
        items = (
            "set: A=1",
            "looked at: /request.start",
            "removed: B",
            "set default: C=2",
            "looked at: /request.imported",
            "set: D=3",
        )
        found = self.record(*items, "looked at: /request.asked.E", "looked at: /request.walked")
        self.assertFalse(found.walks_environment)
        expected = [("set", b"A=1"), ("removed", b"B"), ("set default", b"C=2")]
        self.assertEqual(found.changed_variables, expected)
        found = self.record("looked at: /request.asked.E", "looked at: /request.walked", *items)
        self.assertTrue(found.walks_environment)
        self.assertEqual(found.variables, {b"C", b"E"})

    def test_time_zone(self) -> None:
        imported = "looked at: /request.imported"
        for items, keeps in (
            (("set: A=1",), False),
            (("set: TZ=UTC",), True),
            (("set: TZ=UTC", "zone set"), False),
            (("zone set", "removed: TZ"), True),
            (("cleared", "zone set", "set default: TZ=UTC"), True),
            (("set: TZ=UTC", imported, "zone set"), True),
            ((imported, "set: TZ=UTC"), False),
        ):
            self.assertEqual(self.record(*items).keeps_time_zone, keeps, items)

    def test_defaults_of_the_environment(self) -> None:
        found = self.record("set default: C=2")
        # The use of a default shows whether the variable was set.
        self.assertEqual(found.variables, {b"C"})

    def test_dots_behind_a_link(self) -> None:
        os.symlink("tree/below", self.path("deep"))
        with open(self.path("tree/other"), "w", encoding="utf-8"):
            pass
        with open(self.path("other"), "w", encoding="utf-8"):
            pass
        through = self.path("deep/../other")
        found = self.record(f"opened: {through}", "looked at: " + self.path("x/../file"))
        self.assertEqual(found.opened, {through})

    def test_without_one_anything_may_have_been_asked(self) -> None:
        found = self.record()
        self.assertEqual((found.opened, found.looked_at, found.variables), (set(), set(), set()))
        self.assertTrue(found.counts_processors)
        self.assertTrue(found.walks_environment and found.is_blind)
        self.assertEqual([number for number, *_ in found.terminals], [0, 1, 2])
        self.assertIsNone(found.asked_for_directory)
