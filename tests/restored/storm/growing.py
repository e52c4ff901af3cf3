"""Ten blocks of memory that are made before the freeze and grow after the freeze."""

import ctypes
import mmap
import zlib

_libc = ctypes.CDLL(None)
_libc.malloc.restype = _libc.realloc.restype = ctypes.c_void_p
_libc.malloc.argtypes = [ctypes.c_size_t]
_libc.realloc.argtypes = [ctypes.c_void_p, ctypes.c_size_t]

_SIZES = (1000, 200_000, 3_000_000)


def _data(size: int) -> bytes:
    return bytes(range(1, 251)) * (size // 250)


def _allocated(size: int) -> int:
    address = int(_libc.malloc(size))
    ctypes.memmove(address, _data(size), size)
    return address


ARRAYS = [bytearray(_data(size)) for size in _SIZES]
BLOCKS = [(_allocated(size), size) for size in _SIZES]
LISTS = [list(range(size // 10)) for size in _SIZES]
MAPPING = mmap.mmap(-1, 1_000_000, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
MAPPING[:] = _data(1_000_000)


def run() -> None:
    """Let the blocks grow several times."""
    for value in ARRAYS:
        value.extend(value)
        print(len(value), zlib.crc32(value))
    for address, size in BLOCKS:
        for factor in (2, 5, 10):
            grown = size * factor
            address = _libc.realloc(address, grown)
            kept = ctypes.string_at(address, size)
            ctypes.memset(address + size, factor, grown - size)
        print(size, zlib.crc32(kept), zlib.crc32(ctypes.string_at(address, grown)))
    for numbers in LISTS:
        numbers.extend(numbers)
        print(len(numbers), sum(numbers))
    MAPPING.resize(5_000_000)
    print(zlib.crc32(MAPPING[:]))
