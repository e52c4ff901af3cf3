"""Runs a program, or imports, in a child process, and records what they load."""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from cds import interpreter
from cds.collect import tracelist
from cds.collect.tracelist import Entry

# The names come from standard input.  Failures go to a file descriptor of their own, because
# modules may print anything to the standard streams.
_IMPORTER = """\
import importlib, json, os, sys
failures = int(sys.argv.pop())
sys.path[:0] = json.loads(sys.argv.pop())
names = sys.stdin.read().split()
sys.argv[:] = [""]
for name in names:
    try:
        importlib.import_module(name)
    except BaseException as error:
        reason = f"{type(error).__name__}: {error}".splitlines()[0]
        os.write(failures, f"{name} {reason}\\n".encode("utf-8", "replace"))
"""


class Trace(NamedTuple):
    """What was loaded, and the exit status: minus the number of the signal after a kill."""

    entries: list[Entry]
    status: int


class Imports(NamedTuple):
    """What was loaded, and the modules whose imports failed, with the reasons."""

    entries: list[Entry]
    failures: list[tuple[str, str]]


def trace_program(arguments: Sequence[str]) -> Trace:
    """Run the interpreter with these arguments, and record what it loads."""
    with tempfile.TemporaryDirectory(prefix="cds-trace-") as directory:
        listing = os.path.join(directory, "trace.lst")
        status = subprocess.run([*_command(listing), *arguments], check=False).returncode
        return Trace(_read(listing), status)


def trace_imports(names: Iterable[str], path: Sequence[str]) -> Imports:
    """Import modules, found along `path` first, and record what the imports load."""
    with tempfile.TemporaryDirectory(prefix="cds-trace-") as directory:
        listing = os.path.join(directory, "trace.lst")
        failures = os.path.join(directory, "failures")
        with open(failures, "wb") as told:
            descriptor = told.fileno()
            subprocess.run(
                [*_command(listing), "-c", _IMPORTER, json.dumps(list(path)), str(descriptor)],
                input="\n".join(names),
                text=True,
                pass_fds=[descriptor],
                # The output of modules must not mix with the output of this command.
                stdout=sys.stderr,
                check=False,
            )
        with open(failures, encoding="utf-8", errors="replace") as told:
            lines = [line.rstrip("\n").partition(" ") for line in told]
        return Imports(_read(listing), [(name, reason) for name, _, reason in lines])


def _command(listing: str) -> list[str]:
    return [sys.executable, *interpreter.options(), "-X", f"cds_trace={listing}"]


def _read(listing: str) -> list[Entry]:
    try:
        return tracelist.read(listing)
    except FileNotFoundError:
        # The interpreter has not started.
        return []
