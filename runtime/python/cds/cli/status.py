"""`python -m cds status`: show what is in the cache."""

import json
import os
import sys
import time
from collections.abc import Iterator, Sequence
from typing import Any

from cds.cache import contents, limits
from cds.cache.place import obstacle, own_cache
from cds.cache.setting import find
from cds.cli import command_parser
from cds.text.terminal import Style, count, size

_DESCRIPTION = """\
Show whether the cache is on, where it is, and the programs in it: when each was used
last, its size, its images, how often they were used, and why there is no image.  A
program has several images if it is started in different surroundings: with and without
a terminal, in another locale.  A program that was not started twice yet begins from a
base image: an interpreter that was frozen before its program.

The time of the last use is up to an hour old, for a program without an image up to a day.
"""

_EPILOG = """\
exit status:
  0  always, if the usage is right
  2  wrong usage
"""


def run(arguments: Sequence[str]) -> int:
    """Run the command and return its exit status."""
    parser = command_parser("status", _DESCRIPTION, _EPILOG)
    parser.add_argument("--json", action="store_true", help="report as JSON")
    options = parser.parse_args(arguments)
    cache = own_cache()
    usages = limits.usage(cache) if cache is not None else []
    programs = [contents.program_in(usage) for usage in reversed(usages)]
    used = sum(usage.bytes for usage in usages)
    limit = limits.limit(cache, used) if cache is not None and os.path.isdir(cache) else None
    if options.json:
        report = {
            "enabled_by": find(),
            "directory": cache,
            "obstacle": obstacle(cache) if cache is not None else "there is no place for it",
            "bytes": used,
            "limit_bytes": limit,
            "programs": [_as_json(program) for program in programs],
        }
        print(json.dumps(report, indent=2))
        return 0
    for line in _screen(cache, used, limit, programs):
        print(line)
    return 0


def _as_json(program: contents.Program) -> dict[str, Any]:
    return {
        "command": program.command,
        "is_base": program.is_base,
        "directory": program.entry,
        "crashed": program.crashed,
        "bytes": program.bytes,
        "last_used": program.used,
        "awaited_starts": program.awaited,
        "variants": [
            {
                "archive": variant.archive,
                "image": variant.image,
                "reason": variant.reason,
                "uses": variant.uses,
                "changed": variant.found.get("changed", []),
            }
            for variant in program.variants
        ],
    }


def _screen(
    cache: str | None, used: int, limit: int | None, programs: Sequence[contents.Program]
) -> Iterator[str]:
    style = Style(sys.stdout)
    enabled_by = find()
    if enabled_by is None:
        yield "The cache is off. `python -m cds enable --help` explains how to turn it on."
    else:
        yield f"The cache is on ({enabled_by})."
    if cache is None:
        yield "There is no place for it: HOME is not set."
        return
    if reason := obstacle(cache):
        yield f"It is not used: {reason}."
    most = f" of at most {size(limit)}" if limit is not None else ""
    number = sum(not program.is_base for program in programs)
    yield f"{cache}: {count(number, 'program')}, {size(used)}{most}"
    for program in programs:
        moment = time.strftime("%Y-%m-%d %H:%M", time.localtime(program.used))
        yield ""
        title = "base images, for programs without an archive" if program.is_base else None
        yield style("bold", title or program.command or os.path.basename(program.entry))
        yield f"  last used {moment}, {size(program.bytes)}"
        yield from (f"  {line}" for line in _variants(program))


def _variants(program: contents.Program) -> Iterator[str]:
    if program.crashed is not None:
        yield contents.after_crash(program.crashed)
        return
    if not program.variants:
        yield "recorded; a background process will make the files"
    for variant in program.variants:
        if variant.image is not None:
            changed = variant.found["changed"]
            outdated = f"; out of date, because {changed[0]} has changed" if changed else ""
            stored = size(variant.found["stored_bytes"])
            used = f"used {count(variant.uses, 'time')}"
            yield f"image {variant.number}: {stored}, {used}{outdated}"
        else:
            yield f"no image: {variant.reason}"
    if reason := contents.of_pace(program):
        yield reason
