import re
import unittest

from cds.collect.patterns import compiled
from cds.collect.tracelist import Pattern


class CompilingForAnArchive(unittest.TestCase):
    def test_it_is_what_sre_is_called_with(self) -> None:
        fields = compiled(Pattern(int(re.I), "(?P<head>a+)(b)?"))
        assert fields is not None
        pattern, flags, full_flags, code, groups, items, names = fields
        self.assertEqual((pattern, flags), ("(?P<head>a+)(b)?", re.I))
        self.assertEqual(full_flags, re.I | re.U)
        self.assertEqual((groups, items, names), (2, (("head", 1),), (None, "head", None)))
        made = re._compiler._sre.compile(
            pattern, full_flags, list(code), groups, dict(items), names
        )
        self.assertEqual(made, re.compile(pattern, re.I))

    def test_only_exact_ints_go_into_an_archive(self) -> None:
        fields = compiled(Pattern(0, "[a-z]*x"))
        assert fields is not None
        self.assertEqual({type(word) for word in fields[3]}, {int})

    def test_patterns_that_are_wrong_or_warned_about_are_left_to_re(self) -> None:
        for flags, pattern in (
            (0, "("),
            (0, "[[a]"),
            (0, "a{99999999999999999999}"),
            (re.A, b"a" * 2),
        ):
            with self.subTest(pattern):
                expected = pattern == b"aa"
                self.assertEqual(compiled(Pattern(int(flags), pattern)) is not None, expected)

    def test_patterns_that_print_or_depend_on_the_locale_are_left_to_re(self) -> None:
        self.assertIsNone(compiled(Pattern(int(re.DEBUG), "a")))
        self.assertIsNone(compiled(Pattern(int(re.L), b"a")))

    def test_the_compiler_is_as_before_afterwards(self) -> None:
        sre = re._compiler._sre
        compiled(Pattern(0, "("))
        self.assertIs(re._compiler._sre, sre)
