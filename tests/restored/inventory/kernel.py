"""The state that the kernel keeps for a process, and that system calls return."""

import ctypes
import fcntl
import os
import resource
import signal
import struct

from inventory import native
from inventory.lines import Lines
from inventory.mappings import role_of
from inventory.native import prctl, syscall

_INT, _LONG = 4, 8
# Options that return a value, and the number of bytes that they write, if any.
_ASKING = {
    2: ("PDEATHSIG", _INT),
    3: ("DUMPABLE", 0),
    5: ("UNALIGN", _INT),
    7: ("KEEPCAPS", 0),
    9: ("FPEMU", _INT),
    11: ("FPEXC", _INT),
    13: ("TIMING", 0),
    16: ("NAME", 16),
    19: ("ENDIAN", _INT),
    21: ("SECCOMP", 0),
    25: ("TSC", _INT),
    27: ("SECUREBITS", 0),
    30: ("TIMERSLACK", 0),
    34: ("MCE_KILL", 0),
    37: ("CHILD_SUBREAPER", _INT),
    39: ("NO_NEW_PRIVS", 0),
    42: ("THP_DISABLE", 0),
    46: ("FP_MODE", 0),
    51: ("SVE_VL", 0),
    56: ("TAGGED_ADDR_CTRL", 0),
    58: ("IO_FLUSHER", 0),
    64: ("SME_VL", 0),
    66: ("MDWE", 0),
    68: ("MEMORY_MERGE", 0),
    70: ("RISCV_V", 0),
    74: ("SHADOW_STACK_STATUS", _LONG),
    80: ("CFI", _LONG),
}
# Options that return a value for each of several things, which the second argument names.
_ASKING_FOR_EACH = {
    23: ("CAPBSET", range(64)),
    52: ("SPECULATION_CTRL", range(8)),
    72: ("PPC_DEXCR", range(8)),
}
_TID_ADDRESS = 40
# Options that change something, with arguments for which the report must be equal.
_CHANGING = {
    1, 4, 6, 8, 10, 12, 14, 15, 20, 22, 24, 26, 28, 29, 31, 32, 33, 35, 36, 38, 41, 43, 44, 45,
    47, 50, 53, 54, 55, 57, 59, 60, 61, 62, 63, 65, 67, 69, 71, 73, 75, 76,
}  # fmt: skip
_OPTIONS = range(1, 101)


def report(lines: Lines) -> None:
    """Report the results of all calls."""
    for part in (
        _report_prctl,
        _report_arch_prctl,
        _report_scheduling,
        _report_limits,
        _report_identity,
        _report_thread,
        _report_signals,
        _report_files,
        _report_memory_policy,
        _report_times,
        _report_processor,
    ):
        part(lines)


def _written(call: "object", size: int) -> str:
    buffer = ctypes.create_string_buffer(64)
    answer = call(ctypes.addressof(buffer))  # type: ignore[operator]
    return f"{answer} {buffer.raw[:size].hex()}"


def _report_prctl(lines: Lines) -> None:
    for option in _OPTIONS:
        if option in _ASKING:
            name, size = _ASKING[option]
            key = f"prctl {option} {name}"
            lines.add(key, _written(lambda at: prctl(option, at), size) if size else prctl(option))
        elif option in _ASKING_FOR_EACH:
            name, numbers = _ASKING_FOR_EACH[option]
            lines.add(f"prctl {option} {name}", [prctl(option, number) for number in numbers])
        elif option != _TID_ADDRESS and option not in _CHANGING:
            # The effect of the option is not known, so only a child process uses it.
            lines.ask_in_child(f"prctl {option} unknown", lambda: prctl(option))
            lines.ask_in_child(
                f"prctl {option} unknown, asked to write",
                lambda: _written(lambda at: prctl(option, at), 16),
            )
    pointer = ctypes.c_uint64()
    answer = prctl(_TID_ADDRESS, ctypes.addressof(pointer))
    offset = pointer.value - native.libc.pthread_self() if answer == "0" else None
    lines.add("prctl 40 TID_ADDRESS, from pthread_self()", f"{answer} {offset}")
    lines.add("prctl PR_CAP_AMBIENT", [prctl(47, 1, number) for number in range(41)])


