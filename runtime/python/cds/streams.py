"""The standard streams of processes that are restored from a startup image.

Imports may have kept them, changed them, or put others in their place.  So the objects stay
what they are, and are made anew of the standard streams of each process, as create_stdio()
in Python/pylifecycle.c makes them.
"""

import _io
import gc
import sys

# As in `startup`.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from io import BufferedReader, BufferedWriter, FileIO, TextIOWrapper
    from typing import NamedTuple

    class _Stream(NamedTuple):
        number: int
        name: str
        text: TextIOWrapper
        # The same as `raw` if there is no buffer (`-u`).
        buffer: BufferedReader | BufferedWriter | FileIO
        raw: FileIO
        line_buffering: bool
        # Whether it is buffered by lines if it leads to a terminal.
        may_buffer_lines: bool


_streams: "list[_Stream]" = []
_buffers: "list[_io.TextIOWrapper | _io.BufferedWriter | _io.BufferedRandom]" = []


def keep() -> str | None:
    """Take notice of the streams, before anybody imports anything.

    Return the name of one that there is not.
    """
    _streams.clear()
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        text = getattr(sys, f"__{name}__")
        try:
            buffer = text.buffer
        except (AttributeError, ValueError):
            # It is closed, or taken apart.
            return f"sys.__{name}__"
        raw = getattr(buffer, "raw", buffer)
        lines = text.line_buffering
        stream = (number, f"<{name}>", text, buffer, raw, lines, not text.write_through)
        _streams.append(stream)  # type: ignore[arg-type]
    return None


def find_buffers() -> None:
    """Find all that may have to be written at the end, be it made by imports."""
    objects = gc.get_objects()
    _buffers[:] = [
        thing
        # Their text goes into the others.
        for kind in (_io.TextIOWrapper, _io.BufferedWriter, _io.BufferedRandom)
        for thing in objects
        # Objects may say of themselves that they are anything.
        if issubclass(type(thing), kind)
    ]


def flush() -> None:
    """Write what is still in buffers."""
    for buffer in _buffers:
        try:
            buffer.flush()
        except (OSError, ValueError):
            # It is closed, or taken apart, or nobody reads it.
            pass


def renew() -> None:
    """Make them what they are in a new process."""
    for index, (number, name, text, buffer, raw, lines, may_buffer_lines) in enumerate(_streams):
        if raw.closed:
            continue
        # Not the same object: it would still know whether that other file was seekable.
        now = type(raw)(number, raw.mode, closefd=False)
        now.name = name
        try:
            is_own = text.buffer is buffer
        except ValueError:
            # Another one may have got its buffer.
            is_own = False
        if buffer is raw:
            buffer = now
        else:
            buffer.__init__(now, now._blksize)  # type: ignore
        _streams[index] = (number, name, text, buffer, now, lines, may_buffer_lines)  # type: ignore
        if not is_own:
            continue
        if text.line_buffering == lines:
            lines = may_buffer_lines and (number == 2 or now.isatty())
        else:
            # Imports have changed it.
            lines = text.line_buffering
        through = text.write_through
        text.__init__(buffer, text.encoding, text.errors, "\n", lines, through)  # type: ignore


def unbuffer() -> None:
    """Have all be written at once: nobody flushes objects of the image when they are destroyed."""
    flush()
    for number, _, text, buffer, raw, _, _ in _streams:
        try:
            is_own = text.buffer is buffer
        except ValueError:
            is_own = False
        if is_own and number > 0 and not raw.closed:
            text.__init__(raw, text.encoding, text.errors, "\n", text.line_buffering, True)  # type: ignore[misc]
