"""Tests what is compared of directories that were searched for modules."""

import os
import tempfile
import unittest

from _cds_archive import found_by_search

from cds.image.searched import Searches, in_one


class Changes(unittest.TestCase):
    def setUp(self) -> None:
        directory = tempfile.TemporaryDirectory()
        self.addCleanup(directory.cleanup)
        self.top = directory.name

    def make(self, name: str) -> None:
        with open(os.path.join(self.top, name), "w", encoding="utf-8"):
            pass

    def changed(self, since: int = 0) -> bool:
        """Return whether the result of a search for `module` differs from that with `old.py`."""
        return self.changed_from(b"old.py", since) == [self.top]

    def changed_from(self, before: bytes, since: int) -> list[str]:
        searches = Searches([(self.top, ("module",), (before,))], set(), found_by_search)
        return searches.changed({os.fsencode(self.top): in_one({"module"})}, since)

    def test_other_files_come_and_go(self) -> None:
        self.assertFalse(self.changed())
        for name in ("module.txt", "module2.py", "new.py"):
            self.make(name)
        self.assertFalse(self.changed())

    def test_a_module_comes(self) -> None:
        self.make("module.py")
        self.assertTrue(self.changed())
        self.assertFalse(self.changed(os.stat(self.top).st_mtime_ns + 1))

    def test_a_directory_comes(self) -> None:
        os.mkdir(os.path.join(self.top, "module"))
        self.assertTrue(self.changed())

    def test_a_module_goes(self) -> None:
        self.assertEqual(self.changed_from(b"module.py", 0), [self.top])


class Names(unittest.TestCase):
    def test_names_of_several_searches(self) -> None:
        searches = Searches(
            [("/a", ("x", "y"), ()), ("/a/", ("z",), ()), ("/b", None, ())], set(), found_by_search
        )
        self.assertEqual(searches.with_known_names()["/a"], {"x", "y", "z"})
        self.assertIn("/b", searches.with_unknown_names())

    def test_a_finder_that_does_not_say_what_it_searches_for(self) -> None:
        searches = Searches([("/a", ("x",), ())], {"/a", "/b"}, found_by_search)
        self.assertEqual(searches.with_known_names()["/a"], {"x"})
        self.assertIn("/b", searches.with_unknown_names())


if __name__ == "__main__":
    unittest.main()
