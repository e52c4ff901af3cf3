"""All files of /proc/self, found by listing the directory."""

import ctypes
import hashlib
import os
import re

from inventory import native
from inventory.lines import Lines, in_child
from inventory.mappings import role_of

# Files that do not report a state, or that are reported elsewhere.
_LEFT_OUT = {
    "clear_refs": "is only written to",
    "map_files": "has the addresses of mappings",
    "maps": "is in smaps",
    "mem": "is the memory",
    "net": "is of the network namespace",
    "numa_maps": "is reported with the mappings",
    "pagemap": "has physical addresses",
    "smaps": "is reported with the mappings",
    "smaps_rollup": "is the sum of smaps",
}
# Amounts of memory, processor time, and input and output that a process has used so far.
_USED = {
    "io": r".*",
    "schedstat": r".*",
    "statm": r".*",
    "ksm_stat": r"ksm_process_profit.*",
    "oom_score": r".*",
    "sched": r"(se\.|nr_|mm->|numa_|clock|avg_|sum_|dl\.|total_numa|current_node|core\.).*",
    "status": r"Vm(Peak|Size|HWM|RSS|Data|Lib|PTE)|Rss\w+|(non)?voluntary_ctxt_switches|SigQ",
    "stat": r"(c?min|c?maj)flt|c?[us]time|starttime|vsize|rss|processor|kstkesp|kstkeip"
    r"|delayacct_blkio_ticks",
}
_STAT = """
pid comm state ppid pgrp session tty_nr tpgid flags minflt cminflt majflt cmajflt utime
stime cutime cstime priority nice num_threads itrealvalue starttime vsize rss rsslim
startcode endcode startstack kstkesp kstkeip signal blocked sigignore sigcatch wchan nswap
cnswap exit_signal processor rt_priority policy delayacct_blkio_ticks guest_time cguest_time
start_data end_data start_brk arg_start arg_end env_start env_end exit_code
""".split()
_ADDRESSES = {
    "startcode",
    "endcode",
    "startstack",
    "start_data",
    "end_data",
    "start_brk",
    "arg_start",
    "arg_end",
    "env_start",
    "env_end",
}
# Values of the auxiliary vector that are addresses.
_AUXILIARY_ADDRESSES = {3, 7, 9, 15, 24, 25, 31, 33}


def report(lines: Lines) -> None:
    """Report the content of each file and directory."""
    for name in sorted(os.listdir("/proc/self")):
        if name in _LEFT_OUT:
            lines.add(name, f"left out: {_LEFT_OUT[name]}")
            continue
        lines.add(name, "is there")
        _report_path(lines, f"/proc/self/{name}", name)
    _report_thread(lines)


def _report_path(lines: Lines, path: str, name: str) -> None:
    if os.path.islink(path):
        lines.ask(f"{name} link", lambda: os.readlink(path))
    elif os.path.isdir(path):
        for entry in sorted(os.listdir(path)):
            if name != "task":
                _report_path(lines, f"{path}/{entry}", f"{name}/{entry}")
    else:
        _report_file(lines, path, name)


def _report_file(lines: Lines, path: str, name: str) -> None:
    try:
        with open(path, "rb") as file:
            data = file.read(1 << 20)
    except OSError as error:
        lines.add(f"{name} cannot be read", type(error).__name__)
        return
    special = _SPECIAL.get(name)
    facts = special(data) if special else _facts(data.decode(errors="surrogateescape"))
    used = _USED.get(name)
    for key, value in facts:
        if not (used and re.fullmatch(used, key)):
            lines.add(f"{name} {key}", value)


def _facts(text: str) -> list[tuple[str, str]]:
    """Return `name: value` by name, other lines by their number, and many lines as a digest."""
    text_lines = text.splitlines()
    if len(text_lines) > 70:
        return [("digest", hashlib.sha256(text.encode(errors="surrogateescape")).hexdigest())]
    facts: dict[str, str] = {}
    for number, line in enumerate(text_lines):
        named = re.match(r"([\w.>-][\w .>()-]*?)\s*:\s*(.*)", line)
        key = named[1] if named and named[1] not in facts else f"line {number}"
        facts[key] = named[2] if named and key == named[1] else line
    return list(facts.items())


def _digest_only(data: bytes) -> list[tuple[str, str]]:
    return [("digest", hashlib.sha256(data).hexdigest())]


def _limits(data: bytes) -> list[tuple[str, str]]:
    rows = data.decode().splitlines()[1:]
    return [(row[:25].strip(), row[25:].strip()) for row in rows]


def _stat(data: bytes) -> list[tuple[str, str]]:
    before, _, after = data.decode().rpartition(")")
    pid, _, comm = before.partition(" (")
    values = [pid, comm, *after.split()]
    facts = []
    for name, value in zip(_STAT, values):
        facts.append((name, role_of(int(value)) if name in _ADDRESSES else value))
    facts += [(f"field {n}", value) for n, value in enumerate(values) if n >= len(_STAT)]
    number = dict(zip(_STAT, values))
    for begin, end in (("arg_start", "arg_end"), ("env_start", "env_end")):
        facts.append((f"{end} - {begin}", str(int(number[end]) - int(number[begin]))))
    facts.append(("env_start - arg_end", str(int(number["env_start"]) - int(number["arg_end"]))))
    return facts


def auxiliary_vector(data: bytes) -> dict[int, int]:
    """Return the values of the auxiliary vector by type."""
    words = memoryview(data).cast("Q")
    return {words[i]: words[i + 1] for i in range(0, len(words) - 1, 2) if words[i]}


def _auxv(data: bytes) -> list[tuple[str, str]]:
    values = auxiliary_vector(data)
    facts = []
    for kind, value in values.items():
        is_address = kind in _AUXILIARY_ADDRESSES
        facts.append((f"type {kind}", role_of(value) if is_address else str(value)))
        facts.append((f"type {kind} is getauxval()", str(native.libc.getauxval(kind) == value)))
    for kind in (15, 24, 31):
        if kind in values:
            # If nothing is mapped at the address, the process that reads it is killed.
            facts.append((f"text of {kind}", in_child(lambda: ctypes.string_at(values[kind]))))
    facts.append(("order", str(list(values))))
    return facts


def _environ(data: bytes) -> list[tuple[str, str]]:
    return [("length", str(len(data))), ("text", repr(data))]


def _syscall(data: bytes) -> list[tuple[str, str]]:
    return [("text", data.split()[0].decode())]


_SPECIAL = {
    "auxv": _auxv,
    "environ": _environ,
    "cmdline": _environ,
    "limits": _limits,
    "mountinfo": _digest_only,
    "mounts": _digest_only,
    "mountstats": _digest_only,
    "stat": _stat,
    "syscall": _syscall,
}


def _report_thread(lines: Lines) -> None:
    """Report the files of a thread that a process does not have."""
    threads = os.listdir("/proc/self/task")
    lines.add("threads", len(threads))
    lines.add("the thread is the process", str(os.getpid()) in threads)
    directory = f"/proc/self/task/{os.getpid()}"
    of_process = set(os.listdir("/proc/self"))
    for name in sorted(set(os.listdir(directory)) - of_process):
        _report_path(lines, f"{directory}/{name}", f"thread's {name}")
    for name in sorted(of_process - set(os.listdir(directory))):
        lines.add(f"thread has no {name}", True)
