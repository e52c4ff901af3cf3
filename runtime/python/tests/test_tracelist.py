import unittest

from cds.collect.tracelist import Entry, TraceListError, is_module_name, line, parse


class ReadingAList(unittest.TestCase):
    def test_one_name_a_line(self) -> None:
        self.assertEqual(
            parse(b"json\njson.decoder\n", "l"), [Entry("json", None), Entry("json.decoder", None)]
        )

    def test_many_processes_appended_the_same_names(self) -> None:
        self.assertEqual(parse(b"b\na\nb\na\n", "l"), [Entry("b", None), Entry("a", None)])

    def test_blank_lines_comments_and_other_systems_line_ends(self) -> None:
        text = b"\n  \n# imports of app.py\njson\r\nre   # why not\n\tabc\t\n"
        self.assertEqual([entry.name for entry in parse(text, "l")], ["json", "re", "abc"])

    def test_last_line_may_lack_its_end(self) -> None:
        self.assertEqual(parse(b"json", "l"), [Entry("json", None)])

    def test_empty_list(self) -> None:
        self.assertEqual(parse(b"", "l"), [])

    def test_the_file_of_a_module_beside_the_script(self) -> None:
        (entry,) = parse(b"utils  # /srv/my app/#1/utils.py\n", "l")
        self.assertEqual(entry, Entry("utils", "/srv/my app/#1/utils.py"))

    def test_two_programs_with_modules_of_the_same_name(self) -> None:
        entries = parse(b"utils # /a/utils.py\nutils # /b/utils.py\nutils\n", "l")
        self.assertEqual([entry.file for entry in entries], ["/a/utils.py", "/b/utils.py", None])

    def test_comments_that_are_no_absolute_path(self) -> None:
        for comment in ("", "see a/b.py", "./a.py"):
            with self.subTest(comment):
                self.assertEqual(parse(f"a #{comment}".encode(), "l"), [Entry("a", None)])

    def test_a_regular_expression_is_a_comment_of_re(self) -> None:
        text = rb"""re  # 32 '[^#/]+ \\d'
re  # 0 b'\xff'
re  # 2 apples
re  # 0 __import__('os')
json  # 0 'a'
"""
        patterns = [entry.pattern for entry in parse(text, "l")]
        self.assertEqual(patterns, [(32, r"[^#/]+ \d"), (0, b"\xff"), None, None])

    def test_what_was_run_and_not_imported(self) -> None:
        lines = ["json.tool  # not imported", "tool  # not imported /srv/app/tool.py"]
        entries = parse("\n".join(lines).encode(), "l")
        self.assertEqual(
            entries,
            [
                Entry("json.tool", None, is_imported=False),
                Entry("tool", "/srv/app/tool.py", is_imported=False),
            ],
        )
        self.assertEqual([line(entry) for entry in entries], lines)
        (other,) = parse(b"tool  # not imported by me", "l")
        self.assertTrue(other.is_imported)

    def test_names_that_only_import_module_can_import(self) -> None:
        for name in ("app.migrations.0001_initial", "foo-bar", "naïve.modül"):
            with self.subTest(name):
                self.assertEqual(parse(name.encode(), "l"), [Entry(name, None)])

    def test_file_that_a_program_loaded_under_a_name_of_its_own(self) -> None:
        (entry,) = parse(b"settings of /etc/app  # /etc/app/settings.py\n", "l")
        self.assertEqual(entry, Entry("settings of /etc/app", "/etc/app/settings.py"))


class ListsThatAreNone(unittest.TestCase):
    def assert_error(self, data: bytes, text: str) -> None:
        with self.assertRaises(TraceListError) as caught:
            parse(data, "app.lst")
        self.assertEqual(str(caught.exception), text)

    def test_requirements_file(self) -> None:
        self.assert_error(
            b"# needed\nflask\nrequests==2.31\n",
            "app.lst:3: not a module name: 'requests==2.31'; write one name per line",
        )

    def test_archive(self) -> None:
        self.assert_error(
            b"json\n\x7fCDS\xff\x00\n",
            "app.lst:2: byte 0xff in column 5 is not UTF-8; check that this is a trace list",
        )

    def test_line_of_any_length_gives_a_short_error(self) -> None:
        with self.assertRaises(TraceListError) as caught:
            parse(b"\0" * 1_000_000, "app.lst")
        self.assertLess(len(str(caught.exception)), 120)

    def test_dots_without_names(self) -> None:
        for text in (".", "a.", ".a", "a..b", "a b", "a/b", "a.py:3"):
            with self.subTest(text):
                self.assertFalse(is_module_name(text))


if __name__ == "__main__":
    unittest.main()
