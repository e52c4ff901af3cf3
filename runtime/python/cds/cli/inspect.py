"""`python -m cds inspect`: the command line of cds.inspection, and its reports."""

import argparse
import json
import sys
from collections.abc import Iterator, Sequence

from cds.cli import command_parser
from cds.image.imaging import image_path
from cds.inspection.archive import (
    WRITTEN,
    DamagedError,
    Inspection,
    InspectionError,
    inspect,
    own_bytes,
    packages,
)
from cds.inspection.image import brief, brief_screen, inspect_image, is_image, note, screen
from cds.inspection.objecttree import NoSuchObject, tree
from cds.inspection.staleness import stale_modules
from cds.text.terminal import Style, count, shortened, size, table

EXIT_SHOWN = 0
EXIT_DAMAGED = 1
EXIT_TROUBLE = 2

_DESCRIPTION = """\
Show what is in an archive: the interpreter that it was made for, its sections and what
writes to them, packages and modules by size, types of objects, constants that modules
share, modules whose source has changed, and the startup image beside the archive.

For a startup image (ARCHIVE.image), show its memory, the files that it maps, and what has
changed since it was taken. If no image could be taken, show the reason.

The file is only read: no code in it runs.
"""

_EPILOG = """\
The size of a module counts its code, and the constants and names that no other module
uses.

examples:
  The contents of an archive:
    python -m cds inspect app.cds
  The code of a module, with everything that it refers to:
    python -m cds inspect --object json.decoder app.cds
  The largest ten modules, as JSON:
    python -m cds inspect --json app.cds | jq '.modules | sort_by(-.own_bytes)[:10]'
  A map of the file as a picture:
    python -m cds inspect --svg app.svg app.cds

exit status:
  0  shown
  1  ARCHIVE is damaged, or has no such object
  2  wrong usage, or ARCHIVE or FILE cannot be read or written
"""


def run(arguments: Sequence[str]) -> int:
    """Run the command and return its exit status."""
    parser = _parser()
    options = parser.parse_args(arguments)
    try:
        if (reason := note(options.archive)) is not None:
            return _show_note(options, reason)
        if is_image(options.archive):
            if options.object or options.svg:
                parser.error(
                    "--object and --svg need an archive, and this is a startup image; "
                    "name the archive"
                )
            return _show_image(options)
        archive = inspect(options.archive)
        if options.object is not None:
            lines = tree(archive, options.object, options.depth)
        elif options.json:
            lines = iter([json.dumps(_as_json(archive), indent=2)])
        else:
            lines = _screen(archive, options.top)
        if options.svg is not None:
            lines = _draw(archive, options.svg)
        for line in lines:
            print(line)
    except (DamagedError, NoSuchObject) as error:
        print(f"cds inspect: error: {error}", file=sys.stderr)
        return EXIT_DAMAGED
    except InspectionError as error:
        print(f"cds inspect: error: {error}", file=sys.stderr)
        return EXIT_TROUBLE
    return EXIT_SHOWN


def _show_image(options: argparse.Namespace) -> int:
    found = inspect_image(options.archive)
    if options.json:
        print(json.dumps(found, indent=2))
    else:
        for line in screen(options.archive, found, options.top):
            print(line)
    return EXIT_SHOWN


def _show_note(options: argparse.Namespace, reason: str) -> int:
    if options.json:
        print(json.dumps({"note": reason}, indent=2))
    else:
        print(f"{options.archive}: {reason}")
        print("To try again, remove this file.")
    return EXIT_SHOWN


def _draw(archive: Inspection, path: str) -> Iterator[str]:
    from cds.inspection.picture import draw

    try:
        with open(path, "w", encoding="utf-8") as file:
            file.write(draw(archive))
    except OSError as error:
        raise InspectionError(
            f"cannot write {path}: {error.strerror}; give another FILE to --svg"
        ) from error
    yield f"{path}: drawn"


def _parser() -> argparse.ArgumentParser:
    parser = command_parser("inspect", _DESCRIPTION, _EPILOG)
    parser.add_argument("archive", metavar="ARCHIVE")
    what = parser.add_mutually_exclusive_group()
    what.add_argument(
        "--object",
        metavar="NAME",
        help="show the code of a module, or the object at an address (0x…), and what it refers to",
    )
    what.add_argument("--json", action="store_true", help="print everything as JSON")
    what.add_argument("--svg", metavar="FILE", help="draw a map of the archive into FILE")
    parser.add_argument(
        "--top",
        metavar="N",
        type=int,
        default=10,
        help="how many packages, modules and constants to show (default: 10)",
    )
    parser.add_argument(
        "--depth",
        metavar="N",
        type=int,
        default=2,
        help="how many levels --object shows (default: 2)",
    )
    return parser


