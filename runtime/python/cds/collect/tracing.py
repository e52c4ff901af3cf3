"""Finding out what a program, or an import, loads: by running it in a child process."""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from cds import interpreter
from cds.collect import tracelist
from cds.collect.tracelist import Entry

# Names come by standard input, and what went wrong goes to the descriptor that is given:
# modules may print what they like.
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


@dataclass(frozen=True, slots=True)
class Trace:
    """What was loaded, and how the run ended: minus a signal's number if it was killed."""

    entries: list[Entry]
    status: int


@dataclass(frozen=True, slots=True)
class Imports:
    """What was loaded, and the modules whose import failed, with the reasons."""

    entries: list[Entry]
    failures: list[tuple[str, str]]


def trace_program(arguments: Sequence[str]) -> Trace:
    """Run the interpreter with these arguments, as a person would, and record what it loads."""
    with tempfile.TemporaryDirectory(prefix="cds-trace-") as directory:
        listing = os.path.join(directory, "trace.lst")
        status = subprocess.run([*_command(listing), *arguments], check=False).returncode
        return Trace(_read(listing), status)


def trace_imports(names: Iterable[str], path: Sequence[str]) -> Imports:
    """Import modules, found along `path` first, and record what that loads."""
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
                # What modules print is not this command's output.
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
        # It did not even start.
        return []
