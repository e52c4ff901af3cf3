"""`python -m cds explain`: show what the cache has for a program, and why."""

import argparse
import os
import sys
from collections.abc import Iterator, Sequence

from cds.cache import OPTION, contents, limits, setting
from cds.cache.place import obstacle, own_cache
from cds.cli import command_parser
from cds.inspection.image import screen
from cds.text.terminal import Style

_DESCRIPTION = """\
Show what the cache has for a program: its archives and images, what each image depends
on, or why there is none. If it has nothing, show the base images, from which such a
program begins. The program is not run.

PROGRAM is a script, -m MODULE or -c CODE, as after `python`; options of the interpreter
come before it. Run the command in the directory in which the program is started.
"""

_EPILOG = """\
examples:
  python -m cds explain app.py
  python -m cds explain -O -m http.server

exit status:
  0  the cache has an image for the program
  1  it has none
  2  wrong usage
"""

_SHOWN = 10


def run(arguments: Sequence[str]) -> int:
    """Run the command and return its exit status."""
    parser = command_parser("explain", _DESCRIPTION, _EPILOG, "%(prog)s [-h] PROGRAM ...")
    parser.add_argument("program", nargs=argparse.REMAINDER, metavar="PROGRAM")
    if list(arguments[:1]) in (["-h"], ["--help"]):
        parser.parse_args(arguments[:1])
    if not arguments:
        parser.error("name the PROGRAM: a script, -m MODULE or -c CODE")
    entries = _entries(arguments)
    for line in _settings():
        print(line)
    if entries is None:
        print("A process with this command line does not use the cache; see docs/cache.md.")
        return 1
    entry, base = entries
    if entry is None or not os.path.isdir(entry):
        print("The cache has nothing for this program: it was not started twice.")
        if os.path.isdir(base):
            for line in _variants(contents.program_in(limits.usage_of(base))):
                print(line)
        return 1
    program = contents.program_in(limits.usage_of(entry))
    for line in _variants(program):
        print(line)
    has_image = any(variant.image is not None for variant in program.variants)
    return 0 if has_image and program.crashed is None else 1


def _entries(program: Sequence[str]) -> tuple[str | None, str] | None:
    """Return the entries of the program and of base images; None if the cache is not used."""
    from _cds_archive import entries_of

    command = [sys.executable, "-X", OPTION, *program]
    found: tuple[str | None, str] | None = entries_of([*map(os.fsencode, command)])
    return found


def _settings() -> Iterator[str]:
    enabled_by = setting.find()
    if enabled_by is None:
        yield "The cache is off. `python -m cds enable --help` explains how to turn it on."
    else:
        yield f"The cache is on ({enabled_by})."
    directory = own_cache()
    if directory is not None and (reason := obstacle(directory)):
        yield f"It is not used: {reason}."


def _variants(program: contents.Program) -> Iterator[str]:
    style = Style(sys.stdout)
    if program.crashed is not None:
        yield contents.after_crash(program.crashed)
    if not program.variants:
        yield "Its second start was recorded; a background process will make the files."
    for variant in program.variants:
        yield ""
        if variant.image is None:
            yield style("bold", variant.archive)
            yield f"  no image: {variant.reason}"
        else:
            yield from screen(variant.image, variant.found, _SHOWN)
    if reason := contents.of_pace(program):
        yield ""
        yield reason.capitalize()
