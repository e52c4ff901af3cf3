"""`python -m cds merge`: combine several trace lists into one."""

import argparse
import contextlib
import os
import sys
import tempfile
from collections.abc import Sequence

from cds.cli import command_parser
from cds.collect import tracelist

EXIT_MERGED = 0
EXIT_FAILED = 1

_DESCRIPTION = """\
Combine trace lists, for example of several workers, or of the tests of a project. Each
line appears once, in the order of the lists. `cds dump` puts modules into the archive in
this order, so name the list of the most frequent program first.

Comments are removed, except those that belong to an entry: the file of a module, the
mark `not imported`, and regular expressions.
"""

_EPILOG = """\
LIST `-` is standard input.

examples:
  python -m cds merge web.lst worker-*.lst -o all.lst
  cat traces/*.lst | python -m cds merge - -o all.lst

exit status:
  0  merged
  1  a LIST cannot be read or is not a trace list, or OUT cannot be written
  2  wrong usage
"""


def run(arguments: Sequence[str]) -> int:
    """Run the command and return its exit status."""
    options = _parser().parse_args(arguments)
    try:
        entries = dict.fromkeys(entry for path in options.lists for entry in tracelist.read(path))
        text = "".join(f"{tracelist.line(entry)}\n" for entry in entries)
        if options.output is None:
            sys.stdout.write(text)
        else:
            _replace(options.output, text)
    except OSError as error:
        print(
            f"cds merge: error: {error.filename}: {error.strerror}; "
            "check the path and its permissions",
            file=sys.stderr,
        )
        return EXIT_FAILED
    except tracelist.TraceListError as error:
        print(f"cds merge: error: {error}", file=sys.stderr)
        return EXIT_FAILED
    return EXIT_MERGED


def _parser() -> argparse.ArgumentParser:
    parser = command_parser("merge", _DESCRIPTION, _EPILOG)
    parser.add_argument("lists", nargs="+", metavar="LIST")
    parser.add_argument(
        "-o",
        "--output",
        metavar="OUT",
        help="write to OUT, which may be one of the LISTs, not to standard output",
    )
    return parser


def _replace(path: str, text: str) -> None:
    """Replace a file atomically: readers see the old contents or the new ones."""
    directory, name = os.path.split(os.path.abspath(path))
    handle, temporary = tempfile.mkstemp(prefix=f".{name}.", dir=directory)
    try:
        with open(handle, "w", encoding="utf-8") as file:
            # mkstemp() creates the file with mode 600; give it the mode of an ordinary new file.
            mask = os.umask(0)
            os.umask(mask)
            os.fchmod(file.fileno(), 0o666 & ~mask)
            file.write(text)
        os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        raise
