"""`python -m cds clear`: remove the files in the cache."""

import contextlib
import os
import sys
from collections.abc import Sequence

from cds.cache import limits, place
from cds.cli import command_parser
from cds.text.terminal import count, size

_DESCRIPTION = """\
Remove all archives and startup images from the cache, and the list of the programs that
were started. Processes that use these files go on. If the cache is on, programs fill it
again; `python -m cds disable` turns it off.
"""

_EPILOG = """\
exit status:
  0  the cache is empty
  1  something could not be removed
  2  wrong usage
"""


def run(arguments: Sequence[str]) -> int:
    """Run the command and return its exit status."""
    command_parser("clear", _DESCRIPTION, _EPILOG).parse_args(arguments)
    directory = place.own_cache()
    found = limits.usage(directory) if directory is not None else []
    if directory is not None and os.path.lexists(directory):
        try:
            os.listdir(directory)
        except OSError as error:
            print(f"cds clear: error: {directory}: {error.strerror}", file=sys.stderr)
            return 1
    removed = [usage for usage in found if limits.remove(usage.entry)]
    if directory is not None:
        for build in place.builds(directory):
            with contextlib.suppress(OSError):
                os.unlink(os.path.join(build, "seen"))
            with contextlib.suppress(OSError):
                os.rmdir(build)
    total = size(sum(usage.bytes for usage in removed))
    print(f"{count(len(removed), 'program')} removed, {total}")
    if len(removed) < len(found):
        left = count(len(found) - len(removed), "program")
        print(f"cds clear: error: {left} in {directory} could not be removed", file=sys.stderr)
        return 1
    return 0
