"""The note in place of a startup image that could not be taken."""

import os
import tempfile
import time
import unittest

from _cds_archive import image_note, needs_renewal, write_image_note


class Note(unittest.TestCase):
    def setUp(self) -> None:
        directory = tempfile.TemporaryDirectory()
        self.addCleanup(directory.cleanup)
        self.path = os.path.join(directory.name, "app.cds.image")

    def _is_due_after_days(self, days: int) -> bool:
        then = time.time() - days * 24 * 60 * 60
        os.utime(self.path, (then, then))
        is_due: bool = needs_renewal(self.path, b"", [])
        return is_due

    def test_its_text_is_the_reason(self) -> None:
        write_image_note(self.path, b"threads\nfiles\n")
        self.assertEqual(image_note(self.path), "no startup image could be taken: threads; files")

    def test_after_a_day_there_is_another_attempt_up_to_three_times(self) -> None:
        for is_due in (True, True, False):
            write_image_note(self.path, b"threads")
            self.assertFalse(self._is_due_after_days(0))
            self.assertEqual(self._is_due_after_days(2), is_due)

    def test_what_takes_its_place_ends_the_count(self) -> None:
        for _ in range(3):
            write_image_note(self.path, b"threads")
        with open(self.path, "w", encoding="utf-8") as file:
            file.write("an image")
        write_image_note(self.path, b"threads")
        self.assertTrue(self._is_due_after_days(2))
