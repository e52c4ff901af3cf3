"""`python -m cds verify`: is an archive whole, and are its sources what they were?"""

import argparse
import json
import sys
from collections.abc import Sequence

from cds.cli import command_parser
from cds.imagereport import inspect_image, is_image
from cds.inspection import DamagedError, Inspection, InspectionError, inspect, verify
from cds.staleness import Stale, changed_directories, stale_modules
from cds.terminal import Style, count

EXIT_GOOD = 0
EXIT_BAD = 1
EXIT_TROUBLE = 2

_SHOWN = 20

_DESCRIPTION = """\
Check all of an archive: every checksum and every bound, that every reference leads to an
object of the right type, that the file is yours or root's, that this interpreter would
take it, and that every module's source is still the one that was dumped.

Directories that have changed are told as well; modules in them come from the archive as
before, and are looked for in the ordinary way.

Of a startup image (ARCHIVE.startup): its description, and whether everything that it
depends on is as it was.
"""

_EPILOG = """\
example:
  Write an archive anew if there is something wrong with it:
    python -m cds verify -q app.img || python -m cds dump app.lst app.img

exit status:
  0  whole and up to date
  1  something is broken or stale; the list says what
  2  wrong usage, or ARCHIVE cannot be read
"""


def run(arguments: Sequence[str]) -> int:
    """Run the command and return its exit status."""
    options = _parser().parse_args(arguments)
    archive: Inspection | None = None
    stale: list[Stale] = []
    changed: list[str] = []
    try:
        if is_image(options.archive):
            broken = [f"{path} has changed" for path in inspect_image(options.archive)["changed"]]
        else:
            broken = verify(options.archive)
            archive = inspect(options.archive)
            stale, changed = stale_modules(archive), changed_directories(archive)
    except DamagedError as error:
        broken = [str(error).removeprefix(f"{options.archive}: ")]
    except InspectionError as error:
        print(f"cds verify: error: {error}", file=sys.stderr)
        return EXIT_TROUBLE
    if options.json:
        report = {
            "archive": options.archive,
            "broken": broken,
            "stale": [module._asdict() for module in stale],
            "changed_directories": changed,
        }
        print(json.dumps(report, indent=2))
    elif not options.quiet:
        _tell(options.archive, archive, broken, stale, changed, options.verbose)
    return EXIT_BAD if broken or stale else EXIT_GOOD


def _parser() -> argparse.ArgumentParser:
    parser = command_parser("verify", _DESCRIPTION, _EPILOG)
    parser.add_argument("archive", metavar="ARCHIVE")
    parser.add_argument("--json", action="store_true", help="print the lists as JSON")
    amount = parser.add_mutually_exclusive_group()
    amount.add_argument("-v", "--verbose", action="store_true", help="show all of the lists")
    amount.add_argument("-q", "--quiet", action="store_true", help="say nothing")
    return parser


def _tell(
    path: str,
    archive: Inspection | None,
    broken: list[str],
    stale: list[Stale],
    changed: list[str],
    verbose: bool,
) -> None:
    style = Style(sys.stdout)
    if broken or stale:
        found = [f"{len(broken)} broken" if broken else "", f"{len(stale)} stale" if stale else ""]
        print(f"{path}: {style('red', ', '.join(filter(None, found)))}")
    elif archive is not None:
        objects = sum(kind.number for kind in archive.objects)
        checked = [
            count(len(archive.sections), "section"),
            count(objects, "object"),
            count(len(archive.modules), "module"),
        ]
        print(f"{path}: {style('green', 'good')} ({', '.join(checked)})")
    else:
        print(f"{path}: {style('green', 'good')}, and all is as it was")

    def show(title: str, items: list[str]) -> None:
        if items:
            print(f"{title}:")
            for item in items if verbose else items[:_SHOWN]:
                print(f"  {item}")
            if len(items) > _SHOWN and not verbose:
                print(f"  and {len(items) - _SHOWN:,} more (--verbose shows them)")

    show("Broken", broken)
    show("Stale", [f"{name}: {reason}: {file}" for name, reason, file in stale])
    show("Directories that have changed", changed)
    if broken or stale:
        print("Write it anew: python -m cds dump --help")
