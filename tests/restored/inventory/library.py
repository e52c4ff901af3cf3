"""The state of modules of the standard library, which are imported here if they are not loaded."""

import asyncio
import atexit
import codecs
import contextvars
import ctypes
import decimal
import faulthandler
import locale
import logging
import mimetypes
import multiprocessing
import os
import platform
import random
import signal
import socket
import ssl
import sys
import tempfile
import time
import tracemalloc
import uuid
import warnings

from inventory import native
from inventory.lines import Lines


def report(lines: Lines) -> None:
    """Report the state of each module that keeps state."""
    _report_locale(lines)
    _report_time(lines)
    _report_warnings(lines)
    lines.add("atexit", atexit._ncallbacks())
    lines.add("context variables", [variable.name for variable in contextvars.copy_context()])
    lines.add("asyncio policy", type(asyncio.get_event_loop_policy()).__qualname__)
    lines.add("asyncio loop", asyncio._get_running_loop())
    lines.add("decimal context", decimal.getcontext())
    lines.add("faulthandler", faulthandler.is_enabled())
    lines.add("tracemalloc", tracemalloc.is_tracing())
    lines.add("socket timeout", socket.getdefaulttimeout())
    lines.add(
        "logging",
        [
            logging.root.level,
            logging.root.handlers,
            logging.lastResort,
            logging.root.manager.disable,
        ],
    )
    lines.add(
        "multiprocessing",
        [multiprocessing.get_start_method(), multiprocessing.current_process().name],
    )
    lines.add("multiprocessing's parent", multiprocessing.parent_process())
    lines.add("multiprocessing's directory", vars(multiprocessing.process)["ORIGINAL_DIR"])
    lines.add("temporary directory", tempfile.gettempdir())
    lines.add("platform", [platform.node(), platform.platform(), platform.python_build()])
    lines.add("TLS paths", ssl.get_default_verify_paths())
    lines.add("types of files", len(mimetypes.types_map))
    for name in (
        "strict",
        "ignore",
        "replace",
        "surrogateescape",
        "surrogatepass",
        "backslashreplace",
        "namereplace",
    ):
        lines.ask(f"error handler {name}", lambda: codecs.lookup_error(name).__name__)
    for name in ("utf-8", "ascii", "latin-1", "idna", "cp1252"):
        lines.ask(f"codec {name}", lambda: codecs.lookup(name).name)
    lines.add("wake-up descriptor", signal.set_wakeup_fd(-1))
    for name in ("cpu_count", "process_cpu_count", "get_exec_path"):
        lines.ask(f"os.{name}", getattr(os, name))
    for name in sorted(os.sysconf_names):
        if "PHYS_PAGES" not in name:
            lines.ask(f"sysconf {name}", lambda: os.sysconf(name))
    for number in range(3):
        lines.ask(f"terminal size of {number}", lambda: os.get_terminal_size(number))


def _report_locale(lines: Lines) -> None:
    libc = native.libc
    libc.setlocale.restype = ctypes.c_char_p
    for name in sorted(name for name in dir(locale) if name.startswith("LC_")):
        category = getattr(locale, name)
        lines.ask(f"locale {name}", lambda: locale.setlocale(category))
        lines.ask(f"locale {name} in C", lambda: libc.setlocale(category, None))
    lines.add("localeconv", locale.localeconv())
    lines.add("encoding", [locale.getencoding(), locale.getpreferredencoding(), locale.getlocale()])
    for name in (
        "CODESET",
        "D_T_FMT",
        "D_FMT",
        "RADIXCHAR",
        "THOUSEP",
        "YESEXPR",
        "CRNCYSTR",
        "DAY_1",
        "MON_1",
    ):
        lines.ask(f"nl_langinfo {name}", lambda: locale.nl_langinfo(getattr(locale, name)))


def _report_time(lines: Lines) -> None:
    lines.add("time zone", [time.tzname, time.timezone, time.altzone, time.daylight])
    names = (ctypes.c_char_p * 2).in_dll(native.libc, "tzname")
    lines.add("time zone in C", list(names))
    lines.add("local time", time.localtime(0))
    for clock in ("time", "monotonic", "perf_counter", "process_time", "thread_time"):
        lines.add(f"clock {clock}", time.get_clock_info(clock))
        ask = getattr(time, clock)
        lines.add(f"clock {clock} goes on", ask() <= ask())
    lines.add("process's time is little", time.process_time() < 60)
    # The clock must agree with the time that the kernel gives to /proc/self.
    lines.add("today", abs(time.time() - os.stat("/proc/self").st_mtime) < 60)


def _report_warnings(lines: Lines) -> None:
    for number, one in enumerate(warnings.filters):
        lines.add(f"warning filter {number}", one)
    lines.add("default action of warnings", warnings.defaultaction)  # type: ignore[attr-defined]
    lines.add("once registry", warnings.onceregistry)  # type: ignore[attr-defined]


def report_fresh(lines: Lines) -> None:
    """Report values that must differ in each process."""
    lines.add("random", random.random())
    lines.add("random.Random()", random.Random().random())
    lines.add("SystemRandom", random.SystemRandom().random())
    lines.add("urandom", os.urandom(8).hex())
    lines.add("uuid1", uuid.uuid1())
    lines.add("uuid4", uuid.uuid4())
    lines.add("ssl", ssl.RAND_bytes(8).hex())
    lines.add("multiprocessing's key", bytes(multiprocessing.current_process().authkey).hex())
    lines.add("temporary name", next(tempfile._get_candidate_names()))  # type: ignore[attr-defined]
    getrandom = ctypes.create_string_buffer(8)
    native.libc.getrandom(getrandom, 8, 0)
    lines.add("getrandom", getrandom.raw.hex())
    lines.add("time in nanoseconds", time.time_ns())
    lines.add("hash of a text", hash("text"))
    # The 16 random bytes that the kernel gives to each process.
    given = native.libc.getauxval(25)
    lines.add("AT_RANDOM", ctypes.string_at(given, 16).hex())
    canary = ctypes.c_uint64.from_address(native.libc.pthread_self() + 0x28).value
    lines.add("stack canary", f"{canary:x}")
    guard = ctypes.c_uint64.from_address(native.libc.pthread_self() + 0x30).value
    lines.add("pointer guard", f"{guard:x}")


def report_places(lines: Lines) -> None:
    """Report addresses, which are random in each process."""
    libc = native.libc
    # The other sections do not show addresses.
    for name, address in {
        "the C library": ctypes.cast(libc.getpid, ctypes.c_void_p).value or 0,
        "the stack": native.pointer("__libc_stack_end"),
        "the heap": libc.sbrk(0),
        "small objects": id(object()),
        "the vdso": libc.getauxval(33),
        "new mappings": native.map_anonymous(1 << 22),
        "the thread's own variables": libc.pthread_self(),
    }.items():
        lines.add(name, str(address >> 12))
    lines.add("the program", str(id(None) >> 12))
    lines.add("the number of modules is", len(sys.modules) > 10)
