"""The standard streams of restored processes.

Imports may keep the stream objects, change them, or replace them.  So the objects stay the same.
They are initialized again for the standard streams of each process, as create_stdio() in
Python/pylifecycle.c does it.
"""

import _io
import gc
import sys

# As in `startup`.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


class _Stream:
    def __init__(self, number: int, name: str) -> None:
        self._number = number
        self._name = f"<{name}>"
        self._text: _io.TextIOWrapper = getattr(sys, f"__{name}__")
        # Without a buffer (`-u`), both are the same object.
        self._buffer: "Any" = self._text.buffer
        self._raw: "Any" = getattr(self._buffer, "raw", self._buffer)
        self._encoding = self._text.encoding, self._text.errors
        self._write_through = self._text.write_through
        # The arguments of the calls of reconfigure() by imports.
        self._changes: "list[dict[str, Any]]" = []

    def watch(self) -> None:
        def reconfigure(**changes: object) -> None:
            _io.TextIOWrapper.reconfigure(self._text, **changes)  # type: ignore[arg-type]
            self._changes.append(changes)

        self._text.reconfigure = reconfigure  # type: ignore[method-assign]

    def leave_alone(self) -> None:
        vars(self._text).pop("reconfigure", None)

    def renew(self) -> None:
        if self._raw.closed:
            return
        has_text = self._has_text()
        # A new object, because the old one keeps whether the old file was seekable.
        raw = type(self._raw)(self._number, self._raw.mode, closefd=False)
        raw.name = self._name
        if self._buffer is self._raw:
            self._buffer = raw
        else:
            self._buffer.__init__(raw, raw._blksize)
        self._raw = raw
        if has_text:
            lines = not self._write_through and (self._number == 2 or raw.isatty())
            self._make_text(self._buffer, lines)

    def unbuffer(self) -> None:
        if self._has_text() and self._number > 0 and not self._raw.closed:
            self._make_text(self._raw, False)
            self._text.reconfigure(write_through=True)

    def _has_text(self) -> bool:
        try:
            return self._text.buffer is self._buffer
        except ValueError:
            # The buffer was detached: another object may own it now.
            return False

    def _make_text(self, below: "Any", line_buffering: bool) -> None:
        text, (encoding, errors), through = self._text, self._encoding, self._write_through
        text.__init__(below, encoding, errors, "\n", line_buffering, through)  # type: ignore[misc]
        for changes in self._changes:
            text.reconfigure(**changes)


_streams: list[_Stream] = []
_buffers: list[_io.TextIOWrapper | _io.BufferedWriter | _io.BufferedRandom] = []


def watch() -> str | None:
    """Keep and watch the streams, before any import.

    Return the name of a stream that is missing, or None.
    """
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        try:
            _streams.append(_Stream(number, name))
        except (AttributeError, ValueError):
            # The stream is closed, or its buffer was detached.
            return f"sys.__{name}__"
    for stream in _streams:
        stream.watch()
    return None


def leave_alone() -> None:
    """Stop watching the streams."""
    for stream in _streams:
        stream.leave_alone()


def find_buffers() -> None:
    """Find all objects with buffered output, including those that imports have made."""
    objects = gc.get_objects()
    _buffers[:] = [
        thing
        # Text streams come first: they write into the binary streams.
        for kind in (_io.TextIOWrapper, _io.BufferedWriter, _io.BufferedRandom)
        for thing in objects
        # isinstance() believes `__class__`, which may be anything.
        if issubclass(type(thing), kind)
    ]


def flush() -> None:
    """Write what the buffers still contain."""
    for buffer in _buffers:
        try:
            buffer.flush()
        except (OSError, ValueError):
            # The stream is closed or detached, or its reader is gone.
            pass


def renew() -> None:
    """Give the streams the state that they have in a new process."""
    for stream in _streams:
        stream.renew()


def unbuffer() -> None:
    """Make the streams unbuffered, because objects of the image are not flushed at their end."""
    flush()
    for stream in _streams:
        stream.unbuffer()
