"""Parts of the life of a startup image that need no image."""

import os
import tempfile
import unittest

from cds import hooks, preparing
from cds.imagereport import is_image


class TheWatchedEnvironment(unittest.TestCase):
    def setUp(self) -> None:
        self.watched = preparing._Watched({b"HOME": b"/", b"LANG": b"C"})

    def test_names_that_are_asked_for_are_known(self) -> None:
        self.assertEqual(self.watched[b"HOME"], b"/")
        self.assertNotIn(b"MISSING", self.watched)
        with self.assertRaises(KeyError):
            self.watched[b"ABSENT"]
        self.assertEqual(self.watched.asked, {b"HOME", b"MISSING", b"ABSENT"})

    def test_whoever_looks_at_all_has_asked_for_all(self) -> None:
        self.assertEqual(list(self.watched), [b"HOME", b"LANG"])
        self.assertEqual(self.watched.asked, {b"HOME", b"LANG"})

    def test_but_not_for_what_shells_change(self) -> None:
        shell = preparing._Watched({b"HOME": b"/", b"PWD": b"/tmp", b"_": b"x"})
        self.assertEqual(len(list(shell)), 3)
        self.assertEqual(shell.asked, {b"HOME"})
        self.assertEqual(shell[b"PWD"], b"/tmp")
        self.assertEqual(shell.asked, {b"HOME", b"PWD"})

    def test_writing_is_not_asking(self) -> None:
        self.watched[b"NEW"] = b"1"
        del self.watched[b"LANG"]
        self.assertEqual(self.watched.asked, set())


class Hooks(unittest.TestCase):
    def test_order(self) -> None:
        said: list[str] = []
        before, after = list(hooks.before_snapshot), list(hooks.after_restore)
        try:
            hooks.before_snapshot[:] = [(said.append, (text,), {}) for text in "ab"]
            hooks.after_restore[:] = [(said.append, (text,), {}) for text in "cd"]
            hooks.run_before_snapshot()
            hooks.run_after_restore()
        finally:
            hooks.before_snapshot[:] = before
            hooks.after_restore[:] = after
        self.assertEqual(said, ["b", "a", "c", "d"])


class Files(unittest.TestCase):
    def test_an_image_is_known_by_its_first_bytes(self) -> None:
        with tempfile.TemporaryDirectory() as directory:
            path = os.path.join(directory, "file")
            for contents, expected in (
                (b"\x89CPYIMG\n...", True),
                (b"\x89CPYCDS\n", False),
                (b"", False),
            ):
                with open(path, "wb") as file:
                    file.write(contents)
                self.assertIs(is_image(path), expected)
            self.assertFalse(is_image(os.path.join(directory, "none")))


if __name__ == "__main__":
    unittest.main()
