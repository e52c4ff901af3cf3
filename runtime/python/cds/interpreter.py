"""Starting this interpreter again, with the options that decide whether an archive fits."""

import os
import shlex
import sys
from collections.abc import Iterator, Sequence

from cds.image.variables import of_texts

# Limits the size of the archive's header, which contains the command.
_MOST_CHARACTERS = 4096

_OURS = (b"PYTHON_CDS", b"PYCDS")


def options() -> Iterator[str]:
    """Yield the options of this process that decide whether an archive fits."""
    flags = sys.flags
    if flags.optimize:
        yield "-" + "O" * flags.optimize
    for option, is_set in (
        ("-I", flags.isolated),
        ("-E", flags.ignore_environment),
        ("-s", flags.no_user_site),
        ("-S", flags.no_site),
    ):
        if is_set:
            yield option
    for name in ("pycache_prefix", "no_debug_ranges", "frozen_modules"):
        value = sys._xoptions.get(name)
        if value is not None:
            yield f"-X{name}" if value is True else f"-X{name}={value}"


def environment() -> dict[bytes, bytes]:
    """Return the variables that this process was started with, without settings for archives.

    Another process that is started later gets the same variables.  Changes that the program has
    made in this process do not matter for it.
    """
    try:
        with open("/proc/self/environ", "rb") as file:
            found = of_texts(file.read().split(b"\0"))
    except OSError:
        found = dict(os.environb)
    return {name: value for name, value in found.items() if is_inherited(name)}


def is_inherited(name: bytes) -> bool:
    """Return whether a variable is not a setting for archives."""
    return not name.startswith(_OURS)


def command_here(words: Sequence[str], directory: str) -> str:
    """Return a shell command that runs these words in a directory, or anywhere if it is empty."""
    command = shlex.join(words)
    return f"cd {shlex.quote(directory)} && {command}" if directory else command


def interpreter_in(command: str) -> str | None:
    """Return the path of the interpreter in such a command; None if it cannot be read."""
    try:
        words = shlex.split(command)
    except ValueError:
        return None
    program = words[3:] if words[:1] == ["cd"] else words
    return program[0] if program else None


def own_command() -> str:
    """Return a shell command that runs this process again; empty if that is not known."""
    try:
        return command_here(sys.orig_argv, os.getcwd())
    except OSError:
        return ""


def kept_command(command: str) -> str:
    """Return the command if it fits into a line of text, and an empty string otherwise."""
    is_line = len(command) <= _MOST_CHARACTERS and command.isprintable()
    return command if is_line else ""