def _screen(archive: Inspection, top: int) -> Iterator[str]:
    style = Style(sys.stdout)
    modules = count(len(archive.archived), "module")
    yield style("bold", f"{archive.path}: {modules}, {size(archive.bytes)}")
    yield from table(_header(archive), "<<")
    for key, theirs, ours in archive.mismatches:
        yield style("red", f"  not for this interpreter: {key} {theirs!r}, here {ours!r}")

    yield ""
    yield style("bold", "Sections")
    rows: list[tuple[object, ...]] = [("", "size", "hot part", "written to")]
    for section in archive.sections:
        written = WRITTEN.get(section.name, "")
        rows.append((f"  {section.name}", size(section.bytes), size(section.hot_bytes), written))
    yield from table(rows, "<>><")

    if not archive.is_decoded:
        yield ""
        yield (
            "Its objects cannot be read: another build of the interpreter has written them. "
            "Inspect it with that build."
        )
    else:
        yield from _objects(archive, top, style)
    yield from _stale(archive, top, style)
    yield ""
    yield from brief_screen(image_path(archive.path), top)


def _header(archive: Inspection) -> Iterator[tuple[str, str]]:
    facts = archive.facts
    version = facts.get("python version", "?")
    level = facts.get("optimization level", "0")
    options = f" -{'O' * int(level)}" if level in ("1", "2") else ""
    if facts.get("column numbers in code") == "no":
        options += " -X no_debug_ranges"
    if facts.get("pycache prefix"):
        options += f" -X pycache_prefix={facts['pycache prefix']}"
    build = facts.get("interpreter build", "?")[:12]
    yield "  made for", f"Python {version}{options}, build {build}"
    lower = facts.get("standard library archive", "none")
    yield (
        "  lower layer",
        f"the standard library's archive {lower[:12]}" if archive.is_layer else "none",
    )
    yield "  identity", f"{archive.identity[:12]}, format {archive.format}"
    yield "  address", f"{archive.address:#x}, {size(archive.mapped_bytes)}"
    yield "  sources are known by", archive.freshness
    without = len(archive.modules) - len(archive.archived)
    holds = [
        count(archive.code_objects, "code object"),
        count(archive.interned, "interned string"),
        count(archive.patterns, "compiled pattern"),
        count(len(archive.directories), "directory", "directories"),
    ]
    if without:
        holds.append(count(without, "file without code", "files without code"))
    yield "  holds", ", ".join(holds)
    if command := facts.get("command"):
        yield "  written by", command


def _objects(archive: Inspection, top: int, style: Style) -> Iterator[str]:
    yield ""
    yield style("bold", "Objects")
    rows: list[tuple[object, ...]] = [("", "section", "count", "size")]
    for section, kind, number, number_of_bytes in archive.objects:
        rows.append((f"  {kind}", section, f"{number:,}", size(number_of_bytes)))
    yield from table(rows, "<<>>")

    groups = list(packages(archive.archived))
    yield ""
    yield style("bold", _heading("Packages", len(groups), top))
    rows = [("", "modules", "size")]
    for name, modules in groups[:top]:
        rows.append((f"  {name}", len(modules), size(own_bytes(modules))))
    rows.append(("  (used by several modules)", "", size(archive.shared_bytes)))
    yield from table(rows, "<>>")

    modules = sorted(archive.archived, key=lambda module: -(module.own_bytes or 0))
    yield ""
    yield style("bold", _heading("Modules", len(modules), top))
    yield from table(
        ((f"  {module.name}", size(module.own_bytes or 0)) for module in modules[:top]), "<>"
    )

    if archive.shared:
        yield ""
        yield style("bold", "Constants that save most because they are stored once")
        rows = [("", "modules", "size", "")]
        for shared in archive.shared[:top]:
            value = "" if shared.value is None else shortened(repr(shared.value), 50)
            rows.append((f"  {shared.type}", shared.modules, size(shared.bytes), value))
        yield from table(rows, "<>><")


def _stale(archive: Inspection, top: int, style: Style) -> Iterator[str]:
    stale = stale_modules(archive)
    yield ""
    if not stale:
        yield style("bold", "Stale modules: ") + "none"
        return
    yield style("bold", _heading("Stale modules", len(stale), top))
    for name, reason, file in stale[:top]:
        yield style("yellow", f"  {name}: {reason}: {file}")


def _heading(what: str, number: int, top: int) -> str:
    return f"{what} (the first {top} of {number:,})" if number > top else f"{what} ({number:,})"


def _as_json(archive: Inspection) -> dict[str, object]:
    return {
        **archive._asdict(),
        "sections": [section._asdict() for section in archive.sections],
        "modules": [module._asdict() for module in archive.modules],
        "mismatches": [fact._asdict() for fact in archive.mismatches],
        "objects": [kind._asdict() for kind in archive.objects],
        "shared": [{**shared._asdict(), "value": _text(shared.value)} for shared in archive.shared],
        "directories": [
            {"path": path, "mtime_ns": mtime_ns, "listing": listing}
            for path, mtime_ns, listing in archive.directories
        ],
        "stale": [module._asdict() for module in stale_modules(archive)],
        "startup_image": brief(image_path(archive.path)),
    }


def _text(value: object) -> str | None:
    return None if value is None else value if isinstance(value, str) else repr(value)