def _report_arch_prctl(lines: Lines) -> None:
    value = ctypes.c_uint64()

    def ask(code: int) -> str:
        value.value = 0
        return f"{syscall('arch_prctl', code, ctypes.addressof(value))} {value.value}"

    ask(0x1003)
    lines.add("FS is pthread_self()", value.value == native.libc.pthread_self())
    for name, code in {
        "GS": 0x1004,
        "XCOMP_SUPP": 0x1021,
        "XCOMP_PERM": 0x1022,
        "XCOMP_GUEST_PERM": 0x1024,
        "UNTAG_MASK": 0x4001,
        "MAX_TAG_BITS": 0x4003,
        "SHSTK_STATUS": 0x5005,
    }.items():
        lines.add(f"arch_prctl {name}", ask(code))
    lines.add("arch_prctl CPUID", syscall("arch_prctl", 0x1011, 0))


def _report_scheduling(lines: Lines) -> None:
    buffer = ctypes.create_string_buffer(256)
    answer = syscall("sched_getattr", 0, ctypes.addressof(buffer), 256, 0)
    size = struct.unpack_from("I", buffer)[0]
    lines.add("sched_getattr", f"{answer} {buffer.raw[:size].hex()}")
    lines.ask("scheduler", lambda: (os.sched_getscheduler(0), os.sched_getparam(0).sched_priority))
    lines.ask("affinity", lambda: sorted(os.sched_getaffinity(0)))
    lines.ask("round robin", lambda: os.sched_rr_get_interval(0))
    for name in ("PRIO_PROCESS", "PRIO_PGRP", "PRIO_USER"):
        lines.ask(name, lambda: os.getpriority(getattr(os, name), 0))
    for who in (1, 2, 3):
        lines.add(f"ioprio_get {who}", syscall("ioprio_get", who, 0))


def _report_limits(lines: Lines) -> None:
    for name in dir(resource):
        if name.startswith("RLIMIT_"):
            lines.ask(name, lambda: resource.getrlimit(getattr(resource, name)))


def _report_identity(lines: Lines) -> None:
    for (
        name
    ) in "getresuid getresgid getgroups getpgrp getppid getlogin getcwd ctermid uname".split():
        lines.ask(name, getattr(os, name))
    lines.ask("session", lambda: os.getsid(0))
    lines.add("fsuid", native.call("setfsuid", -1))
    lines.add("fsgid", native.call("setfsgid", -1))
    lines.add("process id is thread id", os.getpid() == native.libc.gettid())
    lines.add("process id in the C library", native.libc.getpid() == os.getpid())
    lines.add("personality", syscall("personality", 0xFFFFFFFF))
    mask = os.umask(0o77)
    os.umask(mask)
    lines.add("umask", oct(mask))
    lines.add("session keyring", syscall("keyctl", 0, -3, 0))
    lines.add("process keyring", syscall("keyctl", 0, -2, 0))


def _report_thread(lines: Lines) -> None:
    libc = native.libc
    me = libc.pthread_self()
    head, length = ctypes.c_uint64(), ctypes.c_uint64()
    answer = syscall("get_robust_list", 0, ctypes.addressof(head), ctypes.addressof(length))
    lines.add("robust list, from pthread_self()", f"{answer} {head.value - me} {length.value}")
    # The address of another area: the kernel refuses it if an area is registered.
    area = ctypes.create_string_buffer(128)
    aligned = (ctypes.addressof(area) + 63) & ~63
    lines.ask_in_child("rseq, another area", lambda: syscall("rseq", aligned, 32, 0, 0x53053053))
    offset = ctypes.c_ssize_t.in_dll(libc, "__rseq_offset").value
    lines.add("rseq offset", offset)
    for name in ("__rseq_size", "__rseq_flags"):
        lines.add(name, ctypes.c_uint.in_dll(libc, name).value)
    in_use = ctypes.c_int.from_address(me + offset + 4).value
    lines.add("rseq knows the processor", in_use >= 0)
    stack = ctypes.create_string_buffer(24)
    answer = syscall("sigaltstack", 0, ctypes.addressof(stack))
    lines.add("sigaltstack", f"{answer} {stack.raw.hex()}")
    attributes = ctypes.create_string_buffer(64)
    libc.pthread_getattr_np(ctypes.c_void_p(me), attributes)
    address, size = ctypes.c_uint64(), ctypes.c_uint64()
    libc.pthread_attr_getstack(attributes, ctypes.byref(address), ctypes.byref(size))
    lines.add("stack's end", role_of(address.value + size.value - 1))
    # The stack begins at a page boundary, where the auxiliary vector ends.
    lines.add("stack's size in MB", round(size.value / (1 << 20)))
    guard = ctypes.c_uint64()
    libc.pthread_attr_getguardsize(attributes, ctypes.byref(guard))
    lines.add("stack's guard", guard.value)
    libc.pthread_getattr_default_np(attributes)
    libc.pthread_attr_getstacksize(attributes, ctypes.byref(size))
    lines.add("stack of new threads", size.value)


