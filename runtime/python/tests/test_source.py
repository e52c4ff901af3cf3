"""Tests that code is loaded as an import loads it."""

import _imp
import importlib.util
import marshal
import os
import py_compile
import sys
import unittest
from importlib.machinery import SourceFileLoader
from py_compile import PycInvalidationMode
from types import CodeType
from unittest import mock

from cds.collect.source import Unusable, load
from tests.support import LONG_AGO_NS, TreeTestCase, make_old


def result_of(code: CodeType) -> object:
    namespace: dict[str, object] = {}
    exec(code, namespace)
    return namespace["x"]


class SourceTestCase(TreeTestCase):
    def setUp(self) -> None:
        super().setUp()
        self.file = self.write_source("x = 'source'")

    def write_source(self, text: str) -> str:
        file = self.write("m.py", text)
        make_old(file)
        return file

    def write_pyc(self, text: str, mode: PycInvalidationMode) -> None:
        """Write a .pyc whose code behaves differently from the source."""
        source = self.write("elsewhere/other.py", text)
        if mode is PycInvalidationMode.TIMESTAMP:
            # The .pyc is valid for m.py if both sources have the same size.
            make_old(source)
        py_compile.compile(
            source,
            importlib.util.cache_from_source(self.file),
            doraise=True,
            invalidation_mode=mode,
        )

    def edit_pyc(self, offset: int, data: bytes) -> None:
        with open(importlib.util.cache_from_source(self.file), "r+b") as file:
            file.seek(offset)
            file.write(data)

    def assert_loads(self, value: object) -> None:
        """Check the value, and that an import gives the same code."""
        loaded = load(self.file)
        self.assertEqual(result_of(loaded.code), value)
        self.assertEqual(result_of(SourceFileLoader("m", self.file).get_code("m")), value)
        for code in code_objects(loaded.code):
            self.assertEqual(code.co_filename, self.file)

    def assert_unusable(self, reason: str) -> None:
        with self.assertRaises(Unusable) as caught:
            load(self.file)
        self.assertEqual(str(caught.exception), reason)


def code_objects(code: CodeType) -> list[CodeType]:
    inner = [constant for constant in code.co_consts if isinstance(constant, CodeType)]
    return [code, *(deeper for constant in inner for deeper in code_objects(constant))]


class WithoutBytecode(SourceTestCase):
    def test_compiles_and_writes_nothing(self) -> None:
        loaded = load(self.file)
        self.assertEqual(result_of(loaded.code), "source")
        self.assertEqual((loaded.mtime_ns, loaded.size), (LONG_AGO_NS, 12))
        self.assertEqual(os.listdir(self.root), ["m.py"])

    def test_encoding_declaration(self) -> None:
        self.write("m.py", "# coding: latin-1\nx = 'é'".encode("latin-1"))
        self.assertEqual(result_of(load(self.file).code), "é")

    def test_runs_nothing(self) -> None:
        self.write_source("raise SystemExit('was run')")
        load(self.file)


class WithBytecode(SourceTestCase):
    def test_timestamp(self) -> None:
        self.write_pyc("x = 'cached'", PycInvalidationMode.TIMESTAMP)
        self.assert_loads("cached")

    def test_functions_too_are_told_where_the_tree_lies_now(self) -> None:
        self.write_source("def f(): return [lambda: 1]\nx = 'sourc'")
        self.write_pyc("def f(): return [lambda: 1]\nx = 'cache'", PycInvalidationMode.TIMESTAMP)
        self.assert_loads("cache")

    def test_source_is_newer(self) -> None:
        self.write_pyc("x = 'cached'", PycInvalidationMode.TIMESTAMP)
        os.utime(self.file, ns=(0, LONG_AGO_NS + 1_000_000_000))
        self.assert_loads("source")

    def test_source_has_another_size(self) -> None:
        self.write_pyc("x = 'cached'", PycInvalidationMode.TIMESTAMP)
        self.write_source("x = 'source' ")
        self.assert_loads("source")

    def test_another_pythons_bytecode(self) -> None:
        self.write_pyc("x = 'cached'", PycInvalidationMode.TIMESTAMP)
        self.edit_pyc(0, b"\0\0\r\n")
        self.assert_loads("source")

    def test_flags_of_a_later_python(self) -> None:
        self.write_pyc("x = 'cached'", PycInvalidationMode.TIMESTAMP)
        self.edit_pyc(4, b"\x04")
        self.assert_loads("source")

    def test_truncated_in_the_header(self) -> None:
        self.write_pyc("x = 'cached'", PycInvalidationMode.TIMESTAMP)
        os.truncate(importlib.util.cache_from_source(self.file), 15)
        self.assert_loads("source")

    def test_damaged_after_the_header(self) -> None:
        for damage in (b"?", marshal.dumps("no code")):
            with self.subTest(damage):
                self.write_pyc("x = 'cached'", PycInvalidationMode.TIMESTAMP)
                self.edit_pyc(16, damage)
                self.assertEqual(result_of(load(self.file).code), "source")

    def test_pycache_prefix(self) -> None:
        with mock.patch.object(sys, "pycache_prefix", self.path("prefix")):
            self.write_pyc("x = 'cached'", PycInvalidationMode.TIMESTAMP)
            self.assert_loads("cached")
        self.assertEqual(result_of(load(self.file).code), "source")

    def test_implementation_without_bytecode_files(self) -> None:
        self.write_pyc("x = 'cached'", PycInvalidationMode.TIMESTAMP)
        with mock.patch.object(sys.implementation, "cache_tag", None):
            self.assert_loads("source")


