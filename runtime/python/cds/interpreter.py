"""Starting this interpreter again, with the options on which it depends whether an archive fits."""

import os
import shlex
import sys
from collections.abc import Iterator, Sequence

from cds.image.variables import of_texts

# The header of an archive is not to grow.
_MOST_CHARACTERS = 4096

_OURS = (b"PYTHON_CDS", b"PYCDS")


def options() -> Iterator[str]:
    """Yield those options of this process."""
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

    The next one will be started with these, whatever the program has made of them here.
    """
    try:
        with open("/proc/self/environ", "rb") as file:
            found = of_texts(file.read().split(b"\0"))
    except OSError:
        found = dict(os.environb)
    return {name: value for name, value in found.items() if is_inherited(name)}


def is_inherited(name: bytes) -> bool:
    """Say whether a variable is no setting for archives."""
    return not name.startswith(_OURS)


def command_here(words: Sequence[str], directory: str) -> str:
    """Return what a shell runs as this command in a directory, or in any if it has no name."""
    command = shlex.join(words)
    return f"cd {shlex.quote(directory)} && {command}" if directory else command


def own_command() -> str:
    """Return what a shell runs as the command of this process, or nothing if that is not known."""
    try:
        return command_here(sys.orig_argv, os.getcwd())
    except OSError:
        return ""


def kept_command(command: str) -> str:
    """Return a command if it can be kept in a line of text, and nothing otherwise."""
    is_line = len(command) <= _MOST_CHARACTERS and command.isprintable()
    return command if is_line else ""
