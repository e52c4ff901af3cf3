"""Memory of an allocator or of the kernel, with a copy of its expected content."""

import ctypes
import os
from random import Random

from allocation.allocators import Allocator
from inventory import native
from inventory.native import PAGE, call

_DONTNEED, _FREE, _WIPEONFORK, _KEEPONFORK, _COLD, _PAGEOUT = 4, 8, 18, 19, 20, 21
_MAYMOVE = 1
_LARGEST = 6 << 20


class Wrong(Exception):
    """The memory does not have the expected content."""


def random_size(random: Random, largest: int = _LARGEST) -> int:
    """Return a size: most are small."""
    return random.randint(1, random.choice((64, 64, 1 << 10, 1 << 14, 1 << 18, 1 << 20, largest)))


def random_bytes(random: Random, size: int) -> bytes:
    """Return bytes without zeros, so that zeros are never equal by chance."""
    piece = bytes(byte or 1 for byte in random.randbytes(min(size, 509)))
    return (piece * (size // len(piece) + 1))[:size] if size else b""


def _apart(random: Random) -> Random:
    """Return a generator for choices that depend on an address, which differs in each run."""
    return Random(random.getrandbits(32))


class Raw:
    """Memory at an address."""

    name = "raw"

    def __init__(self, address: int | None, expected: bytes) -> None:
        if not address:
            raise MemoryError(self.name)
        self.address = address
        self.expected = bytearray(expected)
        ctypes.memmove(address, expected, len(expected))

    @property
    def size(self) -> int:
        return len(self.expected)

    def check(self, where: str = "") -> None:
        """Compare the memory with the copy."""
        found = ctypes.string_at(self.address, self.size)
        if found != self.expected:
            place = next(
                n for n, pair in enumerate(zip(found, self.expected)) if pair[0] != pair[1]
            )
            zeros = found.count(0) - self.expected.count(0)
            raise Wrong(
                f"{self.name} of {self.size}{where}: at {place} there is {found[place]}, not"
                f" {self.expected[place]}; {zeros} zeros too many"
            )

    def fill(self, random: Random) -> str:
        """Write to a part of the memory."""
        start = random.randrange(self.size)
        data = random_bytes(random, random.randint(1, self.size - start))
        ctypes.memmove(self.address + start, data, len(data))
        self.expected[start : start + len(data)] = data
        return "filled"

    def fill_all(self, random: Random) -> None:
        """Write to all of the memory."""
        data = random_bytes(random, self.size)
        ctypes.memmove(self.address, data, self.size)
        self.expected[:] = data

    def pages(self, random: Random) -> tuple[int, int] | None:
        """Return an offset and a size of whole pages of the memory, if there are any."""
        first = -(-self.address // PAGE)
        last = (self.address + self.size) // PAGE
        if first >= last:
            return None
        start = random.randrange(first, last)
        end = random.randint(start + 1, last)
        return start * PAGE, (end - start) * PAGE

    def _advise(self, random: Random, advice: int) -> str | None:
        pages = self.pages(_apart(random))
        if pages is None:
            return None
        return call("madvise", *pages, advice)

    def forget(self, random: Random) -> str:
        """Give pages back to the kernel, which makes them zero."""
        pages = self.pages(_apart(random))
        if pages is not None:
            answer = call("madvise", *pages, _DONTNEED)
            if answer != "0":
                raise Wrong(f"{self.name}: DONTNEED says {answer}")
            start = pages[0] - self.address
            self.expected[start : start + pages[1]] = bytes(pages[1])
        return "forgotten"

    def lend(self, random: Random) -> str:
        """Allow the kernel to take pages, and then write to all of them."""
        answer = self._advise(random, _FREE)
        if answer not in ("0", None):
            raise Wrong(f"{self.name}: FREE says {answer}")
        self.fill_all(random)
        return "lent"

    def swap_out(self, random: Random) -> str:
        """Tell the kernel that pages are not needed soon. Their content must not change."""
        for advice in (_COLD, _PAGEOUT):
            answer = self._advise(random, advice)
            if answer not in ("0", None):
                raise Wrong(f"{self.name}: advice {advice} says {answer}")
        return "swapped out"

    def protect(self, random: Random) -> str:
        """Forbid the use of pages, and allow it again."""
        pages = self.pages(_apart(random))
        if pages is not None:
            for protection in (0, 1, 3):
                answer = call("mprotect", *pages, protection)
                if answer != "0":
                    raise Wrong(f"{self.name}: mprotect says {answer}")
        return "protected"

    def fork(self, random: Random) -> str:
        """Let a child process read the memory, and write to its own copy."""
        data = random_bytes(random, self.size)
        pid = os.fork()
        if pid == 0:
            try:
                self.check()
                ctypes.memmove(self.address, data, self.size)
                self.expected[:] = data
                self.check()
            except Wrong:
                os._exit(1)
            os._exit(0)
        code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        if code != 0:
            raise Wrong(f"{self.name} of {self.size}: the child ended with {code}")
        return "forked"

    def operations(self) -> list[str]:
        """Return the possible actions. An action that is listed twice is done more often."""
        return ["fill"] * 4 + ["forget", "lend", "swap_out", "protect", "fork"]

    def step(self, random: Random) -> str:
        """Do a random action, and return its name."""
        return str(getattr(self, random.choice(self.operations()))(random))

    def drop(self) -> None:
        """Free the memory."""


class Allocated(Raw):
    """A block of an allocator."""

    def __init__(self, allocator: Allocator, random: Random) -> None:
        size = random_size(random)
        self.name = f"{allocator.name}'s block"
        self.allocator = allocator
        how = random.choice(("malloc", "calloc", "aligned"))
        if how == "calloc":
            super().__init__(allocator.calloc(size, 1), b"")
            self.expected = bytearray(size)
            self.check(" of calloc()")
            self.fill(random)
        else:
            address = allocator.malloc(size) if how == "malloc" else allocator.aligned(size)
            super().__init__(address, random_bytes(random, size))

    def operations(self) -> list[str]:
        return [*super().operations(), *["resize"] * 5, "purge"]

    def forget(self, random: Random) -> str:
        """Do so, and fill it: which bytes are zero then depends on where it lies."""
        done = super().forget(random)
        self.check(" that was forgotten")
        self.fill_all(random)
        return done

    def resize(self, random: Random) -> str:
        """Reallocate the block: the content must be the same up to the smaller size."""
        if random.random() < 0.6:
            size = random_size(random)
        else:
            size = max(1, min(int(self.size * random.choice((0.4, 0.9, 1.1, 1.5, 3))), _LARGEST))
        address = self.allocator.realloc(self.address, size)
        if not address:
            raise MemoryError(self.name)
        self.address = address
        kept = self.expected[:size]
        new = random_bytes(random, size - len(kept))
        ctypes.memmove(address + len(kept), new, len(new))
        self.expected = kept + new
        return f"resized to {size}"

    def purge(self, _random: Random) -> str:
        """Let the allocator return free memory to the kernel."""
        if self.allocator.purge:
            self.allocator.purge()
        return "purged"

    def drop(self) -> None:
        self.allocator.free(self.address)


class Mapped(Raw):
    """A private mapping without a file."""

    name = "a mapping"

    def __init__(self, random: Random) -> None:
        size = -(-random_size(random) // PAGE) * PAGE
        flags = random.choice((0, 0, native.MAP_NORESERVE))
        super().__init__(native.map_anonymous(size, flags), b"")
        self.expected = bytearray(size)
        self.check(" that is new")
        self.fill(random)

    def operations(self) -> list[str]:
        return [*super().operations(), *["resize"] * 4, "cut", "wipe", "lock"]

    def resize(self, random: Random) -> str:
        """Resize the mapping, which may move. New pages must be zero."""
        if random.random() < 0.5:
            size = -(-random_size(random) // PAGE) * PAGE
        else:
            size = min(self.size + random.choice((1, 2, 16, 300)) * PAGE, _LARGEST)
        address = native.libc.mremap(self.address, self.size, size, _MAYMOVE)
        if address == native.MAP_FAILED:
            raise Wrong(
                f"a mapping of {self.size} cannot have a size of {size}: {native.result(-1)}"
            )
        self.address = address
        kept = self.expected[:size]
        self.expected = kept + bytes(size - len(kept))
        return f"resized to {size}"

    def cut(self, random: Random) -> str:
        """Unmap pages at one end of the mapping."""
        count = self.size // PAGE
        if count > 1:
            gone = random.randrange(1, count) * PAGE
            if random.random() < 0.5:
                native.libc.munmap(self.address, gone)
                self.address += gone
                del self.expected[:gone]
            else:
                del self.expected[self.size - gone :]
                native.libc.munmap(self.address + self.size, gone)
        return f"cut to {self.size}"

    def wipe(self, _random: Random) -> str:
        """Check that a child process finds zeros."""
        answer = call("madvise", self.address, self.size, _WIPEONFORK)
        pid = os.fork()
        if pid == 0:
            is_zero = not ctypes.string_at(self.address, self.size).strip(b"\0")
            os._exit(0 if is_zero else 1)
        code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        call("madvise", self.address, self.size, _KEEPONFORK)
        if (answer, code) != ("0", 0):
            raise Wrong(f"a mapping was not wiped: {answer}, and the child ended with {code}")
        return "wiped in a child"

    def lock(self, random: Random) -> str:
        """Keep pages in memory for a moment."""
        pages = self.pages(_apart(random))
        if pages is not None and pages[1] < 1 << 20:
            answers = call("mlock", *pages), call("munlock", *pages)
            if answers != ("0", "0"):
                raise Wrong(f"a mapping was not locked: {answers}")
        return "locked"

    def drop(self) -> None:
        native.libc.munmap(self.address, self.size)
