"""The behaviour of memory that was made before the freeze, also when it is changed.

Each question is asked in a separate process, because an error can end the process by a signal.
"""

import ctypes
import gc
import os
import resource
import sys
from collections.abc import Callable, Iterator

from inventory import kept, native
from inventory.kept import KB, MB, Block
from inventory.lines import Lines
from inventory.native import PAGE, call

_ADVICE = {
    "NORMAL": 0,
    "RANDOM": 1,
    "SEQUENTIAL": 2,
    "WILLNEED": 3,
    "DONTNEED": 4,
    "FREE": 8,
    "REMOVE": 9,
    "DONTFORK": 10,
    "DOFORK": 11,
    "MERGEABLE": 12,
    "UNMERGEABLE": 13,
    "HUGEPAGE": 14,
    "NOHUGEPAGE": 15,
    "DONTDUMP": 16,
    "DODUMP": 17,
    "WIPEONFORK": 18,
    "KEEPONFORK": 19,
    "COLD": 20,
    "PAGEOUT": 21,
    "POPULATE_READ": 22,
    "POPULATE_WRITE": 23,
    "DONTNEED_LOCKED": 24,
}
_COLLAPSE, _HUGE_PAGE = 25, 2 * MB
_MAYMOVE, _DONTUNMAP = 1, 4


def report(lines: Lines) -> None:
    """Report the behaviour of each kind of memory."""
    special = sys.modules.get("inventory.special")
    blocks = special.BLOCKS if special else kept.BLOCKS
    for name, block in blocks.items():
        lines.ask_in_child(
            f"{name} contents, written over",
            lambda: (block.has_pattern(0, block.size), _write(block)),
        )
        lines.ask_in_child(f"{name} after a fork", lambda: _after_fork(block))
        # Not blocks with an advice (`special`), because a fork treats these differently.
        if block.size >= 4 * PAGE and not special:
            for key, answer in _questions(block):
                lines.ask_in_child(f"{name} {key}", answer)
        if name.startswith(("malloc", "calloc", "aligned_alloc")):
            for factor in (0.3, 2, 30):
                lines.ask_in_child(f"{name} realloc {factor}", lambda: _resize(block, factor))
            lines.ask_in_child(f"{name} freed", lambda: _free(block))
    lines.ask_in_child("untouched is zero", lambda: _is_zero(kept.UNTOUCHED, 2 * MB))
    _report_objects(lines)
    _report_heap(lines)
    _report_stack(lines)


