import os
import time
import unittest
from unittest import mock

from cds.collect.freshness import Unsettled, observe
from tests.support import LONG_AGO_NS, TreeTestCase, make_old


class FakeTime:
    """A clock that advances only in sleep()."""

    def __init__(self, now_ns: int) -> None:
        self.now_ns = now_ns
        self.slept = 0.0

    def time_ns(self) -> int:
        return self.now_ns

    def sleep(self, seconds: float) -> None:
        self.slept += seconds
        self.now_ns += round(seconds * 1e9)


class WhatATimestampVouchesFor(TreeTestCase):
    def setUp(self) -> None:
        super().setUp()
        self.file = self.write("m.py", "1")

    def observe_at_age(self, age_ns: int, mtime_ns: int = LONG_AGO_NS) -> float:
        """Return how long observe() sleeps before it reads a file with this age."""
        os.utime(self.file, ns=(mtime_ns, mtime_ns))
        clock = FakeTime(mtime_ns + age_ns)
        with mock.patch("cds.collect.freshness.time", clock):
            observe(self.file, lambda _: None, attempts=1)
        return clock.slept

    def test_old_file_is_read_at_once(self) -> None:
        self.assertEqual(self.observe_at_age(60_000_000), 0)

    def test_file_changed_just_now_could_change_again_within_the_tick(self) -> None:
        self.assertAlmostEqual(self.observe_at_age(10_000_000), 0.04)

    def test_whole_seconds_may_be_all_that_the_file_system_stores(self) -> None:
        whole = LONG_AGO_NS - 1
        self.assertEqual(whole % 1_000_000_000, 0)
        self.assertAlmostEqual(self.observe_at_age(500_000_000, whole), 1.5)
        self.assertEqual(self.observe_at_age(2_000_000_000, whole), 0)

    def test_file_server_with_a_clock_slightly_ahead(self) -> None:
        self.assertAlmostEqual(self.observe_at_age(-10_000_000), 0.06)

    def test_timestamp_in_the_far_future_is_no_reason_to_wait_for_it(self) -> None:
        self.assertEqual(self.observe_at_age(-(10**18)), 0)

    def test_change_during_the_first_attempt(self) -> None:
        make_old(self.file)
        contents = []

        def read(_: os.stat_result) -> str:
            with open(self.file) as file:
                contents.append(file.read())
            if len(contents) == 1:
                self.write("m.py", "22")
            return contents[-1]

        status, content = observe(self.file, read, attempts=2)
        self.assertEqual((content, status.st_size), ("22", 2))
        self.assertEqual(contents, ["1", "22"])

    def test_replaced_by_a_file_of_the_same_age_and_size(self) -> None:
        make_old(self.file)

        def replace(_: os.stat_result) -> None:
            other = self.write("other", "2")
            make_old(other)
            os.rename(other, self.file)

        with self.assertRaises(Unsettled):
            observe(self.file, replace, attempts=2)

    def test_file_that_is_written_all_the_time(self) -> None:
        make_old(self.file)

        def touch(_: os.stat_result) -> None:
            os.utime(self.file)

        with self.assertRaises(Unsettled):
            observe(self.file, touch, attempts=2)

    def test_real_clock(self) -> None:
        os.utime(self.file)
        status, seen_at = observe(self.file, lambda _: time.time_ns(), attempts=1)
        self.assertGreater(seen_at - status.st_mtime_ns, 40_000_000)


if __name__ == "__main__":
    unittest.main()
