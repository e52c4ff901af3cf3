"""Functions that allocate: of the C library, of other allocators if installed, of the kernel."""

import ctypes
from collections.abc import Callable
from typing import Any

from inventory import native


class Allocator:
    """Four allocation functions of a library."""

    def __init__(
        self,
        name: str,
        library: ctypes.CDLL,
        prefix: str = "",
        purge: Callable[[], object] | None = None,
    ):
        self.name = name
        self.purge = purge

        def function(name: str, result: Any, *arguments: Any) -> Callable[..., int | None]:
            found = library[f"{prefix}{name}"]
            found.restype, found.argtypes = result, arguments
            return found

        pointer, size = ctypes.c_void_p, ctypes.c_size_t
        self.malloc = function("malloc", pointer, size)
        self.calloc = function("calloc", pointer, size, size)
        self.realloc = function("realloc", pointer, pointer, size)
        self.free = function("free", None, pointer)
        self._aligned = None if prefix else function("aligned_alloc", pointer, size, size)

    def aligned(self, size: int) -> int | None:
        """Return memory that begins at a page boundary, and whose size is a multiple of a page."""
        if self._aligned is None:
            return self.malloc(size)
        return self._aligned(native.PAGE, -(-size // native.PAGE) * native.PAGE)


def _jemalloc() -> Allocator:
    library = ctypes.CDLL("libjemalloc.so.2")

    def purge() -> None:
        # All arenas.
        library.mallctl(b"arena.4096.purge", None, None, None, ctypes.c_size_t(0))

    return Allocator("jemalloc", library, purge=purge)


def _mimalloc() -> Allocator:
    library = ctypes.CDLL("libmimalloc.so.2")
    return Allocator("mimalloc", library, "mi_", lambda: library.mi_collect(True))


def available() -> tuple[list[Allocator], list[str]]:
    """Return the installed allocators, and the names of the missing ones."""
    found = [Allocator("glibc", native.libc, purge=lambda: native.libc.malloc_trim(0))]
    missing = []
    for make in (_jemalloc, _mimalloc):
        try:
            found.append(make())
        except OSError:
            missing.append(make.__name__[1:])
    return found, missing
