"""Python objects with their own memory, and a copy of their expected content."""

import array
import io
import mmap
from collections import deque
from random import Random
from typing import Any

from allocation.blocks import Wrong, random_bytes, random_size

_LARGEST = 1 << 20


class Bytes:
    """A mutable sequence of bytes, and a copy as a list of immutable pieces."""

    name = "bytearray"

    def __init__(self, random: Random) -> None:
        self.value = self.make(random_bytes(random, random_size(random, _LARGEST)))
        self.expected = self.text()

    def make(self, data: bytes) -> Any:
        return bytearray(data)

    def text(self) -> bytes:
        """Return the content."""
        return bytes(self.value)

    def check(self) -> None:
        """Compare the content with the copy."""
        if self.text() != self.expected:
            raise Wrong(f"{self.name} of {len(self.expected)} has other bytes")

    def step(self, random: Random) -> str:
        """Change the content at random."""
        data = random_bytes(random, random_size(random, _LARGEST))
        at = random.randint(0, len(self.expected))
        what = random.choice(("append", "cut", "insert", "remake", "clear"))
        if what == "append" and len(self.expected) < 4 * _LARGEST:
            self.append(data)
            self.expected += data
        elif what == "cut":
            self.cut(at)
            self.expected = self.expected[:at]
        elif what == "insert":
            self.insert(at, data)
            self.expected = self.expected[:at] + data + self.expected[at + len(data) :]
        elif what == "remake":
            self.value = self.make(data)
            self.expected = data
        else:
            self.cut(0)
            self.expected = b""
        return f"{what} {len(self.expected)}"

    def append(self, data: bytes) -> None:
        self.value.extend(data)

    def cut(self, size: int) -> None:
        del self.value[size:]

    def insert(self, at: int, data: bytes) -> None:
        """Overwrite the content, also beyond its end."""
        self.value[at : at + len(data)] = data

    def drop(self) -> None:
        """Release the object."""
        self.value = None


class Immutable(Bytes):
    """Bytes that are made again for each change."""

    name = "bytes"

    def make(self, data: bytes) -> Any:
        return data[:1] + data[1:]

    def append(self, data: bytes) -> None:
        self.value += data

    def cut(self, size: int) -> None:
        self.value = self.value[:size]

    def insert(self, at: int, data: bytes) -> None:
        self.value = self.value[:at] + data + self.value[at + len(data) :]


class Text(Immutable):
    """Text of characters that take one, two or four bytes."""

    name = "str"

    def make(self, data: bytes) -> Any:
        return data.decode("latin-1")

    def text(self) -> bytes:
        return bytes(self.value.encode("latin-1"))

    def append(self, data: bytes) -> None:
        # Written like this, the interpreter may resize the text in place.
        self.value += data.decode("latin-1")

    def insert(self, at: int, data: bytes) -> None:
        wide = self.value + "\U0001f40d"
        self.value = wide[:at] + data.decode("latin-1") + self.value[at + len(data) :]


class Array(Bytes):
    """An array of small numbers."""

    name = "array"

    def make(self, data: bytes) -> Any:
        return array.array("B", data)

    def text(self) -> bytes:
        return bytes(self.value.tobytes())

    def append(self, data: bytes) -> None:
        self.value.frombytes(data)

    def insert(self, at: int, data: bytes) -> None:
        self.value[at : at + len(data)] = array.array("B", data)


class Numbers(Bytes):
    """A list of numbers."""

    name = "list"

    def make(self, data: bytes) -> Any:
        return list(data)


class Queue(Bytes):
    """A deque, which is a list of blocks."""

    name = "deque"

    def make(self, data: bytes) -> Any:
        return deque(data)

    def cut(self, size: int) -> None:
        while len(self.value) > size:
            self.value.pop()

    def insert(self, at: int, data: bytes) -> None:
        self.value = deque((*list(self.value)[:at], *data, *list(self.value)[at + len(data) :]))


class Buffer(Bytes):
    """A file in memory."""

    name = "BytesIO"

    def make(self, data: bytes) -> Any:
        return io.BytesIO(data)

    def text(self) -> bytes:
        return bytes(self.value.getvalue())

    def append(self, data: bytes) -> None:
        self.value.seek(0, io.SEEK_END)
        self.value.write(data)

    def cut(self, size: int) -> None:
        self.value.truncate(size)

    def insert(self, at: int, data: bytes) -> None:
        self.value.seek(at)
        self.value.write(data)


