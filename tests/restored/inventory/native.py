"""Calls to the C library and the kernel."""

import ctypes
import errno

libc = ctypes.CDLL(None, use_errno=True)
libc.syscall.restype = ctypes.c_long
_pointer = ctypes.c_void_p
for _name in (
    "malloc",
    "calloc",
    "realloc",
    "aligned_alloc",
    "mmap",
    "mremap",
    "sbrk",
    "pthread_self",
):
    getattr(libc, _name).restype = _pointer
libc.malloc.argtypes = [ctypes.c_size_t]
libc.calloc.argtypes = [ctypes.c_size_t, ctypes.c_size_t]
libc.aligned_alloc.argtypes = [ctypes.c_size_t, ctypes.c_size_t]
libc.realloc.argtypes = [_pointer, ctypes.c_size_t]
libc.free.argtypes = [_pointer]
libc.free.restype = None
libc.sbrk.argtypes = [ctypes.c_ssize_t]
libc.mmap.argtypes = [
    _pointer,
    ctypes.c_size_t,
    ctypes.c_int,
    ctypes.c_int,
    ctypes.c_int,
    ctypes.c_long,
]
libc.mremap.argtypes = [_pointer, ctypes.c_size_t, ctypes.c_size_t, ctypes.c_int]
libc.munmap.argtypes = [_pointer, ctypes.c_size_t]
for _name in ("madvise", "mprotect", "msync"):
    getattr(libc, _name).argtypes = [_pointer, ctypes.c_size_t, ctypes.c_int]
for _name in ("mlock", "munlock"):
    getattr(libc, _name).argtypes = [_pointer, ctypes.c_size_t]
libc.getauxval.restype = ctypes.c_ulong
libc.getauxval.argtypes = [ctypes.c_ulong]

PAGE = 4096
PROT_READ, PROT_WRITE = 1, 2
MAP_PRIVATE, MAP_ANONYMOUS, MAP_NORESERVE, MAP_STACK = 2, 0x20, 0x4000, 0x20000
MAP_FAILED = ctypes.c_size_t(-1).value

# The numbers of x86-64.
SYSCALLS = {
    "rt_sigaction": 13,
    "mincore": 27,
    "rt_sigpending": 127,
    "sigaltstack": 131,
    "personality": 135,
    "prctl": 157,
    "arch_prctl": 158,
    "get_mempolicy": 239,
    "keyctl": 250,
    "ioprio_get": 252,
    "get_robust_list": 274,
    "sched_getattr": 315,
    "membarrier": 324,
    "pkey_alloc": 330,
    "rseq": 334,
    "pidfd_open": 434,
    "process_madvise": 440,
}


def result(value: int) -> str:
    """Return the result of a call, or the name of its error."""
    if value == -1:
        number = ctypes.get_errno()
        return errno.errorcode.get(number, f"errno {number}")
    return str(value)


def call(name: str, *arguments: object) -> str:
    """Call a function of the C library."""
    ctypes.set_errno(0)
    return result(getattr(libc, name)(*arguments))


def syscall(name: str, *arguments: int) -> str:
    """Make a system call."""
    ctypes.set_errno(0)
    return result(libc.syscall(SYSCALLS[name], *map(ctypes.c_long, arguments)))


def prctl(option: int, *arguments: int) -> str:
    """Make the call, with zeros for missing arguments."""
    return syscall("prctl", option, *arguments, *(0,) * (4 - len(arguments)))


def map_anonymous(size: int, flags: int = 0, protection: int = PROT_READ | PROT_WRITE) -> int:
    """Map private anonymous memory and return its address."""
    address = libc.mmap(None, size, protection, MAP_PRIVATE | MAP_ANONYMOUS | flags, -1, 0)
    if address in (None, MAP_FAILED):
        raise MemoryError(result(-1))
    return int(address)


def pointer(name: str) -> int:
    """Return the value of a pointer variable of the C library."""
    return ctypes.c_void_p.in_dll(libc, name).value or 0


def text(name: str) -> bytes | None:
    """Return the text to which a variable of the C library points."""
    return ctypes.c_char_p.in_dll(libc, name).value
