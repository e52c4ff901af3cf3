"""The standard streams of Python and of the C library."""

import ctypes
import io
import sys

from inventory import native
from inventory.lines import Lines

_NAMES = ("stdin", "stdout", "stderr")
_TEXT = "name mode encoding errors newlines line_buffering write_through closed _CHUNK_SIZE".split()
_RAW = "name mode closefd closed _blksize".split()


def report(lines: Lines) -> None:
    """Report each layer of each stream."""
    for name in _NAMES:
        stream = getattr(sys, name)
        lines.add(f"{name} is the first", stream is getattr(sys, f"__{name}__"))
        lines.add(f"{name} type", type(stream).__qualname__)
        if stream is None:
            continue
        for attribute in _TEXT:
            lines.ask(f"{name} {attribute}", lambda: getattr(stream, attribute))
        for question in ("isatty", "fileno", "readable", "writable", "seekable"):
            lines.ask(f"{name} {question}()", getattr(stream, question))
        buffer = stream.buffer
        raw = getattr(buffer, "raw", buffer)
        lines.add(f"{name} layers", [type(layer).__qualname__ for layer in (buffer, raw)])
        for attribute in _RAW:
            lines.ask(f"{name} raw {attribute}", lambda: getattr(raw, attribute))
        lines.ask(f"{name} buffer's size", buffer.__sizeof__)
        lines.add(
            f"{name} stream's own names",
            sorted(vars(stream)) if hasattr(stream, "__dict__") else [],
        )
    lines.add("default size of buffers", io.DEFAULT_BUFFER_SIZE)
    _report_c(lines)


def _report_c(lines: Lines) -> None:
    libc = native.libc
    for name in _NAMES:
        stream = ctypes.c_void_p.in_dll(libc, name)
        for question in (
            "fileno",
            "feof",
            "ferror",
            "__fbufsize",
            "__fpending",
            "__flbf",
            "__freadable",
            "__fwritable",
        ):
            lines.add(f"C {name} {question}", getattr(libc, question)(stream))