class WithHashedBytecode(SourceTestCase):
    def check(self, policy: str) -> object:
        return mock.patch.object(_imp, "check_hash_based_pycs", policy)

    def test_hash_of_the_same_source(self) -> None:
        for mode in (PycInvalidationMode.CHECKED_HASH, PycInvalidationMode.UNCHECKED_HASH):
            for policy in ("default", "always", "never"):
                with self.subTest(mode=mode, policy=policy), self.check(policy):
                    self.write_pyc("x = 'source'", mode)
                    self.assert_loads("source")
                    # The bytecode is used: the source is not compiled.
                    with mock.patch("cds.collect.source._compiled", side_effect=AssertionError):
                        load(self.file)

    def test_checked_hash_of_another_source(self) -> None:
        for policy in ("default", "always"):
            with self.subTest(policy=policy), self.check(policy):
                self.write_pyc("x = 'cached'", PycInvalidationMode.CHECKED_HASH)
                with mock.patch.object(sys, "dont_write_bytecode", True):
                    self.assert_loads("source")

    def test_unchecked_hash_of_another_source_if_all_are_checked(self) -> None:
        self.write_pyc("x = 'cached'", PycInvalidationMode.UNCHECKED_HASH)
        with self.check("always"), mock.patch.object(sys, "dont_write_bytecode", True):
            self.assert_loads("source")

    def test_bytecode_that_import_runs_whatever_the_source_says(self) -> None:
        reason = "has an unchecked .pyc made from another source"
        self.write_pyc("x = 'cached'", PycInvalidationMode.UNCHECKED_HASH)
        self.assert_unusable(reason)
        self.write_pyc("x = 'cached'", PycInvalidationMode.CHECKED_HASH)
        with self.check("never"):
            self.assert_unusable(reason)


class SourceThatCannotBeUsed(SourceTestCase):
    def test_syntax_error(self) -> None:
        self.write_source("x = 1\nx = (")
        self.assert_unusable("does not compile: '(' was never closed (line 2)")

    def test_templates_of_other_languages(self) -> None:
        for text in (
            "print 'hello'",
            "import {{ project }}",
            "\0",
            "# coding: nonsense",
            "x = 1 +",
        ):
            with self.subTest(text):
                self.write_source(text)
                with self.assertRaisesRegex(Unusable, "^does not compile: "):
                    load(self.file)

    def test_bytes_that_are_no_text(self) -> None:
        self.write("m.py", b"x = '\xff'")
        with self.assertRaisesRegex(Unusable, "^does not compile: "):
            load(self.file)

    def test_nested_too_deeply(self) -> None:
        self.write_source("x = " + "(" * 1000 + ")" * 1000)
        with self.assertRaisesRegex(Unusable, "^does not compile: "):
            load(self.file)

    def test_gone(self) -> None:
        os.unlink(self.file)
        self.assert_unusable("cannot be read: No such file or directory")

    def test_edited_again_and_again(self) -> None:
        real_compile = compile

        def compile_and_edit(*arguments: object, **options: object) -> CodeType:
            code = real_compile(*arguments, **options)
            os.utime(self.file)
            return code

        with mock.patch("cds.collect.source.compile", compile_and_edit, create=True):
            self.assert_unusable("changed while it was read")

    def test_edited_once(self) -> None:
        real_compile = compile
        sizes = []

        def compile_and_edit(data: bytes, *arguments: object, **options: object) -> CodeType:
            sizes.append(len(data))
            if len(sizes) == 1:
                self.write_source("x = 'edited source'")
            return real_compile(data, *arguments, **options)

        with mock.patch("cds.collect.source.compile", compile_and_edit, create=True):
            loaded = load(self.file)
        self.assertEqual(result_of(loaded.code), "edited source")
        self.assertEqual(loaded.size, sizes[-1])


if __name__ == "__main__":
    unittest.main()