class Table(Bytes):
    """A dictionary from positions to bytes."""

    name = "dict"

    def make(self, data: bytes) -> Any:
        return dict(enumerate(data))

    def text(self) -> bytes:
        return bytes(self.value.values())

    def append(self, data: bytes) -> None:
        self.value.update(enumerate(data, len(self.value)))

    def cut(self, size: int) -> None:
        for key in range(size, len(self.value)):
            del self.value[key]

    def insert(self, at: int, data: bytes) -> None:
        self.value.update(enumerate(data, at))


class Places(Bytes):
    """A set of texts, each with a position and a byte."""

    name = "set"

    def make(self, data: bytes) -> Any:
        return {f"{place} {byte}" for place, byte in enumerate(data[:20_000])}

    def __init__(self, random: Random) -> None:
        self.value = self.make(random_bytes(random, random_size(random, 1 << 14)))
        self.expected = self.text()

    def text(self) -> bytes:
        pairs = sorted(tuple(map(int, item.split())) for item in self.value)
        return bytes(byte for _, byte in pairs)

    def step(self, random: Random) -> str:
        data = random_bytes(random, random_size(random, 1 << 14))
        new = self.make(data)
        what = random.choice(("remake", "cut", "append"))
        if what == "remake":
            self.value, self.expected = new, data[:20_000]
        elif what == "cut":
            at = random.randint(0, len(self.expected))
            self.value -= {
                f"{place} {byte}" for place, byte in enumerate(self.expected) if place >= at
            }
            self.expected = self.expected[:at]
        elif len(self.expected) + len(data) < 60_000:
            self.value |= {f"{place} {byte}" for place, byte in enumerate(data, len(self.expected))}
            self.expected += data
        return f"{what} {len(self.expected)}"


class Mmap(Bytes):
    """An object of the module mmap, without a file."""

    name = "mmap"

    def make(self, data: bytes) -> Any:
        value = mmap.mmap(-1, len(data) or 1, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        value[: len(data)] = data
        return value

    def text(self) -> bytes:
        return (
            bytes(self.value[: len(self.expected)])
            if hasattr(self, "expected")
            else bytes(self.value[:])
        )

    def step(self, random: Random) -> str:
        data = random_bytes(random, random_size(random, _LARGEST))
        what = random.choice(("remake", "resize", "forget", "write"))
        if what == "remake":
            self.value.close()
            self.value, self.expected = self.make(data), data
        elif what == "resize":
            # The lost bytes of the last page would appear again when the mapping grows.
            lost = len(self.expected) - len(data)
            if lost > 0:
                self.value[len(data) : len(self.expected)] = bytes(lost)
            self.value.resize(len(data))
            self.expected = (self.expected + bytes(len(data)))[: len(data)]
        elif what == "forget":
            self.value.madvise(mmap.MADV_DONTNEED)
            self.expected = bytes(len(self.expected))
        else:
            size = min(len(data), len(self.expected))
            self.value[:size] = data[:size]
            self.expected = data[:size] + self.expected[size:]
        return f"{what} {len(self.expected)}"

    def drop(self) -> None:
        self.value.close()


KINDS: list[type[Bytes]] = [
    Bytes,
    Immutable,
    Text,
    Array,
    Numbers,
    Queue,
    Buffer,
    Table,
    Places,
    Mmap,
]

try:
    import numpy
except ImportError:
    HAS_NUMPY = False
else:
    HAS_NUMPY = True

    class Vector(Bytes):
        """An array of numpy."""

        name = "numpy"

        def make(self, data: bytes) -> Any:
            return numpy.frombuffer(data, dtype=numpy.uint8).copy()

        def text(self) -> bytes:
            return bytes(self.value.tobytes())

        def append(self, data: bytes) -> None:
            size = len(self.value)
            # In place, with realloc().
            self.value.resize(size + len(data), refcheck=False)
            self.value[size:] = numpy.frombuffer(data, dtype=numpy.uint8)

        def cut(self, size: int) -> None:
            self.value.resize(size, refcheck=False)

        def insert(self, at: int, data: bytes) -> None:
            after = self.value[at + len(data) :]
            self.value = numpy.concatenate((self.value[:at], self.make(data), after))

    KINDS.append(Vector)