def _report_signals(lines: Lines) -> None:
    for number in range(1, 65):
        action = ctypes.create_string_buffer(32)
        answer = syscall("rt_sigaction", number, 0, ctypes.addressof(action), 8)
        handler, flags, restorer, mask = struct.unpack("QQQQ", action.raw)
        place = handler if handler < 2 else role_of(handler)
        where = role_of(restorer)
        lines.add(f"signal {number:2}", f"{answer} {place} {flags:#x} {where} {mask:016x}")
        lines.ask(f"signal {number:2} in Python", lambda: signal.getsignal(number))
    lines.add("blocked", sorted(signal.pthread_sigmask(signal.SIG_BLOCK, [])))
    lines.add("pending", sorted(signal.sigpending()))
    for name in ("ITIMER_REAL", "ITIMER_VIRTUAL", "ITIMER_PROF"):
        lines.add(name, signal.getitimer(getattr(signal, name)))
    lines.add("wake-up descriptor", signal.set_wakeup_fd(-1))


def _report_files(lines: Lines) -> None:
    for number in range(64):
        try:
            status = os.fstat(number)
        except OSError:
            continue
        key = f"descriptor {number:2}"
        lines.add(f"{key} mode", oct(status.st_mode))
        for name in ("F_GETFD", "F_GETFL", "F_GETOWN", "F_GETSIG", "F_GETLEASE", "F_GETPIPE_SZ"):
            lines.ask(f"{key} {name}", lambda: fcntl.fcntl(number, getattr(fcntl, name)))
        lines.ask(f"{key} position", lambda: os.lseek(number, 0, os.SEEK_CUR))
        lines.add(f"{key} inherited", os.get_inheritable(number))
    lowest = os.dup(0) if _is_open(0) else os.open("/dev/null", os.O_RDONLY)
    os.close(lowest)
    lines.add("next descriptor", lowest)


def _is_open(number: int) -> bool:
    try:
        os.fstat(number)
    except OSError:
        return False
    return True


def _report_memory_policy(lines: Lines) -> None:
    mode, nodes = ctypes.c_int(-1), (ctypes.c_uint64 * 32)()
    answer = syscall("get_mempolicy", ctypes.addressof(mode), ctypes.addressof(nodes), 1024, 0, 0)
    lines.add("memory policy", f"{answer} {mode.value} {list(nodes)[:1]}")
    lines.add("membarrier commands", syscall("membarrier", 0, 0, 0))
    for name, command in {
        "private": 8,
        "private sync core": 32,
        "private rseq": 128,
        "global expedited": 2,
    }.items():
        lines.add(f"membarrier {name}", syscall("membarrier", command, 0, 0))
    lines.ask_in_child("first protection key", lambda: syscall("pkey_alloc", 0, 0))


def _report_times(lines: Lines) -> None:
    for who in ("RUSAGE_SELF", "RUSAGE_CHILDREN", "RUSAGE_THREAD"):
        usage = resource.getrusage(getattr(resource, who))
        for field in (name for name in dir(usage) if name.startswith("ru_")):
            # The amounts differ between runs, but amounts of zero stay zero.
            if field not in (
                "ru_majflt",
                "ru_inblock",
                "ru_oublock",
                "ru_nvcsw",
                "ru_nivcsw",
                "ru_stime",
                "ru_utime",
            ):
                lines.add(f"{who} {field} is positive", getattr(usage, field) > 0)
    with open("/proc/self/stat", encoding="utf-8", errors="surrogateescape") as file:
        ticks = int(file.read().rpartition(")")[2].split()[19])
    with open("/proc/uptime", encoding="ascii") as file:
        uptime = float(file.read().split()[0])
    lines.add("started in this minute", -2 < uptime - ticks / os.sysconf("SC_CLK_TCK") < 60)


def _report_processor(lines: Lines) -> None:
    libm = ctypes.CDLL("libm.so.6")
    lines.add("rounding", libm.fegetround())
    lines.add("floating-point exceptions enabled", libm.fegetexcept())
    environment = ctypes.create_string_buffer(32)
    libm.fegetenv(environment)
    control, mxcsr = (
        struct.unpack_from("H", environment)[0],
        struct.unpack_from("I", environment, 28)[0],
    )
    # Without the results of earlier calculations.
    lines.add("x87 control word", hex(control))
    lines.add("mxcsr", hex(mxcsr & ~0x3F))
