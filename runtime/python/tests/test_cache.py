"""The size of the cache, and the settings that turn it on."""

import os
import sys
import tempfile
import unittest
from unittest import mock

from cds.cache import limits, place, setting

_BUILD = "0123456789abcdef"


class Limits(unittest.TestCase):
    def setUp(self) -> None:
        directory = tempfile.TemporaryDirectory()
        self.addCleanup(directory.cleanup)
        self.cache = directory.name

    def _entry(self, number: int, used: int, size: int) -> str:
        entry = os.path.join(self.cache, _BUILD, f"{number:032x}")
        os.makedirs(entry)
        path = os.path.join(entry, "0.cds")
        with open(path, "wb") as file:
            file.write(b"x" * size)
        os.utime(path, (used, used))
        return entry

    def test_the_least_recently_used_programs_are_removed(self) -> None:
        old, older, new = (
            self._entry(number, used, 100_000) for number, used in enumerate([2000, 1000, 3000])
        )
        self.assertEqual([u.entry for u in limits.usage(self.cache)], [older, old, new])
        with mock.patch.object(limits, "_MOST_BYTES", 150_000):
            limits.keep_to_the_limit(os.path.join(new, "0.cds"))
        self.assertEqual([*place.entries(self.cache)], [new])

    def test_a_cache_below_the_limit_is_kept(self) -> None:
        entry = self._entry(1, 1000, 10)
        limits.keep_to_the_limit(os.path.join(entry, "0.cds"))
        self.assertEqual([*place.entries(self.cache)], [entry])

    def test_programs_of_a_removed_environment_are_removed(self) -> None:
        kept, left = (self._entry(number, 1000, 10) for number in range(2))
        commands = {
            os.path.join(kept, "0.cds"): f"cd /srv && {sys.executable} -X cds=auto app.py",
            os.path.join(left, "0.cds"): "/srv/removed/bin/python -X cds=auto -c pass",
        }
        with mock.patch.object(limits, "ask", lambda _, path: commands[path]):
            limits.keep_to_the_limit(os.path.join(kept, "0.cds"))
        self.assertEqual([*place.entries(self.cache)], [kept])

    def test_a_tenth_of_the_free_space_is_used(self) -> None:
        with mock.patch("os.statvfs") as statvfs:
            statvfs.return_value.f_bavail, statvfs.return_value.f_frsize = 900, 1
            self.assertEqual(limits.limit(self.cache, 100), 100)

    def test_the_same_file_under_two_names_counts_once(self) -> None:
        entry = self._entry(1, 1000, 100_000)
        before = limits.usage_of(entry).bytes
        os.link(os.path.join(entry, "0.cds"), os.path.join(entry, "1.cds"))
        self.assertEqual(limits.usage_of(entry).bytes, before)

    def test_what_keeps_a_directory_from_being_a_cache(self) -> None:
        missing = os.path.join(self.cache, "a", "b")
        self.assertIsNone(place.obstacle(missing))
        os.chmod(self.cache, 0o770)
        self.assertEqual(place.obstacle(self.cache), f"other users can write to {self.cache}")
        # Only the directory itself counts: a missing one will have another mode.
        self.assertIsNone(place.obstacle(missing))
        file = os.path.join(self.cache, "file")
        with open(file, "wb"):
            pass
        self.assertEqual(place.obstacle(file), f"{file} is not a directory")
        self.assertEqual(place.obstacle(os.path.join(file, "a")), f"{file} is not a directory")
        with mock.patch("os.geteuid", lambda: os.stat(self.cache).st_uid + 1):
            self.assertEqual(place.obstacle(missing), f"{self.cache} belongs to another user")

    def test_other_files_are_no_programs(self) -> None:
        os.makedirs(os.path.join(self.cache, _BUILD, "short"))
        os.makedirs(os.path.join(self.cache, "other", f"{1:032x}"))
        os.symlink("/", os.path.join(self.cache, _BUILD, f"{2:032x}"))
        self.assertEqual([*place.entries(self.cache)], [])
        self.assertEqual([*place.entries(os.path.join(self.cache, "missing"))], [])


class Settings(unittest.TestCase):
    def setUp(self) -> None:
        directory = tempfile.TemporaryDirectory()
        self.addCleanup(directory.cleanup)
        self.path = os.path.join(directory.name, "pyvenv.cfg")
        patch = mock.patch("sys.prefix", directory.name)
        patch.start()
        self.addCleanup(patch.stop)

    def _write(self, text: str) -> None:
        with open(self.path, "w", encoding="utf-8") as file:
            file.write(text)

    def _read(self) -> str:
        with open(self.path, encoding="utf-8") as file:
            return file.read()

    def test_other_lines_and_the_mode_stay(self) -> None:
        self._write("home = /usr/bin\ncds=off\nprompt = cds\n")
        os.chmod(self.path, 0o640)
        self.assertEqual(setting.set_for_environment("auto"), self.path)
        self.assertEqual(self._read(), "home = /usr/bin\nprompt = cds\ncds = auto\n")
        self.assertEqual(os.stat(self.path).st_mode & 0o777, 0o640)
        self.assertEqual(os.listdir(os.path.dirname(self.path)), ["pyvenv.cfg"])

    def test_a_missing_file_is_an_error_with_its_path(self) -> None:
        with self.assertRaisesRegex(setting.SettingError, "pyvenv.cfg: No such file"):
            setting.set_for_environment("auto")
