import os
import tempfile
import unittest

from cds import programtext


def scan(text: str) -> programtext.Variables:
    return programtext.variables([("app.py", text.encode())])


class VariablesOfAProgram(unittest.TestCase):
    def assert_changed(self, text: str, *names: str) -> None:
        found = scan(text)
        self.assertEqual(found.unknown, [], text)
        self.assertEqual(found.changed, dict.fromkeys(names, "app.py"), text)

    def test_what_is_changed(self) -> None:
        for text in (
            "os.environ['A'] = 'x'",
            "os.environb[b'A'] = b'x'",
            "environ['A'] += 'x'",
            "anything['A'] = 'x'",
            "del os.environ['A']",
            "os.environ.setdefault('A', 'x')",
            "os.environ.pop('A', 'B')",
            "os.environ.update(A='x')",
            "os.environ.update({'A': name})",
            "os.environ |= {'A': 'x'}",
            "os.environ = {'A': 'x'}",
            "os.putenv('A', name)",
            "unsetenv('A')",
            "for os.environ['A'] in names: pass",
            "patch.setenv('A', 'x')",
        ):
            with self.subTest(text):
                self.assert_changed(text, "A")

    def test_what_is_not(self) -> None:
        for text in ("os.environ['A']", "values[1] = 2", "values['not a name'] = 2", "x = 'A'"):
            with self.subTest(text):
                self.assert_changed(text)

    def test_what_is_not_known(self) -> None:
        for text in (
            "os.environ[name] = 'x'",
            "os.environ['A', name] = 'x'",
            "del environb[name]",
            "os.environ.update(names)",
            "os.environ.update({**names})",
            "os.environ.update(**names)",
            "os.environ.clear()",
            "os.environ |= names",
            "os.environ = names",
            "os.putenv(name, 'x')",
            "os.environ.pop(f'A{name}')",
        ):
            with self.subTest(text):
                (reason,) = scan(text).unknown
                self.assertEqual(reason, "app.py, line 1, changes variables that it does not name")

    def test_mappings_that_are_no_environment(self) -> None:
        self.assert_changed("environ = os.environ; x.environ = {}")
        self.assert_changed("values[name] = 1; values.update(names); values.pop(name)")

    def test_what_only_reads_names_nothing(self) -> None:
        for text in (
            "os.environ['A']",
            "os.environ.get('A')",
            "os.getenv('A', default)",
            "'A' in os.environ",
            "b'A' not in os.environb",
            "f'A{name}'",
            "'A and more'",
        ):
            with self.subTest(text):
                self.assertEqual(scan(text).named, {})

    def test_what_might_do_more(self) -> None:
        for text in (
            "set('A')",
            "set(A='x')",
            "names = ['A']",
            "os.environ.get(name, 'A')",
            "{'A': 1}",
            "os.environ['x' 'y' if 'A' else name]",
        ):
            with self.subTest(text):
                self.assertIn("A", scan(text).named)

    def test_what_is_no_source(self) -> None:
        for text in ("if", "\0", "# coding: absent\n"):
            with self.subTest(text):
                reason = "app.py cannot be read as Python source"
                self.assertEqual(scan(text).unknown, [reason])

    def test_files(self) -> None:
        with tempfile.TemporaryDirectory() as directory:
            name = os.path.join(directory, "app.py")
            with open(name, "w", encoding="latin-1") as file:
                file.write("# coding: latin-1\nx = 'ä'; environ['A'] = 'x'\n")
            found = programtext.variables([(name, None), (f"{name}.absent", None)])
        self.assertEqual(found.changed, {"A": name})
        self.assertEqual(found.unknown, [f"{name}.absent cannot be read as Python source"])


class Obstacles(unittest.TestCase):
    def test_variables_for_libraries_and_what_is_not_known(self) -> None:
        def may_change(text: str) -> list[str]:
            found = programtext.may_change(scan(text), lambda name: name.startswith("OMP_"))
            return sorted(found)

        self.assertEqual(may_change("os.environ['A'] = 'x'; os.getenv('OMP_A')"), ["A"])
        self.assertEqual(may_change("set('OMP_A', 'B')"), ["OMP_A"])
        self.assertIsNone(programtext.obstacle(scan("os.environ['A'] = 'x'")))
        obstacle = programtext.obstacle(scan("os.environ |= names"))
        self.assertIn("that it does not name", obstacle or "")


if __name__ == "__main__":
    unittest.main()