def _whole_pages(block: Block) -> Block:
    """Return the pages that belong only to this block."""
    start = -(-block.address // PAGE) * PAGE
    inside = Block.__new__(Block)
    inside.address, inside.size = start, (block.address + block.size - start) // PAGE * PAGE
    return inside


def _questions(block: Block) -> Iterator[tuple[str, Callable[[], object]]]:
    pages = _whole_pages(block)
    place, size = pages.address, pages.size
    for name, advice in _ADVICE.items():
        yield (
            f"madvise {name}",
            lambda: (call("madvise", place, size, advice), _seen(pages), _seen_by_child(pages)),
        )
        yield f"process_madvise {name}", lambda: _process_madvise(pages, advice)
    # For other blocks, the result depends on the address.
    if block.address % _HUGE_PAGE == 0 and block.size == _HUGE_PAGE:
        yield (
            "madvise COLLAPSE",
            lambda: (call("madvise", block.address, block.size, _COLLAPSE), _seen(block)),
        )
    yield "mlock", lambda: (call("mlock", place, size), _seen(pages), call("munlock", place, size))
    yield "mlock2", lambda: call("mlock2", ctypes.c_void_p(place), ctypes.c_size_t(size), 1)
    for name, flags in {"async": 1, "sync": 4, "invalidate": 2}.items():
        yield f"msync {name}", lambda: (call("msync", place, size, flags), _seen(pages))
    yield "mincore", lambda: _mincore(pages)
    for protection in range(8):
        yield f"mprotect {protection}", lambda: call("mprotect", place, size, protection)
    yield "made unreadable and readable", lambda: _protect_twice(pages)
    for name, wanted, flags in (
        ("shrink", size - PAGE, 0),
        ("shrink by half", (size // 2) // PAGE * PAGE, 0),
        ("grow and move", 4 * size, _MAYMOVE),
        ("grow by a page", size + PAGE, _MAYMOVE),
        ("move and keep", size, _MAYMOVE | _DONTUNMAP),
    ):
        yield f"mremap {name}", lambda: _remap(pages, wanted, flags)
    yield "mremap duplicates", lambda: _duplicate(pages)
    yield "munmap", lambda: call("munmap", place, size)


def _seen(block: Block) -> str:
    """Return a description of the content of a block."""
    data = block.read(0, block.size)
    if not data.strip(b"\0"):
        return "zeros"
    return "other bytes" if 0 in data else "bytes"


def _seen_by_child(block: Block) -> str:
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.write(writer, _seen(block).encode())
        os._exit(0)
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    os.close(writer)
    return f"{os.read(reader, 100).decode()} {code}"


def _process_madvise(block: Block, advice: int) -> str:
    pid = os.pidfd_open(os.getpid())
    vector = (ctypes.c_uint64 * 2)(block.address, block.size)
    answer = native.syscall("process_madvise", pid, ctypes.addressof(vector), 1, advice, 0)
    return str((answer == str(block.size) or answer, _seen(block)))


def _mincore(block: Block) -> str:
    pages = ctypes.create_string_buffer(block.size // PAGE)
    answer = native.syscall("mincore", block.address, block.size, ctypes.addressof(pages))
    return f"{answer} {sorted(set(pages.raw))}"


def _protect_twice(block: Block) -> tuple[str, str, str]:
    before = call("mprotect", block.address, block.size, 0)
    return before, call("mprotect", block.address, block.size, 3), _seen(block)


def _remap(block: Block, size: int, flags: int) -> str:
    before = block.read(0, min(block.size, size))
    if flags & _DONTUNMAP:
        address = native.libc.mremap(block.address, block.size, size, flags, ctypes.c_void_p())
    else:
        address = native.libc.mremap(block.address, block.size, size, flags)
    if address == native.MAP_FAILED:
        return native.result(-1)
    grown = Block.__new__(Block)
    grown.address, grown.size = address, size
    is_kept = grown.read(0, len(before)) == before
    rest = grown.read(len(before), size)
    what = "zeros" if not rest.strip(b"\0") else "other bytes"
    left = _seen(block) if flags & _DONTUNMAP else "gone"
    ctypes.memset(address, 7, size)
    return f"contents kept: {is_kept}, then {what}, left {left}, written"


def _duplicate(block: Block) -> str:
    """Request a second mapping of the same pages, which only shared memory can have."""
    address = native.libc.mremap(block.address, 0, block.size, _MAYMOVE)
    return native.result(-1) if address == native.MAP_FAILED else "mapped"


def _write(block: Block) -> bool:
    ctypes.memset(block.address, 9, block.size)
    return block.read(0, block.size) == b"\x09" * block.size


def _after_fork(block: Block) -> tuple[bool, str]:
    """Let two processes write. Each must see only its own bytes."""
    pid = os.fork()
    if pid == 0:
        ctypes.memset(block.address, 3, block.size)
        os._exit(0)
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    return block.has_pattern(0, block.size), str(code)


def _resize(block: Block, factor: float) -> bool:
    size = int(block.size * factor)
    moved = Block.__new__(Block)
    moved.address, moved.size = native.libc.realloc(block.address, size), size
    is_kept = moved.has_pattern(0, min(size, block.size))
    moved.fill(0, size)
    smaller = native.libc.realloc(moved.address, max(size // 3, 1))
    native.libc.free(smaller)
    return is_kept


def _free(block: Block) -> bool:
    native.libc.free(block.address)
    cleared = native.libc.calloc(block.size, 1)
    return _is_zero(cleared, block.size)


def _is_zero(address: int, size: int) -> bool:
    return not ctypes.string_at(address, size).strip(b"\0")


def _report_objects(lines: Lines) -> None:
    for size in kept.BYTES:
        lines.ask_in_child(
            f"bytearray {size} grows and shrinks", lambda: _grow_bytes(kept.BYTES[size])
        )
    lines.ask_in_child("list grows", lambda: _grow_list(kept.LIST))
    lines.ask_in_child("dictionary grows", _grow_dictionary)
    lines.ask_in_child("text", lambda: (len(kept.TEXT + "x"), kept.TEXT.count("ä")))
    lines.ask_in_child("module mmap", _use_mmap)
    lines.ask_in_child("small objects are dropped", _drop_small)


def _grow_bytes(value: bytearray) -> bool:
    size = len(value)
    value.extend(bytes(5 * MB))
    is_right = value[:size] == kept.pattern(0, size) and not value[size:].strip(b"\0")
    del value[1:]
    value.extend(b"x" * 1000)
    return is_right and value[:2] == b"\x01x"


def _grow_list(value: list[int]) -> bool:
    size = len(value)
    value.extend(range(size, 3 * size))
    is_right = value[size - 1 : size + 2] == [size - 1, size, size + 1] and sum(value) == sum(
        range(3 * size)
    )
    value.clear()
    return is_right and not value


def _grow_dictionary() -> bool:
    kept.DICTIONARY.update({f"new {number}": number for number in range(30_000)})
    return sum(kept.DICTIONARY.values()) == sum(range(10_000)) + sum(range(30_000))


def _use_mmap() -> list[object]:
    value = kept.MODULE_MMAP
    done: list[object] = [value[:] == kept.pattern(0, MB)]
    value.madvise(4)
    done.append(not value[:].strip(b"\0"))
    try:
        value.resize(3 * MB)
    except (OSError, SystemError, ValueError) as error:
        done.append(f"{type(error).__name__}: {error}")
    else:
        value[2 * MB :] = b"y" * MB
        done.append(value[-1:])
    return done


def _drop_small() -> bool:
    kept.SMALL.clear()
    gc.collect()
    return len([bytes(40) for _ in range(50_000)]) == 50_000


def _report_heap(lines: Lines) -> None:
    libc = native.libc

    def move_break() -> tuple[bool, bool, bool]:
        before = libc.sbrk(0)
        old = libc.sbrk(4 * MB)
        ctypes.memset(old, 5, 4 * MB)
        libc.sbrk(-4 * MB)
        again = libc.sbrk(MB)
        return before == old, again == old, _is_zero(again, MB)

    def grow_heap() -> bool:
        places = [libc.malloc(100 * KB) for _ in range(500)]
        for place in places:
            ctypes.memset(place, 1, 100 * KB)
        for place in places:
            libc.free(place)
        return True

    lines.ask_in_child("sbrk", move_break)
    lines.ask_in_child("many mallocs", grow_heap)
    lines.ask_in_child(
        "trim, then calloc",
        lambda: (call("malloc_trim", 0) != "", _is_zero(libc.calloc(MB // 8, 1), MB // 8)),
    )
    lines.ask_in_child(
        "mallopt", lambda: [libc.mallopt(n, v) for n, v in ((-1, MB), (-3, MB), (-8, 1))]
    )
    lines.ask_in_child("brk of the kernel", _heap_of_the_kernel)


def _heap_of_the_kernel() -> tuple[bool, bool]:
    """Grow the heap within and beyond the data limit, which counts from the start of the heap."""
    resource.setrlimit(resource.RLIMIT_DATA, (1 << 30, resource.RLIM_INFINITY))
    grown = native.libc.sbrk(64 * MB) != native.MAP_FAILED
    return grown, native.libc.sbrk(2 << 30) == native.MAP_FAILED


def _report_stack(lines: Lines) -> None:
    libc = native.libc

    def deep(size: int) -> str:
        """Recurse through a function of the C library."""
        compare = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p)
        depth = 0

        def again(_a: int, _b: int) -> int:
            nonlocal depth
            depth += 1
            if depth < size:
                pair = (ctypes.c_int * 2)(2, 1)
                libc.qsort(pair, 2, 4, callback)
            return 0

        callback = compare(again)
        sys.setrecursionlimit(100_000)
        pair = (ctypes.c_int * 2)(2, 1)
        libc.qsort(pair, 2, 4, callback)
        return f"{depth >= size}"

    lines.ask_in_child("stack grows by calls of C", lambda: deep(1500))
    lines.ask_in_child("stack is limited", lambda: resource.getrlimit(resource.RLIMIT_STACK))

    def beyond() -> str:
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        ctypes.memset(native.pointer("__libc_stack_end") - 7 * MB, 1, 16)
        return "written"

    lines.ask_in_child("stack grows to 7 MB", beyond)

    def far_beyond() -> str:
        ctypes.memset(native.pointer("__libc_stack_end") - 9 * MB, 1, 16)
        return "written"

    lines.ask_in_child("stack does not grow to 9 MB", far_beyond)
