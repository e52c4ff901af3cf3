"""Memory of all kinds, made by the import of this module, in an image before the freeze.

The code here does nothing that would prevent an image.
"""

import ctypes
import mmap

from inventory import native

KB, MB = 1 << 10, 1 << 20


class Block:
    """Memory that contains a pattern."""

    def __init__(self, address: int | None, size: int) -> None:
        assert address
        self.address, self.size = address, size
        self.fill(0, size)

    def fill(self, start: int, end: int) -> None:
        """Write the pattern."""
        ctypes.memmove(self.address + start, pattern(start, end), end - start)

    def read(self, start: int, end: int) -> bytes:
        """Return the content."""
        return ctypes.string_at(self.address + start, end - start)

    def has_pattern(self, start: int, end: int) -> bool:
        """Return whether the memory contains the pattern."""
        return self.read(start, end) == pattern(start, end)


def pattern(start: int, end: int) -> bytes:
    """Return bytes that depend on their place."""
    whole = bytes(range(1, 252))
    first = start % len(whole)
    return (whole * ((end - start) // len(whole) + 2))[first : first + end - start]


def make(mapped: tuple[int, ...] = (64 * KB, MB)) -> dict[str, Block]:
    """Make one block of each kind."""
    libc = native.libc
    made = {f"mmap {size // KB} kB": Block(native.map_anonymous(size), size) for size in mapped}
    for size in (100, 10 * KB, 300 * KB, MB):
        made[f"malloc {size}"] = Block(libc.malloc(size), size)
    made["calloc"] = Block(libc.calloc(MB, 1), MB)
    made["aligned_alloc"] = Block(libc.aligned_alloc(2 * MB, 2 * MB), 2 * MB)
    stack = native.map_anonymous(256 * KB, native.MAP_NORESERVE | native.MAP_STACK)
    made["mmap MAP_STACK"] = Block(stack, 256 * KB)
    reserved = native.map_anonymous(64 * MB, native.MAP_NORESERVE, 0)
    native.libc.mprotect(reserved, MB, native.PROT_READ | native.PROT_WRITE)
    made["mmap reserved"] = Block(reserved, MB)
    return made


BLOCKS = make()
# Freed again, so that the allocator has free memory.
for _block in [
    Block(native.libc.malloc(size), size) for size in (24, 1000, 60 * KB, 100 * KB, 700 * KB)
]:
    native.libc.free(_block.address)
UNTOUCHED = native.map_anonymous(2 * MB)
MODULE_MMAP = mmap.mmap(-1, MB, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
MODULE_MMAP[:] = pattern(0, MB)
BYTES = {size: bytearray(pattern(0, size)) for size in (10, 1000, 100 * KB, 2 * MB)}
LIST = list(range(100_000))
DICTIONARY = {f"key {number}": number for number in range(10_000)}
TEXT = "ä" * 500_000
SMALL = [bytes([number % 256]) * 40 for number in range(10_000)]
