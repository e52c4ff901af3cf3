"""`python -m cds verify`: check that an archive is intact and up to date."""

import argparse
import contextlib
import json
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field

from cds.cli import command_parser
from cds.image.imaging import archive_path, image_path
from cds.inspection.archive import DamagedError, InspectionError, ask, inspect, verify
from cds.inspection.image import inspect_image, is_image, note
from cds.inspection.staleness import Stale, changed_directories, stale_modules
from cds.text.terminal import Style, count

EXIT_GOOD = 0
EXIT_BAD = 1
EXIT_TROUBLE = 2

_SHOWN = 20

_DESCRIPTION = """\
Check an archive completely: every checksum and every offset, that every reference leads
to an object of the right type, that you or root own the file, that this interpreter can
use it, and that no source file has changed since the dump.

A file is broken if its contents are damaged, or if this interpreter cannot use it. A file
is out of date if something that it was made from has changed. A start still takes the
modules that have not changed from the archive, but does not use the startup image. The
report ends with the command that writes the file again.

Changed directories are listed, too. The modules in them still come from the archive, but
a start searches these directories as it does without an archive.

A startup image (ARCHIVE.image) is checked with its archive, or alone if you name it
instead of ARCHIVE: its description, and whether anything that it depends on has changed.
"""

_EPILOG = """\
example:
  Write an archive again if it is broken or out of date:
    python -m cds verify -q app.cds || python -m cds dump app.lst app.cds

exit status:
  0  intact and up to date
  1  something is broken or out of date; or ARCHIVE is a note, because no startup image
     could be taken
  2  wrong usage, or ARCHIVE cannot be read
"""


@dataclass
class _Findings:
    """The results for one file."""

    path: str
    # What was checked, for the report on a good file.
    checked: str = ""
    broken: list[str] = field(default_factory=list)
    stale: list[Stale] = field(default_factory=list)
    changed_directories: list[str] = field(default_factory=list)
    # Changed files that a startup image depends on.
    changed: list[str] = field(default_factory=list)
    # Why there is no startup image.
    note: str | None = None
    # The command that writes the file again; empty if unknown.
    command: str = ""

    @property
    def is_good(self) -> bool:
        return not (self.broken or self.stale or self.changed)


def run(arguments: Sequence[str]) -> int:
    """Run the command and return its exit status."""
    options = _parser().parse_args(arguments)
    path = options.archive
    try:
        if is_image(path) or note(path) is not None:
            image, found = None, _image(path)
        else:
            found = _archive(path)
            beside = image_path(path)
            image = _image(beside) if os.path.lexists(beside) else None
    except InspectionError as error:
        print(f"cds verify: error: {error}", file=sys.stderr)
        return EXIT_TROUBLE
    if options.json:
        print(json.dumps(_as_json(found, image), indent=2))
    elif not options.quiet:
        _tell(found, options.verbose)
        if image is not None:
            _tell(image, options.verbose)
    is_good = found.is_good and found.note is None and (image is None or image.is_good)
    return EXIT_GOOD if is_good else EXIT_BAD


def _archive(path: str) -> _Findings:
    found = _Findings(path)
    try:
        found.broken = verify(path)
        archive = inspect(path)
    except DamagedError as error:
        found.broken = [_without_path(error, path)]
        return found
    found.command = archive.facts.get("command", "")
    found.stale = stale_modules(archive)
    found.changed_directories = changed_directories(archive)
    checked = [
        count(len(archive.sections), "section"),
        count(sum(kind.number for kind in archive.objects), "object"),
        count(len(archive.modules), "module"),
    ]
    found.checked = f" ({', '.join(checked)})"
    return found


def _image(path: str) -> _Findings:
    found = _Findings(path, ", and nothing that it depends on has changed", note=note(path))
    # The command that writes the archive also takes the image.
    with contextlib.suppress(InspectionError):
        archive = archive_path(path)
        if archive is not None:
            found.command = ask("command_of", archive)
    if found.note is None:
        try:
            found.changed = inspect_image(path)["changed"]
        except DamagedError as error:
            found.broken = [_without_path(error, path)]
    return found


def _without_path(error: DamagedError, path: str) -> str:
    return str(error).removeprefix(f"{path}: ")


def _as_json(found: _Findings, image: _Findings | None) -> dict[str, object]:
    def report(found: _Findings) -> dict[str, object]:
        return {
            "broken": found.broken,
            "stale": [module._asdict() for module in found.stale],
            "changed_directories": found.changed_directories,
            "changed": found.changed,
            "note": found.note,
            "command": found.command,
        }

    return {
        "archive": found.path,
        **report(found),
        "startup_image": image and {"path": image.path, **report(image)},
    }


def _parser() -> argparse.ArgumentParser:
    parser = command_parser("verify", _DESCRIPTION, _EPILOG)
    parser.add_argument("archive", metavar="ARCHIVE")
    parser.add_argument("--json", action="store_true", help="print the report as JSON")
    amount = parser.add_mutually_exclusive_group()
    amount.add_argument("-v", "--verbose", action="store_true", help="do not shorten the lists")
    amount.add_argument("-q", "--quiet", action="store_true", help="print nothing")
    return parser


def _tell(found: _Findings, verbose: bool) -> None:
    style = Style(sys.stdout)
    if found.note is not None:
        print(f"{found.path}: {found.note}")
        print(f"To try again, remove {found.path}.")
        return
    out_of_date = len(found.stale) or len(found.changed)
    amounts = [
        f"{len(found.broken)} broken" if found.broken else "",
        f"{out_of_date} out of date" if out_of_date else "",
    ]
    state = ", ".join(filter(None, amounts))
    look = "green" if found.is_good else "red" if found.broken else "yellow"
    print(f"{found.path}: {style(look, state or 'good')}{found.checked * found.is_good}")

    def show(title: str, items: list[str]) -> None:
        if items:
            print(f"{title}:")
            for item in items if verbose else items[:_SHOWN]:
                print(f"  {item}")
            if len(items) > _SHOWN and not verbose:
                print(f"  and {len(items) - _SHOWN:,} more (--verbose shows them)")

    show("Broken", found.broken)
    show("Out of date", [f"{name}: {reason}: {file}" for name, reason, file in found.stale])
    show("Changed since the image was taken", found.changed)
    show("Changed directories", found.changed_directories)
    if not found.is_good:
        print(f"Write it again: {found.command or 'python -m cds dump --help'}")
