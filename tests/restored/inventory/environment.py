"""Arguments and variables in Python, in the C library, in the kernel and in child processes."""

import ctypes
import itertools
import os
import posix
import subprocess
import sys

from inventory import native
from inventory.lines import Lines
from inventory.mappings import role_of


def c_environ() -> list[bytes]:
    """Return the variables of the C library in their order."""
    pointer = ctypes.POINTER(ctypes.c_char_p).in_dll(native.libc, "environ")
    found: list[bytes] = []
    while pointer and (variable := pointer[len(found)]) is not None:
        found.append(variable)
    return found


def report(lines: Lines) -> None:
    """Report each variable at each level, and whether the levels agree."""
    from_c = c_environ()
    with open("/proc/self/environ", "rb") as file:
        from_kernel = file.read().split(b"\0")[:-1]
    child = subprocess.run(["/usr/bin/env", "-0"], stdout=subprocess.PIPE, check=False).stdout
    levels = {
        "os.environ": [f"{key}={value}" for key, value in os.environ.items()],
        "os.environb": [os.fsdecode(key + b"=" + value) for key, value in os.environb.items()],
        "posix.environ": [
            os.fsdecode(key + b"=" + value) for key, value in _posix_environ().items()
        ],
        "C": [os.fsdecode(variable) for variable in from_c],
        "kernel": [os.fsdecode(variable) for variable in from_kernel],
        "child": [os.fsdecode(variable) for variable in child.split(b"\0")[:-1]],
    }
    for level, variables in levels.items():
        lines.add(f"{level} in order", [variable.partition("=")[0] for variable in variables])
        for number, variable in enumerate(variables):
            lines.add(f"{level} {number:3}", variable)
    lines.add("os.environ is posix.environ", vars(os.environ)["_data"] is _posix_environ())
    lines.add("os.environb is os.environ", vars(os.environb)["_data"] is vars(os.environ)["_data"])
    lines.add("type", type(vars(os.environ)["_data"]))
    for name in ("HOME", "PATH", "FOO", "NOT_SET"):
        native.libc.getenv.restype = ctypes.c_char_p
        lines.add(f"getenv {name}", native.libc.getenv(name.encode()))
    _report_memory(lines, len(from_c))
    _report_arguments(lines)


def _posix_environ() -> "dict[bytes, bytes]":
    return posix.environ


def _report_memory(lines: Lines, count: int) -> None:
    """Programs that change their title write over these strings."""
    pointer = ctypes.POINTER(ctypes.c_void_p).in_dll(native.libc, "environ")
    places = [pointer[number] for number in range(count)]
    lengths = [len(ctypes.string_at(place)) + 1 for place in places]
    lines.add("strings lie in", sorted({role_of(place) for place in places}))
    ends = [place + length for place, length in zip(places, lengths)]
    lines.add("strings follow each other", places[1:] == ends[:-1])
    lines.add("list lies in", role_of(native.pointer("environ")))


def _report_arguments(lines: Lines) -> None:
    count, wide = ctypes.c_int(), ctypes.POINTER(ctypes.c_wchar_p)()
    ctypes.pythonapi.Py_GetArgcArgv(ctypes.byref(count), ctypes.byref(wide))
    lines.add("Py_GetArgcArgv()", [wide[number] for number in range(count.value)])
    for name in ("program_invocation_name", "program_invocation_short_name", "__progname"):
        lines.ask(name, lambda: native.text(name))
        lines.ask(f"{name} lies in", lambda: role_of(native.pointer(name)))
    for name in ("_dl_argv", "__libc_argv"):
        lines.ask(f"{name} in the C library", lambda: _c_arguments(name))
    lines.add("where the stack began is", role_of(native.pointer("__libc_stack_end")))
    began = ctypes.c_uint64.from_address(native.pointer("__libc_stack_end")).value
    lines.add("number of arguments there", began)


def _c_arguments(name: str) -> list[bytes | None]:
    pointer = ctypes.POINTER(ctypes.c_char_p).in_dll(native.libc, name)
    texts = (pointer[number] for number in range(len(sys.orig_argv) + 1))
    # The number of variables may have changed.
    return [*itertools.takewhile(lambda text: text is not None, texts)]
