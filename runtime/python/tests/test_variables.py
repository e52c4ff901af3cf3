import copy
import posix
import unittest
from collections.abc import Callable

from cds.image import variables
from cds.image.variables import Changes, Watch, Watched, changes_in_c

Operation = Callable[[dict[bytes, bytes]], object]


class TheWatchedEnvironment(unittest.TestCase):
    def begin(self, **started: bytes) -> Watched:
        then = {name.encode(): value for name, value in started.items()}
        environ = Watched(then)
        variables.current = Watch(environ, then)
        return environ

    def asked(self) -> str:
        return b" ".join(sorted(variables.current.asked())).decode()

    def has_walked(self) -> bool:
        return variables.current.has_walked

    def test_names_that_are_asked_for_are_known(self) -> None:
        environ = self.begin(HOME=b"/")
        self.assertEqual(environ[b"HOME"], b"/")
        self.assertNotIn(b"MISSING", environ)
        self.assertIsNone(environ.get(b"GOT"))
        with self.assertRaises(KeyError):
            environ[b"ABSENT"]
        with self.assertRaises(KeyError):
            del environ[b"REMOVED"]
        self.assertEqual(environ.pop(b"POPPED", None), None)
        self.assertEqual(environ.setdefault(b"SET", b"1"), b"1")
        self.assertEqual(self.asked(), "ABSENT GOT HOME MISSING POPPED REMOVED SET")
        self.assertFalse(self.has_walked())

    def test_writing_is_not_asking(self) -> None:
        environ = self.begin(LANG=b"C")
        environ[b"NEW"] = b"1"
        environ.update({b"LANG": b"D"})
        environ |= {b"OTHER": b"2"}
        self.assertEqual(self.asked(), "")
        self.assertFalse(self.has_walked())

    def test_whoever_goes_through_all_of_them_is_known(self) -> None:
        walks: list[Operation] = [
            list,
            dict,
            set,
            sorted,
            len,
            bool,
            repr,
            copy.copy,
            copy.deepcopy,
            dict.copy,
            lambda environ: environ.keys(),
            lambda environ: environ.values(),
            lambda environ: environ.items(),
            lambda environ: environ.copy(),
            reversed,
            lambda environ: {**environ},
            lambda environ: {} | environ,
            lambda environ: environ | {},
            lambda environ: environ == {},
            lambda environ: {} != environ,
            lambda environ: dict[bytes, bytes]().update(environ),
            lambda environ: dict.fromkeys(environ),
            lambda environ: dict.__or__({}, environ),
            lambda environ: [name for name in environ],
        ]
        for number, walk in enumerate(walks):
            with self.subTest(number):
                walk(self.begin(HOME=b"/", LANG=b"C"))
                self.assertTrue(self.has_walked())

    def test_copies_are_plain(self) -> None:
        environ = self.begin(HOME=b"/")
        for copied in (copy.copy(environ), copy.deepcopy(environ), environ.copy(), environ | {}):
            self.assertIs(type(copied), dict)
            self.assertEqual(copied, {b"HOME": b"/"})

    def test_to_take_all_values_is_not_to_ask_for_one(self) -> None:
        self.assertEqual(dict(self.begin(HOME=b"/", PWD=b"/tmp")), {b"HOME": b"/", b"PWD": b"/tmp"})
        self.assertEqual(self.asked(), "")
        # A search that ends at the variable that it looks for.
        environ = self.begin(HOME=b"/", PWD=b"/tmp", TERM=b"")
        for name in environ:
            if environ[name] == b"/tmp":
                break
        self.assertEqual(self.asked(), "HOME PWD")
        # A loop over the names that reads one value.
        environ = self.begin(HOME=b"/", PWD=b"/tmp")
        for name in environ:
            if name == b"PWD":
                self.assertEqual(environ[name], b"/tmp")
        self.assertEqual(self.asked(), "PWD")

    def test_what_was_kept_of_variables_of_shells(self) -> None:
        environ = self.begin(PWD=b"/tmp")
        own = (environ, variables.current.started, posix.environ)
        kept: list[object] = []
        self.assertFalse(variables.are_kept(own))
        # Constants of this test module would also be found, so the names are computed.
        oldpwd, pwd, shlvl = (name.decode() for name in variables.OF_SHELLS[1:])
        for thing in (
            {pwd: "/tmp"},
            {"nested": {oldpwd.encode(): b"/"}},
            [(shlvl, "1"), ("HOME", "/")],
            ["HOME=/", f"{pwd}=/tmp"],
        ):
            with self.subTest(thing):
                kept[:] = [thing]
                self.assertTrue(variables.are_kept(own))
        kept.clear()


class WhatWasChanged(unittest.TestCase):
    def test_it_leads_to_the_same_in_any_environment(self) -> None:
        started = {b"A": b"1", b"B": b"2"}
        environ = Watched(started)
        variables.current = watch = Watch(environ, started)
        environ[b"C"] = b"3"
        environ[b"A"] = b"changed"
        del environ[b"B"]
        environ[b"B"] = b"again"
        environ[b"D"] = b"4"
        environ.pop(b"D")
        changes, is_exact = watch.exact_changes()
        self.assertTrue(is_exact)
        for then, now in (
            ({b"A": b"1", b"B": b"2"}, "A=changed C=3 B=again"),
            ({b"D": b"", b"B": b"", b"E": b"5", b"C": b""}, "E=5 C=3 A=changed B=again"),
            ({}, "C=3 A=changed B=again"),
        ):
            made = changes.made_to(then)
            self.assertEqual(b" ".join(b"%b=%b" % item for item in made.items()).decode(), now)

    def test_what_nobody_has_seen_is_found(self) -> None:
        started = {b"A": b"1", b"B": b"2"}
        environ = Watched(started)
        watch = Watch(environ, started)
        dict.__setitem__(environ, b"C", b"3")
        dict.__delitem__(environ, b"A")
        changes, is_exact = watch.exact_changes()
        self.assertFalse(is_exact)
        self.assertEqual(changes.made_to(started), {b"B": b"2", b"C": b"3"})

    def test_calls_of_c_code(self) -> None:
        started = {b"A": b"1", b"B": b"2"}
        recorded = [
            ("set", b"C=3=4"),
            ("set default", b"A=default"),
            ("set default", b"D=default"),
            ("removed", b"B"),
        ]
        now = {b"A": b"1", b"C": b"3=4", b"D": b"default"}
        changes, is_exact = changes_in_c(started, recorded, now)
        self.assertTrue(is_exact)
        self.assertEqual(changes.assigned, {b"C": b"3=4", b"D": b"default"})
        self.assertEqual([*changes.removed], [b"B"])
        self.assertFalse(changes_in_c(started, recorded[1:], now)[1])
        self.assertEqual(changes_in_c(started, [("cleared", b"")], {})[0].made_to(started), {})

    def test_the_first_of_a_name_counts(self) -> None:
        found = variables.of_texts([b"A=1", b"", b"no variable", b"A=2", b"B="])
        self.assertEqual(found, {b"A": b"1", b"B": b""})


class ChangesBetween(unittest.TestCase):
    def test_what_is_the_same_is_no_change(self) -> None:
        changes = Changes.between({b"A": b"1", b"B": b"2"}, {b"A": b"1", b"C": b"3"})
        self.assertEqual(([*changes.removed], changes.assigned), ([b"B"], {b"C": b"3"}))
