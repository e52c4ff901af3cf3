"""The process that renews an archive."""

import contextlib
import io
import unittest
from unittest import mock

import _cds_archive

from cds import auto

_SUBJECT = (b"-c\0pass\0/srv", ["-O"], [], None)


class Renewal(unittest.TestCase):
    def _renewed(self, base: object, failing: str) -> tuple[list[str], list[tuple[str, str]]]:
        """Return the archives that were to be written, and the notes."""
        record = (_SUBJECT, True, False, base, [], [])
        written: list[str] = []
        notes: list[tuple[str, str]] = []

        def write(archive: str, run: object, kept: list[str]) -> None:
            written.append(archive)
            if archive == failing:
                raise OSError(28, "No space left on device")

        with (
            mock.patch.object(_cds_archive, "recorded_run", lambda: record),
            mock.patch.object(auto, "_write", write),
            mock.patch("cds.image.imaging.note_problem", lambda *note: notes.append(note)),
            contextlib.redirect_stderr(io.StringIO()),
        ):
            auto._renew("app.cds")
        return written, notes

    def test_a_base_image_is_taken_after_the_image_of_the_program(self) -> None:
        base = ("base.cds", (b"\0\0", [], [], None))
        self.assertEqual(self._renewed(base, ""), (["app.cds", "base.cds"], []))

    def test_a_failure_leaves_a_note_and_does_not_concern_the_base_image(self) -> None:
        base = ("base.cds", (b"\0\0", [], [], None))
        written, notes = self._renewed(base, "app.cds")
        self.assertEqual(written, ["app.cds", "base.cds"])
        ((archive, reason),) = notes
        self.assertEqual(archive, "app.cds")
        self.assertIn("No space left on device", reason)

    def test_without_a_record_the_command_says_how_it_is_started(self) -> None:
        with (
            mock.patch.object(_cds_archive, "recorded_run", lambda: None),
            self.assertRaisesRegex(SystemExit, "there is no record; -X cds_auto=FILE starts"),
        ):
            auto._renew("app.cds")
