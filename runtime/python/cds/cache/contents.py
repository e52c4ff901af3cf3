"""What the cache has for a program."""

import collections
import os
import shlex
import signal
import struct
from typing import Any, NamedTuple

from cds.cache import OPTION
from cds.cache.limits import Usage
from cds.image.imaging import image_path
from cds.inspection.archive import InspectionError, ask
from cds.inspection.image import brief

_NUMBER = struct.Struct("<Q")
# So many starts are awaited for each program that has an image.
_SOON = 2
_MOST_BYTES_OF_USES = 4096
_MOST_BYTES_OF_CRASH = 8


class Variant(NamedTuple):
    """An archive, with an image or the reason why there is none."""

    number: int
    archive: str
    image: str | None
    reason: str | None
    # How often a process was restored from an image of this variant.
    uses: int
    # The contents of the image (`cds.inspection.image.inspect_image`); empty if there is none.
    found: dict[str, Any]


class Program(NamedTuple):
    """The entry of a program, or of base images."""

    entry: str
    # As on the command line; None if there is no archive yet, and for base images.
    command: str | None
    is_base: bool
    bytes: int
    # The time of the last use, in seconds since the epoch.
    used: float
    variants: list[Variant]
    # The signal by which a restored process died; then there will be no image any more.
    crashed: str | None
    # The starts without an image after which the next image is taken.
    awaited: int


def program_in(usage: Usage) -> Program:
    """Read an entry."""
    from _cds_archive import awaited_starts

    variants = []
    command = None
    uses = _uses(usage.entry)
    for name in sorted(os.listdir(usage.entry)):
        number, suffix = os.path.splitext(name)
        if suffix == ".cds" and number.isdecimal():
            archive = os.path.join(usage.entry, name)
            variants.append(_variant(int(number), archive, uses[int(number)]))
            command = command or _command(archive)
    is_base = command == ""
    crashed = _crash(usage.entry)
    return Program(
        usage.entry,
        command or None,
        is_base,
        usage.bytes,
        usage.used,
        variants,
        crashed,
        awaited_starts(os.fsencode(usage.entry)),
    )


def of_pace(program: Program) -> str | None:
    """Return why the next image of a program is not taken soon."""
    if program.awaited <= _SOON:
        return None
    starts = f"{program.awaited} starts without an image"
    return f"its images were rarely used: the next one is taken after {starts}"


def _crash(entry: str) -> str | None:
    """Return the name of the signal by which a restored process died (restored/crash.rs)."""
    try:
        with open(os.path.join(entry, "crashed"), "rb") as file:
            return signal.Signals(int(file.read(_MOST_BYTES_OF_CRASH))).name
    except FileNotFoundError:
        return None
    except (OSError, ValueError):
        return "a signal"


def _uses(entry: str) -> "collections.Counter[int]":
    """Return how often an image of each variant was restored (startup-image/src/uses.rs)."""
    try:
        with open(os.path.join(entry, "uses"), "rb") as file:
            numbers = file.read(_MOST_BYTES_OF_USES)
    except OSError:
        numbers = b""
    whole = len(numbers) // _NUMBER.size * _NUMBER.size
    return collections.Counter(
        {number: uses for number, (uses,) in enumerate(_NUMBER.iter_unpack(numbers[:whole]))}
    )


def after_crash(name: str) -> str:
    """Return why the images of a program are not used after a crash, and what to do."""
    return (
        f"a restored process died of {name}, so the program gets no image any more; "
        "to try again: python -m cds clear"
    )


def _variant(number: int, archive: str, uses: int) -> Variant:
    image = image_path(archive)
    found = brief(image) or {"note": "none was taken yet"}
    reason = found.get("note") or found.get("error")
    if reason is not None:
        return Variant(number, archive, None, reason.strip(), uses, {})
    return Variant(number, archive, image, None, uses, found)


def _command(archive: str) -> str | None:
    """Return the end of the command that renews an archive: the program, and its directory.

    It is empty for base images.
    """
    try:
        words = shlex.split(ask("command_of", archive))
    except (InspectionError, ValueError):
        return None
    if OPTION not in words:
        return None
    program = shlex.join(words[words.index(OPTION) + 1 :])
    if not program:
        return ""
    return f"{program} in {words[1]}" if words[:1] == ["cd"] else program
