"""Tests of startup images that need no image."""

import os
import tempfile
import unittest

from cds.image import hooks
from cds.inspection.image import is_image


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
