"""The memory of the process in /proc/self/smaps: the kind of each part, by its role."""

import ctypes
import os
import re
import sys

from inventory import native
from inventory.lines import Lines

# Fields that are amounts of memory in use, which differ from run to run.
_AMOUNTS = re.compile(
    r"Size|Rss|Pss(_.*)?|(Shared|Private)_(Clean|Dirty)|Referenced|Anonymous|KSM|LazyFree|AnonHugePages"
    r"|ShmemPmdMapped|FilePmdMapped|SwapPss"
)
_PERMISSIONS = ("---", "--x", "-w-", "-wx", "r--", "r-x", "rw-", "rwx")


class Mapping:
    """A mapping: its first line in smaps, and the lines after it."""

    def __init__(self, line: str) -> None:
        place, self.permissions, offset, _, inode, *path = line.split(None, 5)
        self.start, self.end = (int(part, 16) for part in place.split("-"))
        self.offset, self.is_file = int(offset, 16), inode != "0"
        self.path = path[0].strip() if path else ""
        self.fields: dict[str, str] = {}

    @property
    def name(self) -> str:
        """Return the name of the file, or the kernel's name of the mapping."""
        return os.path.basename(self.path) if self.is_file else self.path or "anonymous"

    def what(self) -> str:
        """Return all fields that do not depend on addresses and amounts."""
        kind = f"file {self.name}" if self.is_file else self.name
        usual = ("0", "0 kB", "4 kB")
        fields = [f"{name}={value}" for name, value in self.fields.items() if value not in usual]
        return " ".join([self.permissions, kind, *fields])


def read() -> list[Mapping]:
    """Return the mappings of this process."""
    found: list[Mapping] = []
    with open("/proc/self/smaps", encoding="utf-8", errors="surrogateescape") as file:
        text = file.read()
    for line in text.splitlines():
        field = re.match(r"(\w+):\s*(.*)", line)
        if not field:
            found.append(Mapping(line))
        elif not _AMOUNTS.fullmatch(field[1]):
            found[-1].fields[field[1]] = field[2].strip()
    return found


class _Segment(ctypes.Structure):
    _fields_ = (
        ("type", ctypes.c_uint32),
        ("flags", ctypes.c_uint32),
        ("offset", ctypes.c_uint64),
        ("address", ctypes.c_uint64),
        ("physical", ctypes.c_uint64),
        ("file_size", ctypes.c_uint64),
        ("size", ctypes.c_uint64),
        ("align", ctypes.c_uint64),
    )


class _Library(ctypes.Structure):
    _fields_ = (
        ("base", ctypes.c_uint64),
        ("name", ctypes.c_char_p),
        ("segments", ctypes.POINTER(_Segment)),
        ("count", ctypes.c_uint16),
    )


def libraries() -> list[tuple[str, list[tuple[int, int, int, int]]]]:
    """Return the loaded libraries: their segments' flags, begin, end in the file, and end."""
    found = []

    def note(library: "ctypes._Pointer[_Library]", _size: int, _data: int) -> int:
        it = library.contents
        name = os.path.basename(os.fsdecode(it.name or b"")) or "the program"
        segments = [it.segments[i] for i in range(it.count)]
        places = [
            (
                s.flags,
                it.base + s.address,
                it.base + s.address + s.file_size,
                it.base + s.address + s.size,
            )
            for s in segments
            if s.type == 1
        ]
        found.append((name, places))
        return 0

    prototype = ctypes.CFUNCTYPE(
        ctypes.c_int, ctypes.POINTER(_Library), ctypes.c_size_t, ctypes.c_void_p
    )
    native.libc.dl_iterate_phdr(prototype(note), None)
    return found


def role_of(address: int) -> str:
    """Return the role of an address: a segment of a library, or a mapping."""
    if address == 0:
        return "nowhere"
    for name, segments in libraries():
        for number, (_, start, _, end) in enumerate(segments):
            if start <= address < end:
                return f"{name} segment {number}"
    for mapping in read():
        if mapping.start <= address < mapping.end:
            return mapping.name
    return "nowhere"


def _known_addresses() -> dict[str, int]:
    """Return the addresses of things whose memory is reported."""
    libc = native.libc
    libc.__errno_location.restype = ctypes.c_void_p
    environ = ctypes.POINTER(ctypes.c_void_p).in_dll(libc, "environ")
    places = {
        "new small objects": id(object()),
        "new large bytearray": _buffer(bytearray(20 << 20)),
        "the thread's own variables": libc.pthread_self(),
        "errno": libc.__errno_location(),
        "the heap's last byte": libc.sbrk(0) - 1,
        "new malloc 100": libc.malloc(100),
        "new malloc 1 MB": libc.malloc(1 << 20),
        "new mmap": native.map_anonymous(1 << 20),
        "the type int": id(int),
        "None": id(None),
        "sys.modules": id(sys.modules),
        "interned string": id(sys.intern("path")),
        "the list of variables": ctypes.addressof(environ.contents),
        "where the stack began": native.pointer("__libc_stack_end"),
    }
    if environ[0]:
        places["the first variable"] = environ[0]
    if kept := sys.modules.get("inventory.kept"):
        places |= {f"kept {name}": block.address for name, block in kept.BLOCKS.items()}
        places["kept small objects"] = id(kept.SMALL[100])
        places["kept list"] = id(kept.LIST)
        places["kept untouched"] = kept.UNTOUCHED
        places |= {f"kept bytearray {size}": _buffer(value) for size, value in kept.BYTES.items()}
    if special := sys.modules.get("inventory.special"):
        places |= {f"kept {name}": block.address for name, block in special.BLOCKS.items()}
    return places


def _buffer(value: bytearray) -> int:
    return ctypes.addressof(ctypes.c_char.from_buffer(value))


def report(lines: Lines) -> None:
    """Report the kind of memory of each role, and all memory without a role."""
    addresses = _known_addresses()
    loaded = libraries()
    found = read()
    has_role = set()

    def overlapping(start: int, end: int) -> str:
        those = [mapping for mapping in found if mapping.start < end and start < mapping.end]
        has_role.update(those)
        return " | ".join(sorted({mapping.what() for mapping in those})) or "nothing"

    for name, address in addresses.items():
        lines.add(name, overlapping(address, address + 1))
    page = native.PAGE
    for name, segments in loaded:
        for number, (flags, start, file_end, end) in enumerate(segments):
            key = f"{name} segment {number} {_PERMISSIONS[flags & 7]}"
            lines.add(key, overlapping(start, file_end))
            rounded = -(-file_end // page) * page
            if end > rounded:
                lines.add(f"{key} bss", overlapping(rounded, end))
    named: dict[str, set[str]] = {}
    for mapping in found:
        if mapping not in has_role:
            named.setdefault(f"other {mapping.name}", set()).add(mapping.what())
    for name, kinds in named.items():
        lines.add(name, " | ".join(sorted(kinds)))
    lines.add("libraries in order", [name for name, _ in loaded])
    _report_numa(lines)


def _report_numa(lines: Lines) -> None:
    try:
        with open("/proc/self/numa_maps", encoding="utf-8", errors="surrogateescape") as file:
            policies = {line.split()[1] for line in file}
    except FileNotFoundError:
        return
    lines.add("numa policies", sorted(policies))
