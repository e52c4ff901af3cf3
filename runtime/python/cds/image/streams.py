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
    from typing import Any


class _Stream:
    def __init__(self, number: int, name: str) -> None:
        self._number = number
        self._name = f"<{name}>"
        self._text: _io.TextIOWrapper = getattr(sys, f"__{name}__")
        # Without a buffer (`-u`) both are the same.
        self._buffer: "Any" = self._text.buffer
        self._raw: "Any" = getattr(self._buffer, "raw", self._buffer)
        self._encoding = self._text.encoding, self._text.errors
        self._write_through = self._text.write_through
        # What imports have called reconfigure() with.
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
        # Not the same object: it would still know whether that other file was seekable.
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
            # Another one may have got its buffer.
            return False

    def _make_text(self, below: "Any", line_buffering: bool) -> None:
        text, (encoding, errors), through = self._text, self._encoding, self._write_through
        text.__init__(below, encoding, errors, "\n", line_buffering, through)  # type: ignore[misc]
        for changes in self._changes:
            text.reconfigure(**changes)


_streams: list[_Stream] = []
_buffers: list[_io.TextIOWrapper | _io.BufferedWriter | _io.BufferedRandom] = []


def watch() -> str | None:
    """Take notice of the streams, before anybody imports anything.

    Return the name of one that there is not.
    """
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        try:
            _streams.append(_Stream(number, name))
        except (AttributeError, ValueError):
            # It is closed, or taken apart.
            return f"sys.__{name}__"
    for stream in _streams:
        stream.watch()
    return None


def leave_alone() -> None:
    """Take no more notice of what imports do with them."""
    for stream in _streams:
        stream.leave_alone()


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
    for stream in _streams:
        stream.renew()


def unbuffer() -> None:
    """Have all be written at once: nobody flushes objects of the image when they are destroyed."""
    flush()
    for stream in _streams:
        stream.unbuffer()
